//! Answers go out together, when all requests that are there have been handled: a client that is woken by each of them
//! costs more than it takes to make them. Unless a component computes meanwhile: nobody waits for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// How long the others take at most where none of them computes: two ticks of the clock of the epochs.
const LONG: Duration = Duration::from_millis(20);
/// How long answers go out alone when it took longer.
const ALONE: Duration = Duration::from_millis(200);

/// The answers of one thread.
#[derive(Debug)]
pub(crate) struct Company {
    begin: Instant,
    /// Nanoseconds after `begin`.
    alone_until: AtomicU64,
}

impl Company {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            alone_until: AtomicU64::new(0),
        }
    }

    /// Waits until the others have had their turn, if that has not taken long lately.
    pub(crate) async fn wait(&self) {
        let before = self.begin.elapsed();
        if before < Duration::from_nanos(self.alone_until.load(Ordering::Relaxed)) {
            return;
        }
        // With an event loop that is never idle this is after some sixty turns.
        yield_now().await;
        let after = self.begin.elapsed();
        if after.saturating_sub(before) > LONG {
            let until = (after + ALONE).as_nanos();
            let until = u64::try_from(until).unwrap_or(u64::MAX);
            self.alone_until.store(until, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_one_that_computes() {
        let company = Company::new();
        company.wait().await;
        assert_eq!(company.alone_until.load(Ordering::Relaxed), 0);
        let computing = tokio::spawn(async {
            for _ in 0..10 {
                sleep(Duration::from_millis(5));
                // Back at once, as one that the clock has stopped.
                std::future::poll_fn(yield_once()).await;
            }
        });
        company.wait().await;
        assert_ne!(company.alone_until.load(Ordering::Relaxed), 0);
        let begin = Instant::now();
        company.wait().await;
        assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
        computing.await.unwrap();
    }

    fn yield_once() -> impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()> {
        let mut again = false;
        move |context| {
            if std::mem::replace(&mut again, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    }
}
