//! The cap on a guest's memory: greed becomes a refused `memory.grow`, which a guest can live with, and which can be
//! told afterwards, before it becomes the kernel's SIGKILL.
//!
//! Everything that an engine counts, counts together, that of all instances. The cap itself stands in the container's
//! notes, where the shim changes it together with the container's memory limit.

use std::fs::File;

use skiff_engine::notes;
use skiff_engine::options::MemoryCap;
use skiff_engine::order::Guest;

/// The memory of one guest.
#[derive(Debug)]
pub struct Cap {
    notes: &'static File,
    guest: String,
    how: Option<MemoryCap>,
    used: u64,
    refused: Option<Refused>,
}

/// The last growth that was refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    wanted: u64,
    cap: u64,
}

impl Cap {
    /// The cap of a guest whose container has these notes.
    pub fn new(guest: &Guest, notes: &'static File) -> Self {
        Self {
            notes,
            guest: guest.name.clone(),
            how: guest.options.memory_cap.clone(),
            used: 0,
            refused: None,
        }
    }

    /// Whether there is one: else nobody need ask.
    pub fn is_set(&self) -> bool {
        self.how.is_some()
    }

    /// Whether the guest may have `more` bytes. `is_declared`: they are the least that a module says it needs.
    pub fn grow(&mut self, more: u64, is_declared: bool) -> bool {
        let Some(how) = &self.how else {
            return true;
        };
        let wanted = self.used.saturating_add(more);
        if !(is_declared && how.admits_minimum)
            && let Some(cap) = notes::memory_cap(self.notes)
            && wanted > cap
        {
            self.refused = Some(Refused { wanted, cap });
            return false;
        }
        // Counted also if the kernel has no address space for it after all: the sum is never too small.
        self.used = wanted;
        true
    }

    /// What was refused, for a guest that ended badly afterwards.
    pub fn complaint(&self) -> Option<String> {
        let (Refused { wanted, cap }, how) = (self.refused?, self.how.as_ref()?);
        Some(format!(
            "skiff: {} asked for {} MiB of memory at a cap of {} MiB (handler option MemoryCap = \"{}\") and was refused; a higher memory limit of the container, or another MemoryCap, would let it have more",
            self.guest,
            wanted.div_ceil(1 << 20),
            cap >> 20,
            how.option,
        ))
    }
}

#[cfg(test)]
mod tests {
    use skiff_engine::options::GuestOptions;
    use skiff_engine::order::CodeKind;
    use skiff_sandbox::plan::Slot;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn cap(mib: u64, admits_minimum: bool) -> Cap {
        let notes: &'static File = Box::leak(Box::new(tempfile::tempfile().unwrap()));
        notes::set_memory_cap(notes, Some(mib << 20)).unwrap();
        let guest = Guest {
            kind: CodeKind::Module,
            code: Slot(0),
            name: "/a.wasm".to_owned(),
            function: None,
            args: Vec::new(),
            env: Vec::new(),
            working_directory: "/".to_owned(),
            exit_record: Slot(0),
            options: GuestOptions {
                memory_cap: Some(MemoryCap {
                    option: "default".to_owned(),
                    admits_minimum,
                }),
                ..GuestOptions::default()
            },
        };
        Cap::new(&guest, notes)
    }

    #[test]
    fn growth_is_counted_and_follows_the_notes() {
        let mut cap = cap(10, true);
        assert!(cap.grow(6 * MIB, true));
        assert!(cap.grow(4 * MIB, false));
        assert!(cap.complaint().is_none());
        assert!(!cap.grow(MIB, false));
        let complaint = cap.complaint().unwrap();
        assert!(
            complaint.contains("asked for 11 MiB of memory at a cap of 10 MiB (handler option MemoryCap = \"default\")"),
            "{complaint}"
        );
        notes::set_memory_cap(cap.notes, Some(11 * MIB)).unwrap();
        assert!(cap.grow(MIB, false));
        notes::set_memory_cap(cap.notes, None).unwrap();
        assert!(cap.grow(3000 * MIB, false));
    }

    #[test]
    fn what_is_declared_is_admitted_by_the_default_only() {
        assert!(cap(1, true).grow(2 * MIB, true));
        assert!(!cap(1, true).grow(2 * MIB, false));
        assert!(!cap(1, false).grow(2 * MIB, true));
    }
}
