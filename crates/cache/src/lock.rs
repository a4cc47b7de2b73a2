//! Who compiles what, and how many at once, on the whole node: locks on byte ranges of one empty file.
//!
//! They are open file description locks (`F_OFD_SETLK`, fcntl(2)): two tasks of one process exclude each
//! other as two processes do, and the kernel gives the lock back when the holder dies, however it dies.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::directory::Directory;
use crate::{Cache, CacheError, Key};

const NAME: &str = "locks";
/// Offset of the lock under which the cache itself is repaired and cleaned up.
const HOUSEKEEPING: i64 = 0;
/// Offset of the first compile slot.
const SLOTS: i64 = 1;
/// Offset above which the locks of keys lie. The slots, a `u16`, end far below.
const KEYS: i64 = 1 << 32;

/// The right to compile one key on this node; given back when dropped or when the process dies.
#[derive(Debug)]
pub struct KeyLock {
    _held: Held,
}

/// One of the node's compile slots; given back when dropped or when the process dies.
#[derive(Debug)]
pub struct SlotLock {
    number: u16,
    _held: Held,
}

impl SlotLock {
    /// Which slot, from 0. Nobody else on the node uses what is named after it while this lives.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// The open file whose description has the lock. `None` when the cache cannot be written: then nothing
/// can be published in it either, and there is nothing to agree on.
#[derive(Debug)]
pub(crate) struct Held {
    _file: Option<OwnedFd>,
}

/// The locks file. Each lock opens it anew: the lock belongs to the open file description.
#[derive(Debug)]
pub(crate) struct Locks {
    directory: OwnedFd,
    path: PathBuf,
}

impl Locks {
    pub(crate) fn new(directory: &Directory) -> Result<Self, CacheError> {
        let path = directory.path_of(NAME);
        let fd = directory
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| CacheError::new("open", &path, error))?;
        Ok(Self {
            directory: fd,
            path,
        })
    }

    /// Waits for the housekeeping lock. Its holders do short work only.
    pub(crate) fn housekeeping(&self) -> Result<Held, CacheError> {
        let range = byte(HOUSEKEEPING);
        let Some(file) = self.file()? else {
            return Ok(Held { _file: None });
        };
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&range)) {
                Ok(_) => return Ok(Held { _file: Some(file) }),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(CacheError::new("lock", &self.path, error)),
            }
        }
    }

    /// The housekeeping lock, if nobody has it.
    pub(crate) fn try_housekeeping(&self) -> Result<Option<Held>, CacheError> {
        self.attempt(HOUSEKEEPING)
    }

    fn attempt(&self, offset: i64) -> Result<Option<Held>, CacheError> {
        let Some(file) = self.file()? else {
            return Ok(Some(Held { _file: None }));
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte(offset))) {
            Ok(_) => Ok(Some(Held { _file: Some(file) })),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
            Err(error) => Err(CacheError::new("lock", &self.path, error)),
        }
    }

    fn file(&self) -> Result<Option<OwnedFd>, CacheError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, NAME, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::ROFS) => Ok(None),
            Err(error) => Err(CacheError::new("open", &self.path, error)),
        }
    }
}

/// One byte, for writing.
fn byte(offset: i64) -> libc::flock {
    range(libc::F_WRLCK, offset, 1)
}

/// The argument of a lock call; a `length` of 0 means to the end of the file.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are 0, 1 and 2; the C structure has a short for them"
)]
pub(crate) fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// Where a key's lock lies. Keys that share a place only wait for each other.
fn offset_of(key: &Key) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.0[..8]);
    // 62 bits: with KEYS added it is still a valid file offset.
    KEYS + i64::try_from(u64::from_le_bytes(bytes) >> 2).unwrap_or(0)
}

impl Cache {
    /// Takes the right to compile `key`, or answers `None` at once when another has it (also another task
    /// of this process). Try again after a while, and look up first.
    ///
    /// # Errors
    /// When the locks file cannot be opened, as on a disk without a free inode at the first use.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>, CacheError> {
        Ok(self
            .locks()
            .attempt(offset_of(key))?
            .map(|held| KeyLock { _held: held }))
    }

    /// Takes any free one of `count` compile slots, or answers `None` at once.
    ///
    /// # Errors
    /// As [`Cache::try_lock`].
    pub fn try_slot(&self, count: u16) -> Result<Option<SlotLock>, CacheError> {
        for number in 0..count {
            if let Some(slot) = self.try_slot_number(number)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Takes this compile slot, or answers `None` at once.
    ///
    /// # Errors
    /// As [`Cache::try_lock`].
    pub fn try_slot_number(&self, number: u16) -> Result<Option<SlotLock>, CacheError> {
        let held = self.locks().attempt(SLOTS + i64::from(number))?;
        Ok(held.map(|held| SlotLock {
            number,
            _held: held,
        }))
    }
}
