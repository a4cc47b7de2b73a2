//! The memory of instances: each has a limit of its own, all together have the container's.
//!
//! Memories, tables and heaps of garbage collected objects count, as they are declared and grown: what of them is
//! really used, only the kernel knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// What an element of a table takes.
const ELEMENT: usize = size_of::<usize>();

/// The memory of all instances.
#[derive(Debug)]
pub(crate) struct Total {
    used: AtomicU64,
    /// `u64::MAX` if there is none.
    cap: AtomicU64,
}

impl Total {
    pub(crate) fn new(cap: Option<u64>) -> Self {
        Self {
            used: AtomicU64::new(0),
            cap: AtomicU64::new(cap.unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn set_cap(&self, cap: Option<u64>) {
        self.cap.store(cap.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts `more`, if there is room for it or nobody asks for room.
    fn take(&self, more: u64, always: bool) -> Result<(), u64> {
        let before = self.used.fetch_add(more, Ordering::Relaxed);
        let cap = self.cap.load(Ordering::Relaxed);
        if always || before.saturating_add(more) <= cap {
            return Ok(());
        }
        self.give_back(more);
        Err(cap)
    }

    fn give_back(&self, less: u64) {
        self.used.fetch_sub(less, Ordering::Relaxed);
    }
}

/// The memory of one instance.
#[derive(Debug)]
pub(crate) struct Memory {
    total: Arc<Total>,
    limit: Option<u64>,
    used: u64,
    running: bool,
    refused: Option<Refused>,
}

/// A growth that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    wanted: u64,
    limit: u64,
    own: bool,
}

impl Memory {
    pub(crate) fn new(total: Arc<Total>, limit: Option<u64>) -> Self {
        Self {
            total,
            limit,
            used: 0,
            running: false,
            refused: None,
        }
    }

    /// What modules declare is there; what comes now is growth.
    pub(crate) fn instantiated(&mut self) {
        self.running = true;
    }

    /// The last growth that was refused since this was asked.
    pub(crate) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    fn grow(&mut self, current: usize, desired: usize, bytes_each: usize) -> bool {
        let more = desired.saturating_sub(current).saturating_mul(bytes_each);
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let wanted = self.used.saturating_add(more);
        if let Some(limit) = self.limit.filter(|limit| wanted > *limit) {
            let own = true;
            self.refused = Some(Refused { wanted, limit, own });
            return false;
        }
        // How many instances there may be is reckoned from what they declare: that is never refused.
        if let Err(limit) = self.total.take(more, !self.running) {
            let (wanted, own) = (self.total.used().saturating_add(more), false);
            self.refused = Some(Refused { wanted, limit, own });
            return false;
        }
        self.used = wanted;
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.total.give_back(self.used);
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (wanted, limit) = (self.wanted.div_ceil(1 << 20), self.limit >> 20);
        if self.own {
            write!(
                f,
                "it asked for {wanted} MiB of memory, and an instance may have {limit} MiB (handler option Http.InstanceMemory)"
            )
        } else {
            write!(
                f,
                "all instances together asked for {wanted} MiB of memory at a cap of {limit} MiB; a higher memory limit of the container, or a smaller Http.Concurrency of the handler, would let them have it"
            )
        }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(current, desired, 1))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(current, desired, ELEMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn grows(memory: &mut Memory, from: usize, to: usize) -> bool {
        memory.memory_growing(from * MIB, to * MIB, None).unwrap()
    }

    #[test]
    fn instances_share_the_containers() {
        let total = Arc::new(Total::new(Some(10 << 20)));
        let mut one = Memory::new(Arc::clone(&total), None);
        let mut other = Memory::new(Arc::clone(&total), None);
        assert!(grows(&mut one, 0, 4) && grows(&mut other, 0, 4));
        one.instantiated();
        assert!(grows(&mut one, 4, 6));
        assert!(!grows(&mut one, 6, 7));
        let told = one.take_refused().unwrap().to_string();
        assert!(
            told.contains("asked for 11 MiB") && told.contains("cap of 10 MiB"),
            "{told}"
        );
        assert_eq!(one.take_refused(), None);
        // What is declared is admitted.
        assert!(grows(&mut other, 4, 20));
        drop(other);
        assert!(grows(&mut one, 6, 10));
        assert_eq!(total.used(), 10 << 20);
        drop(one);
        assert_eq!(total.used(), 0);
    }

    #[test]
    fn one_instance_has_a_limit() {
        let mut memory = Memory::new(Arc::new(Total::new(None)), Some(2 << 20));
        assert!(grows(&mut memory, 0, 2));
        assert!(!grows(&mut memory, 2, 3));
        let told = memory.take_refused().unwrap().to_string();
        assert!(
            told.contains("3 MiB") && told.contains("InstanceMemory"),
            "{told}"
        );
    }
}
