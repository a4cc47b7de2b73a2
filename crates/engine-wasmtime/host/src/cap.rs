//! The cap on a guest's memory: greed becomes a refused `memory.grow`, which a guest can live with, and which can be
//! told afterwards, before it becomes the kernel's SIGKILL.
//!
//! Memories, tables and the heap of garbage collected objects count together, those of all instances. The cap itself stands in the container's
//! notes, where the shim changes it together with the container's memory limit.

use skiff_engine::notes;
use skiff_engine::options::MemoryCap;
use skiff_engine::order::Guest;
use wasmtime::ResourceLimiter;

use crate::run::Log;

/// What an element of a table takes.
const ELEMENT: usize = size_of::<usize>();

/// The memory of one guest.
pub(crate) struct Cap {
    log: &'static Log,
    guest: String,
    how: Option<MemoryCap>,
    used: u64,
    running: bool,
    refused: Option<Refused>,
}

/// The last growth that was refused.
#[derive(Clone, Copy)]
struct Refused {
    wanted: u64,
    cap: u64,
}

impl Cap {
    pub(crate) fn new(guest: &Guest, log: &'static Log) -> Self {
        Self {
            log,
            guest: guest.name.clone(),
            how: guest.options.memory_cap.clone(),
            used: 0,
            running: false,
            refused: None,
        }
    }

    /// Whether there is one: else nobody need ask.
    pub(crate) fn is_set(&self) -> bool {
        self.how.is_some()
    }

    /// What modules declare is there; what comes now is growth.
    pub(crate) fn instantiated(&mut self) {
        self.running = true;
    }

    /// What was refused, for a guest that ended badly afterwards.
    pub(crate) fn complaint(&self) -> Option<String> {
        let (Refused { wanted, cap }, how) = (self.refused?, self.how.as_ref()?);
        Some(format!(
            "skiff: {} asked for {} MiB of memory at a cap of {} MiB (handler option MemoryCap = \"{}\") and was refused; a higher memory limit of the container, or another MemoryCap, would let it have more",
            self.guest,
            wanted.div_ceil(1 << 20),
            cap >> 20,
            how.option,
        ))
    }

    /// Tells what was refused, if anything was.
    pub(crate) fn tell(&self) {
        if let Some(complaint) = self.complaint() {
            self.log.last_words(&complaint);
        }
    }

    fn grow(&mut self, current: usize, desired: usize, bytes_each: usize) -> bool {
        let Some(how) = &self.how else {
            return true;
        };
        let more = desired.saturating_sub(current).saturating_mul(bytes_each);
        let wanted = self
            .used
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        let is_minimum = current == 0 && !self.running;
        if !(is_minimum && how.admits_minimum)
            && let Some(cap) = notes::memory_cap(self.log.notes)
            && wanted > cap
        {
            self.refused = Some(Refused { wanted, cap });
            return false;
        }
        // Counted also if the kernel has no address space for it after all: the sum is never too small.
        self.used = wanted;
        true
    }
}

impl ResourceLimiter for Cap {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum it fails in any case, and is nobody's greed.
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
    use std::fs::File;

    use super::*;

    const MIB: usize = 1 << 20;

    fn cap(mib: u64, admits_minimum: bool) -> Cap {
        let file: &'static File = Box::leak(Box::new(tempfile::tempfile().unwrap()));
        notes::set_memory_cap(file, Some(mib << 20)).unwrap();
        let how = MemoryCap {
            option: "default".to_owned(),
            admits_minimum,
        };
        Cap {
            log: Box::leak(Box::new(Log {
                stdio: crate::run::Stdio::inherited(),
                notes: file,
            })),
            guest: "/a.wasm".to_owned(),
            how: Some(how),
            used: 0,
            running: false,
            refused: None,
        }
    }

    fn grows(cap: &mut Cap, from: usize, to: usize) -> bool {
        cap.memory_growing(from * MIB, to * MIB, None).unwrap()
    }

    #[test]
    fn memories_and_tables_count_together() {
        let mut cap = cap(10, true);
        assert!(grows(&mut cap, 0, 4));
        assert!(grows(&mut cap, 0, 2));
        cap.instantiated();
        assert!(grows(&mut cap, 4, 7));
        assert!(cap.table_growing(0, MIB / 8, None).unwrap());
        assert!(cap.complaint().is_none());
        assert!(!grows(&mut cap, 2, 3));
        let complaint = cap.complaint().unwrap();
        assert!(
            complaint.contains("asked for 11 MiB of memory at a cap of 10 MiB (handler option MemoryCap = \"default\")"),
            "{complaint}"
        );
        notes::set_memory_cap(cap.log.notes, Some(11 << 20)).unwrap();
        assert!(grows(&mut cap, 2, 3));
        notes::set_memory_cap(cap.log.notes, None).unwrap();
        assert!(grows(&mut cap, 3, 3000));
    }

    #[test]
    fn what_is_declared_is_admitted_by_the_default_only() {
        assert!(grows(&mut cap(1, true), 0, 2));
        assert!(!grows(&mut cap(1, false), 0, 2));
        let mut running = cap(1, true);
        running.instantiated();
        assert!(!grows(&mut running, 0, 2));
    }

    #[test]
    fn a_memorys_own_maximum_is_no_greed() {
        let mut cap = cap(10, true);
        assert!(!cap.memory_growing(MIB, 9 * MIB, Some(2 * MIB)).unwrap());
        assert!(cap.complaint().is_none());
        assert!(grows(&mut cap, 1, 10));
    }
}
