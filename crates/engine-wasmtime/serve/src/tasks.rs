//! Counting of what is still going on: connections, and work that components do after their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A counter that can be waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    none: Notify,
}

/// One of them; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(Arc<Shared>);

impl Tasks {
    /// One more.
    pub(crate) fn begin(&self) -> Task {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Task(Arc::clone(&self.0))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Waits until there is none.
    pub(crate) async fn none(&self) {
        loop {
            let none = self.0.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_one_ends_the_waiting() {
        let tasks = Tasks::default();
        tasks.none().await;
        let (one, other) = (tasks.begin(), tasks.begin());
        let waiting = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.none().await }
        });
        tokio::task::yield_now().await;
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(other);
        waiting.await.unwrap();
    }
}
