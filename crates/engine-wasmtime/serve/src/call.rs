//! A call of a component, driven by whoever waits for its answer: the connection's own task.
//!
//! A task of its own would have its turn when all connections have had theirs, and as many instances would be alive at a
//! time as there are connections with a request. So most calls are over before the next connection is looked at, and
//! its instance finds the last one's memory in the processor's caches.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::answer::Refusal;
use crate::workers::Worker;

type Ending = Result<(), Refusal>;
type Calling = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// A call that goes on. Dropped, it goes on by itself, on the same thread.
pub(crate) struct Call {
    worker: &'static Worker,
    calling: Option<Calling>,
}

impl Call {
    pub(crate) fn new(
        worker: &'static Worker,
        calling: impl Future<Output = Ending> + Send + 'static,
    ) -> Self {
        Self {
            worker,
            calling: Some(Box::pin(calling)),
        }
    }

    /// Goes on until it has to wait. Its end is told once; after that it is as if it waited for ever.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        let Some(calling) = &mut self.calling else {
            return Poll::Pending;
        };
        let ending = calling.as_mut().poll(context);
        if ending.is_ready() {
            self.calling = None;
        }
        ending
    }

    /// Ends it, wherever it is.
    pub(crate) fn abort(mut self) {
        self.calling = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Without an event loop the process is about to end.
        if let (Some(calling), Ok(event_loop)) = (self.calling.take(), Handle::try_current()) {
            let worker = self.worker;
            // A thread that is one too many stays until it is over.
            worker.busy.fetch_add(1, Ordering::Relaxed);
            event_loop.spawn(async move {
                // Its client has gone, or has had its answer.
                let _gone: Ending = calling.await;
                worker.busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}
