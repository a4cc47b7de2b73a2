//! How many requests are handled at a time, and how many wait for their turn.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The gate that each request passes.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    /// How many there are altogether.
    size: AtomicUsize,
    queue: u64,
    waiting: AtomicU64,
}

impl Gate {
    pub(crate) fn new(size: usize, queue: u32) -> Self {
        Self {
            places: Semaphore::new(size),
            size: AtomicUsize::new(size),
            queue: u64::from(queue),
            waiting: AtomicU64::new(0),
        }
    }

    /// Waits for a place. `None` when too many wait already.
    pub(crate) async fn enter(&'static self) -> Option<SemaphorePermit<'static>> {
        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.queue {
            return None;
        }
        self.places.acquire().await.ok()
    }

    /// From now on there are so many places; those that are taken stay so until they are left.
    pub(crate) fn resize(&self, size: usize) {
        let before = self.size.swap(size, Ordering::Relaxed);
        if size > before {
            self.places.add_permits(size - before);
        } else {
            let gone = self.places.forget_permits(before - size);
            // What could not be taken away now is missing later: counted as if it were there.
            self.size.fetch_add(before - size - gone, Ordering::Relaxed);
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        let free = self.places.available_permits();
        let taken = self.size.load(Ordering::Relaxed).saturating_sub(free);
        u64::try_from(taken).unwrap_or(u64::MAX)
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One that waits, also if its client goes away meanwhile.
struct Waiting<'a> {
    count: &'a AtomicU64,
    before: u64,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        let before = count.fetch_add(1, Ordering::Relaxed);
        Self { count, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_told_at_once() {
        let gate: &'static Gate = Box::leak(Box::new(Gate::new(1, 1)));
        let first = gate.enter().await.unwrap();
        let second = tokio::spawn(gate.enter());
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter().await.is_none());
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 1));
        drop(first);
        assert!(second.await.unwrap().is_some());
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn it_grows_and_shrinks() {
        let gate: &'static Gate = Box::leak(Box::new(Gate::new(2, 0)));
        let first = gate.enter().await.unwrap();
        gate.resize(1);
        assert!(gate.enter().await.is_none());
        drop(first);
        let first = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_none());
        gate.resize(3);
        let more = [gate.enter().await.unwrap(), gate.enter().await.unwrap()];
        assert_eq!(gate.in_flight(), 3);
        assert!(gate.enter().await.is_none());
        drop((first, more));
    }
}
