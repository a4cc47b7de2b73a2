//! A call of a component, driven by whoever waits for its answer: the connection's own task. What is left of it when the
//! answer has begun has a task of its own.
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
pub(crate) struct Call(Option<Calling>);

impl Call {
    pub(crate) fn new(
        worker: &'static Worker,
        calling: impl Future<Output = Ending> + Send + 'static,
    ) -> Self {
        let busy = Busy::new(worker);
        Self(Some(Box::pin(async move {
            let _busy = busy;
            calling.await
        })))
    }

    /// Goes on until it has to wait. Its end is told once; after that it is as if it waited for ever.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        let Some(calling) = &mut self.0 else {
            return Poll::Pending;
        };
        let ending = calling.as_mut().poll(context);
        if ending.is_ready() {
            self.0 = None;
        }
        ending
    }

    /// Ends it, wherever it is.
    pub(crate) fn abort(mut self) {
        self.0 = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Without an event loop the process is about to end.
        if let (Some(calling), Ok(event_loop)) = (self.0.take(), Handle::try_current()) {
            event_loop.spawn(calling);
        }
    }
}

/// A call of this thread is not over: one that is one too many stays until then.
struct Busy(&'static Worker);

impl Busy {
    fn new(worker: &'static Worker) -> Self {
        worker.busy.fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
