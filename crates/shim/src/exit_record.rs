//! How a task ended, kept in its bundle so that the answer outlives the shim.
//!
//! The shim renames the record into place before it sends the exit event; `delete` reads it after a
//! crash. There is no fsync: it must outlive the shim, not the machine, and `/run` is memory anyway.
//! A disk that has become full in the meantime takes no new file: the host's record has had its space since the
//! container was created, and takes the end then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use skiff_engine::exit::{EARLY_RECORD_BYTES, EarlyRecord};
use skiff_engine::notes;

/// File of the record in the bundle.
pub const FILE: &str = "exit.json";
/// File that the host writes its [`EarlyRecord`] to.
pub const EARLY_FILE: &str = "exit.early";

/// The record while it is written.
const TEMPORARY: &str = ".exit.json";

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

    /// Puts the record into the bundle, whole or not at all; into the host's where there is no room for it.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        let temporary = bundle.join(TEMPORARY);
        let written = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .and_then(|record| fs::write(&temporary, record))
            .and_then(|()| fs::rename(&temporary, bundle.join(FILE)));
        written.or_else(|error| {
            drop(fs::remove_file(&temporary));
            // The process has ended: nobody else writes to it.
            let early = EarlyRecord {
                code: self.code,
                unix_nanos: self.unix_nanos,
            };
            OpenOptions::new()
                .write(true)
                .open(bundle.join(EARLY_FILE))
                .and_then(|file| file.write_all_at(&early.encode(), 0))
                .map_err(|_| error)
        })
    }

    /// Takes away what an earlier life of the container has left in the bundle, which is not its end, and makes
    /// the file that the host writes its [`EarlyRecord`] to.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn prepare(bundle: &Path) -> io::Result<File> {
        if let Err(error) = fs::remove_file(bundle.join(FILE))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(bundle.join(EARLY_FILE))?;
        // Zeros are no record and no notes, but they take the space of them: overwriting them needs no more.
        file.write_all(&[0; notes::RESERVED])?;
        Ok(file)
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
