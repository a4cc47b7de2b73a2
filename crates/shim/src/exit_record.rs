//! How a task ended, kept in its bundle so that the answer outlives the shim.
//!
//! The shim renames the record into place before it sends the exit event; `delete` reads it after a
//! crash. There is no fsync: it must outlive the shim, not the machine, and `/run` is memory anyway.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use skiff_engine::exit::{EARLY_RECORD_BYTES, EarlyRecord};

/// File of the record in the bundle.
pub const FILE: &str = "exit.json";
/// File that the host writes its [`EarlyRecord`] to.
pub const EARLY_FILE: &str = "exit.early";

/// Exit code of what was killed with SIGKILL.
pub const KILLED: u8 = 137;

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The process, as the node numbers it; 0 when it is not known any more.
    pub pid: u32,
    /// Exit code.
    pub code: u8,
    /// Nanoseconds since the epoch.
    pub unix_nanos: u64,
}

impl Exit {
    /// An end at this moment.
    pub fn now(pid: u32, code: u8) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            pid,
            code,
            unix_nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The time, as protobuf has it.
    pub fn timestamp(&self) -> Timestamp {
        let mut timestamp = Timestamp::new();
        timestamp.seconds = i64::try_from(self.unix_nanos / 1_000_000_000).unwrap_or(i64::MAX);
        timestamp.nanos = i32::try_from(self.unix_nanos % 1_000_000_000).unwrap_or(0);
        timestamp
    }

    /// Puts the record into the bundle, whole or not at all.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        let temporary = bundle.join(".exit.json");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(&temporary, bundle.join(FILE))
    }

    /// What is known in the bundle of a task whose shim is gone: its record, else what the host itself
    /// wrote before it exited.
    pub fn read(bundle: &Path) -> Option<Self> {
        // Both files are small and ours; the limit is there because a bundle can be damaged.
        let read = |file: &str, limit: u64| {
            let mut bytes = Vec::new();
            File::open(bundle.join(file))
                .ok()?
                .take(limit)
                .read_to_end(&mut bytes)
                .ok()?;
            Some(bytes)
        };
        if let Some(exit) = read(FILE, 4096).and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Some(exit);
        }
        let early = EarlyRecord::decode(&read(EARLY_FILE, EARLY_RECORD_BYTES as u64)?)?;
        Some(Self {
            pid: 0,
            code: early.code,
            unix_nanos: early.unix_nanos,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shims_record_comes_before_the_hosts() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Exit::read(bundle.path()), None);
        std::fs::write(
            bundle.path().join(EARLY_FILE),
            EarlyRecord {
                code: 3,
                unix_nanos: 5,
            }
            .encode(),
        )
        .unwrap();
        assert_eq!(
            Exit::read(bundle.path()),
            Some(Exit {
                pid: 0,
                code: 3,
                unix_nanos: 5
            })
        );
        let exit = Exit {
            pid: 77,
            code: 42,
            unix_nanos: 1_700_000_000_000_000_001,
        };
        exit.write(bundle.path()).unwrap();
        assert_eq!(Exit::read(bundle.path()), Some(exit));
    }

    #[test]
    fn damaged_records_are_none() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(
            bundle.path().join(FILE),
            b"{\"pid\":1,\"code\":999,\"unix_nanos\":1}",
        )
        .unwrap();
        std::fs::write(bundle.path().join(EARLY_FILE), [0; 16]).unwrap();
        assert_eq!(Exit::read(bundle.path()), None);
    }

    #[test]
    fn time_as_protobuf() {
        let timestamp = Exit {
            pid: 1,
            code: 0,
            unix_nanos: 1_700_000_000_000_000_001,
        }
        .timestamp();
        assert_eq!((timestamp.seconds, timestamp.nanos), (1_700_000_000, 1));
        let now = Exit::now(1, 0).timestamp().seconds;
        assert!(now > 1_700_000_000);
    }
}
