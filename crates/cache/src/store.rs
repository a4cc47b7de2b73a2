//! The open cache, and the lookup of an entry: verified on the descriptor that is handed out.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use skiff_sandbox::sys::mount;

use crate::directory::Directory;
use crate::lock::{self, Locks};
use crate::secret::{self, Secret};
use crate::trailer::{Flaw, Trailer};
use crate::{CacheError, Key, Settings};

/// Mode of every entry. The directories keep others out; the code itself is no secret.
pub(crate) const ENTRY_MODE: u32 = 0o444;

/// How old the time of the last use may be before a lookup renews it. A busy node would else write
/// an inode for every start.
const TOUCH_AFTER: Duration = Duration::from_secs(3600);

/// What an entry is, in the caller's numbering; the cache only keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u16);

impl Kind {
    /// The bit of kinds that are notes: small, of no interest to a user, and left out of [`Cache::list`].
    pub const NOTE: Self = Self(0x8000);

    pub(crate) fn is_note(self) -> bool {
        self.0 & Self::NOTE.0 != 0
    }
}

/// What is known of an entry besides its key. Covered by the entry's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// Engine or other maker; kept up to 24 bytes of it.
    pub maker: String,
    /// SHA-256 of what it was made from.
    pub source: [u8; 32],
}

/// A node's cache. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Cache(pub(crate) Arc<Store>);

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) directory: Directory,
    pub(crate) entries: Directory,
    /// The entries again, through a detached read-only mount.
    pub(crate) read_only: OwnedFd,
    pub(crate) quarantine: Directory,
    pub(crate) locks: Locks,
    pub(crate) secret: Mutex<Secret>,
    pub(crate) limit: u64,
}

/// A verified entry.
///
/// A lock on the open file marks the entry as used: eviction leaves it alone as long as this descriptor, one
/// made from it by `dup` or inheritance, or a mapping of it exists. A mapping made after opening
/// `/proc/self/fd/N` is not seen: who maps so keeps the descriptor too.
#[derive(Debug)]
pub struct Entry {
    /// The file, read-only, on a read-only mount. The code is its first `length` bytes.
    pub file: OwnedFd,
    /// Bytes of code; the trailer follows them.
    pub length: u64,
    /// What it is.
    pub about: About,
}

impl Cache {
    /// Opens the cache, making what is missing. A directory that can only be read is opened too, if it
    /// is complete: lookups work, publishing answers [`CacheError::ReadOnly`].
    ///
    /// Needs the right to mount (`CAP_SYS_ADMIN`), for the read-only view of the entries.
    ///
    /// # Errors
    /// What the kernel refuses; [`CacheError::Unsafe`] for a directory that is another user's or whose
    /// file system cannot hold code.
    pub fn open(settings: &Settings) -> Result<Self, CacheError> {
        let directory = Directory::open(&settings.directory)?;
        let entries = directory.below("entries")?.allows_code()?;
        let quarantine = directory.below("quarantine")?;
        let locks = Locks::new(&directory)?;
        let secret = Mutex::new(secret::obtain(&directory, &locks)?);
        let read_only = read_only_view(&entries)?;
        let store = Store {
            directory,
            entries,
            read_only,
            quarantine,
            locks,
            secret,
            limit: settings.limit,
        };
        Ok(Self(Arc::new(store)))
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.0.directory.path()
    }

    /// Bytes that it may hold.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    pub(crate) fn locks(&self) -> &Locks {
        &self.0.locks
    }

    /// The verified entry of `key`. One that does not verify is moved to the quarantine, with a warning in the
    /// log, and the answer is `None`: make it anew.
    ///
    /// Reads the whole entry, at some gigabytes a second.
    ///
    /// # Errors
    /// Only for what says nothing about the entry, such as no free descriptor.
    pub fn lookup(&self, key: &Key) -> Result<Option<Entry>, CacheError> {
        let store = &self.0;
        let name = key.to_string();
        let file = match store.open_entry(&name)? {
            Opened::Missing => return Ok(None),
            Opened::Flawed(flaw) => {
                store.quarantine(&name, None, &flaw);
                return Ok(None);
            }
            Opened::File(file) => file,
        };
        match store.verify(&file, key)? {
            Ok((trailer, stat)) => {
                mark_used(&file);
                store.touch(&name, &stat);
                Ok(Some(Entry {
                    file: file.into(),
                    length: trailer.length,
                    about: trailer.about,
                }))
            }
            Err(flaw) => {
                store.quarantine(&name, Some(&file), &flaw);
                Ok(None)
            }
        }
    }
}

