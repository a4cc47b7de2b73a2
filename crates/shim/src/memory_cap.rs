//! The cap on a guest's memory, which its host enforces: from the handler's option and the container's limit.
//!
//! A guest that asks for more than there is gets a refused `memory.grow` at the cap, and can tell its user; at the
//! container's limit it would be killed by the kernel. The value stands in the container's notes
//! ([`skiff_engine::notes`]), where it follows the limit when that is changed.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxCpu, Spec};
use skiff_engine::notes;

use crate::options::values::MemoryCap;

/// What an engine host needs besides its guest's memory: 2 MiB at most of its own, and as much again for what it keeps for its
/// guest in buffers, sockets and directories that are read.
const HOST: u64 = 4 << 20;
/// The kernel's tables for the guest's memory, and files that a guest writes to a tmpfs, take a part that grows with it.
const HOST_SHARE: u64 = 64;
/// Never more than that share of the limit is kept for the host: a limit that is too small for it is the kernel's to tell.
const MOST: u64 = 4;

/// A container's notes and the option for its cap.
#[derive(Debug)]
pub struct Keeper {
    option: MemoryCap,
    notes: File,
    /// The container's limit in bytes, 0 if there is none.
    limit: AtomicU64,
    /// Its limit of processor time, as far as it is known.
    processors: Mutex<Processors>,
}

/// Processor time: so many microseconds in each period.
#[derive(Clone, Copy, Debug)]
struct Processors {
    quota: i64,
    period: u64,
}

impl Processors {
    /// In thousandths of a processor.
    fn thousandths(self) -> Option<u32> {
        let quota = u64::try_from(self.quota).ok().filter(|quota| *quota > 0)?;
        let thousandths = quota.saturating_mul(1000).div_ceil(self.period.max(1));
        Some(u32::try_from(thousandths).unwrap_or(u32::MAX))
    }

    /// The same with what is said of it here.
    fn changed(self, cpu: Option<&LinuxCpu>) -> Self {
        let said = |period: &u64| *period > 0;
        Self {
            quota: cpu.and_then(LinuxCpu::quota).unwrap_or(self.quota),
            period: cpu
                .and_then(LinuxCpu::period)
                .filter(said)
                .unwrap_or(self.period),
        }
    }
}

impl Default for Processors {
    fn default() -> Self {
        Self {
            quota: -1,
            // The kernel's own.
            period: 100_000,
        }
    }
}

impl Keeper {
    /// Sets the cap for a container with this limit, which is not launched yet.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn new(notes: File, option: MemoryCap, limit: Option<i64>) -> io::Result<Self> {
        let limit = bytes(limit);
        notes::set_memory_cap(&notes, cap(option, limit))?;
        Ok(Self {
            option,
            notes,
            limit: AtomicU64::new(limit.unwrap_or(0)),
            processors: Mutex::default(),
        })
    }

    /// The container's limit of processor time is another now, if anything is said of it.
    pub fn processors_are(&self, cpu: Option<&LinuxCpu>) {
        let mut processors = self
            .processors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *processors = processors.changed(cpu);
        if let Err(error) = notes::set_processors(&self.notes, processors.thousandths()) {
            log::warn!("the number of a guest's processors stays what it was: {error}");
        }
    }

    /// The container's limit is another now.
    pub fn limit_is(&self, limit: i64) {
        let limit = bytes(Some(limit));
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
        let cap = cap(self.option, limit);
        // The space of the note is there since the container was created.
        if let Err(error) = notes::set_memory_cap(&self.notes, cap) {
            log::warn!("the cap on a guest's memory stays what it was: {error}");
        }
    }

    /// The container's limit.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// The notes.
    pub fn notes(&self) -> &File {
        &self.notes
    }
}

/// The limit of processor time of a spec.
pub fn processors_of(spec: &Spec) -> Option<&LinuxCpu> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    resources.cpu().as_ref()
}

/// The memory limit of a spec.
pub fn limit_of(spec: &Spec) -> Option<i64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    resources.memory().as_ref()?.limit()
}

/// The limit of a spec, in which a negative number means none.
fn bytes(limit: Option<i64>) -> Option<u64> {
    limit
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0)
}

/// The cap for a container's limit. Without a limit there is no share of it.
fn cap(option: MemoryCap, limit: Option<u64>) -> Option<u64> {
    match option {
        MemoryCap::Off => None,
        MemoryCap::Size(bytes) => Some(bytes),
        MemoryCap::Percent(percent) => Some(share(limit?, percent)),
        MemoryCap::Default => {
            let limit = limit?;
            Some(limit - (HOST + limit / HOST_SHARE).min(limit / MOST))
        }
    }
}

fn share(limit: u64, percent: u8) -> u64 {
    let share = u128::from(limit) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_default_leaves_room_for_the_host() {
        let cap = |limit: u64| cap(MemoryCap::Default, Some(limit)).unwrap();
        assert_eq!(cap(64 * MIB), 59 * MIB);
        assert_eq!(cap(1024 * MIB), 1004 * MIB);
        assert_eq!(cap(8 * MIB), 6 * MIB);
        assert_eq!(cap(1), 1);
        for limit in [1, MIB, 20 * MIB, 1 << 40, u64::MAX] {
            assert!(
                cap(limit) <= limit && cap(limit) >= limit / 4 * 3,
                "{limit}"
            );
        }
    }

    #[test]
    fn a_share_needs_a_limit_and_a_size_does_not() {
        assert_eq!(cap(MemoryCap::Default, None), None);
        assert_eq!(cap(MemoryCap::Percent(50), None), None);
        assert_eq!(
            cap(MemoryCap::Percent(50), Some(u64::MAX)),
            Some(u64::MAX / 2)
        );
        assert_eq!(cap(MemoryCap::Size(MIB), None), Some(MIB));
        assert_eq!(cap(MemoryCap::Size(MIB), Some(5)), Some(MIB));
        assert_eq!(cap(MemoryCap::Off, Some(5)), None);
        assert_eq!(bytes(Some(-1)), None);
    }

    #[test]
    fn processors_follow_quota_and_period() {
        let keeper = Keeper::new(tempfile::tempfile().unwrap(), MemoryCap::Off, None).unwrap();
        let told = |json: &str| {
            keeper.processors_are(serde_json::from_str(json).ok().as_ref());
            notes::processors(keeper.notes())
        };
        assert_eq!(told("{}"), None);
        assert_eq!(told(r#"{"quota": 50000}"#), Some(500));
        assert_eq!(told(r#"{"quota": 300000, "period": 200000}"#), Some(1500));
        assert_eq!(told(r#"{"shares": 2}"#), Some(1500));
        assert_eq!(told(r#"{"quota": 1}"#), Some(1));
        assert_eq!(told(r#"{"quota": -1}"#), None);
    }

    #[test]
    fn it_follows_the_limit() {
        let notes = tempfile::tempfile().unwrap();
        let keeper = Keeper::new(notes, MemoryCap::Percent(50), Some(200)).unwrap();
        assert_eq!(notes::memory_cap(keeper.notes()), Some(100));
        keeper.limit_is(600);
        assert_eq!(notes::memory_cap(keeper.notes()), Some(300));
        keeper.limit_is(-1);
        assert_eq!(notes::memory_cap(keeper.notes()), None);
    }
}