pub(crate) enum Opened {
    File(File),
    Missing,
    Flawed(Flaw),
}

impl Store {
    /// Opens an entry on the read-only mount, if it is something that can be opened as a file.
    pub(crate) fn open_entry(&self, name: &str) -> Result<Opened, CacheError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.read_only, name, flags, Mode::empty()) {
            Ok(file) => Ok(Opened::File(file.into())),
            Err(Errno::NOENT) => Ok(Opened::Missing),
            // A symlink, a socket or FIFO, a device: opening them fails each in its own way.
            Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::NODEV) => {
                Ok(Opened::Flawed(Flaw::NotAFile))
            }
            Err(error @ (Errno::IO | Errno::BADMSG)) => {
                Ok(Opened::Flawed(Flaw::Unreadable(error.into())))
            }
            Err(error) => Err(CacheError::new("open", &self.entries.path_of(name), error)),
        }
    }

    /// Everything that must be true of an entry's file, its hash last.
    pub(crate) fn verify(
        &self,
        file: &File,
        key: &Key,
    ) -> Result<Result<(Trailer, Stat), Flaw>, CacheError> {
        let stat = match metadata(file) {
            Ok(stat) => stat,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut secret = self.secret();
        let mut result = Trailer::verify(file, size, key, &secret);
        if let Err(Flaw::Hash) = result {
            // Another process may have had to replace the secret since we read it.
            let now = secret::obtain(&self.directory, &self.locks)?;
            if now != secret {
                self.set_secret(now);
                secret = now;
                result = Trailer::verify(file, size, key, &secret);
            }
        }
        Ok(result.map(|trailer| (trailer, stat)))
    }

    pub(crate) fn secret(&self) -> Secret {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_secret(&self, secret: Secret) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret;
    }

    /// Renews the time of the last use, which is the file's modification time. Not an error when it fails:
    /// the file system may be read-only.
    fn touch(&self, name: &str, stat: &Stat) {
        let used = modified(stat);
        // A time to come was written before the clock was set back.
        if SystemTime::now()
            .duration_since(used)
            .is_ok_and(|age| age < TOUCH_AFTER)
        {
            return;
        }
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
        };
        if let Err(error) =
            rustix::fs::utimensat(&self.entries, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        {
            log::debug!("could not note the use of cache entry {name}: {error}");
        }
    }
}

/// What the inode says. An entry that was evicted since it was opened has no link left, and is as good as before.
fn metadata(file: &File) -> Result<Stat, Flaw> {
    let stat = rustix::fs::fstat(file).map_err(|error| Flaw::Unreadable(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Flaw::NotAFile);
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Flaw::Owner(stat.st_uid));
    }
    if stat.st_mode & 0o7777 != ENTRY_MODE {
        return Err(Flaw::Mode(stat.st_mode & 0o7777));
    }
    if stat.st_nlink > 1 {
        return Err(Flaw::Links(stat.st_nlink));
    }
    Ok(stat)
}

pub(crate) fn modified(stat: &Stat) -> SystemTime {
    u64::try_from(stat.st_mtime).map_or(SystemTime::UNIX_EPOCH, |seconds| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    })
}

fn read_only_view(entries: &Directory) -> Result<OwnedFd, CacheError> {
    let failed = |error| CacheError::new("make a read-only view of", entries.path(), error);
    let tree = mount::clone_fd(entries.as_fd(), false).map_err(failed)?;
    let flags = mount::attribute::READ_ONLY | mount::attribute::NO_SUID | mount::attribute::NO_DEV;
    let change = mount::Change {
        set: flags,
        clear: 0,
        propagation: Some(skiff_sandbox::plan::Propagation::Private),
    };
    mount::change(tree.as_fd(), change, false).map_err(failed)?;
    Ok(tree)
}

/// A shared lock that goes with the open file, also into the host that inherits it, until the last descriptor
/// and the last mapping of it are gone (the kernel drops it in `__fput`).
fn mark_used(file: &File) {
    let whole = lock::range(libc::F_RDLCK, 0, 0);
    if let Err(error) = fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        log::debug!("could not mark a cache entry as used: {error}");
    }
}

/// Whether anyone has marked the entry as used.
pub(crate) fn is_used(file: &File) -> bool {
    // The kernel answers with the lock that stands in the way of this one, or with F_UNLCK.
    let mut whole = lock::range(libc::F_WRLCK, 0, 0);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut whole)).is_ok()
        && i32::from(whole.l_type) != libc::F_UNLCK
}
