//! The directories of the cache: made when missing, root's alone, opened once.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::CacheError;

const DIRECTORY_MODE: u32 = 0o700;

/// What the cache's own directory holds, and what a file system of its own has in its root.
const NAMES: [&str; 5] = ["entries", "locks", "lost+found", "quarantine", "secret"];
/// A secret in the making (see [`crate::secret`]).
const SECRET_PREFIX: &str = ".secret-";

/// An open directory and the path by which it was opened, for messages.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the cache's own directory, making it and its parents. A symlink is followed: a node's
    /// administrator may put the cache on another disk so.
    pub(crate) fn open(path: &Path) -> Result<Self, CacheError> {
        if let Err(error) = DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(path)
        {
            return Err(CacheError::new("make directory", path, error));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| CacheError::new("open directory", path, error))?;
        let directory = Self {
            fd,
            path: path.to_path_buf(),
        };
        // A mistaken `SKIFF_CACHE_DIR=/tmp` must not shut everybody else out of `/tmp`.
        if directory.mode()? != DIRECTORY_MODE
            && let Some(name) = directory.stranger()?
        {
            let reason = format!("is not the cache's alone, it holds {name:?}");
            return Err(directory.refused(reason));
        }
        directory.checked()
    }

    fn mode(&self) -> Result<u32, CacheError> {
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|error| CacheError::new("look at", &self.path, error))?;
        Ok(stat.st_mode & 0o7777)
    }

    /// Something in the cache's own directory that the cache has not put there.
    fn stranger(&self) -> Result<Option<String>, CacheError> {
        let failed = |error: Errno| CacheError::new("list", &self.path, error);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            let known = matches!(name.as_ref(), "." | "..")
                || NAMES.contains(&name.as_ref())
                || name.starts_with(SECRET_PREFIX);
            if !known {
                return Ok(Some(name.into_owned()));
            }
        }
        Ok(None)
    }

    /// Opens a directory in this one, making it when missing.
    pub(crate) fn below(&self, name: &str) -> Result<Self, CacheError> {
        let path = self.path.join(name);
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(CacheError::new("make directory", &path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|error| CacheError::new("open directory", &path, error))?;
        Self { fd, path }.checked()
    }

    /// Nobody but its owner, who is us, may enter or change it.
    fn checked(self) -> Result<Self, CacheError> {
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|error| CacheError::new("look at", &self.path, error))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(self.refused(format!("belongs to user {}", stat.st_uid)));
        }
        if stat.st_mode & 0o7777 != DIRECTORY_MODE {
            // Made by hand, or under an unusual umask. What may have been put in it does not verify.
            rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(DIRECTORY_MODE))
                .map_err(|error| CacheError::new("make private", &self.path, error))?;
        }
        Ok(self)
    }

    /// Code from a file system mounted `noexec` cannot be mapped as code.
    pub(crate) fn allows_code(self) -> Result<Self, CacheError> {
        let stat = rustix::fs::fstatvfs(&self.fd)
            .map_err(|error| CacheError::new("look at", &self.path, error))?;
        if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return Err(self.refused("lies on a file system mounted noexec".to_owned()));
        }
        Ok(self)
    }

    fn refused(self, reason: String) -> CacheError {
        CacheError::Unsafe {
            path: self.path,
            reason,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of what lies in it, those that are UTF-8: we give no others.
    pub(crate) fn names(&self) -> Result<Vec<String>, CacheError> {
        let failed = |error: Errno| CacheError::new("list", &self.path, error);
        let mut names = Vec::new();
        // Dir::read_from opens the directory anew: its own offset, from the start.
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Removes a name, whatever it is the name of; one that is gone already is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CacheError> {
        let result = match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(CacheError::new("remove", &self.path_of(name), error)),
        }
    }

    /// Gives an unnamed (`O_TMPFILE`) file its name; `false` when the name is taken.
    pub(crate) fn link(&self, file: BorrowedFd<'_>, name: &str) -> Result<bool, CacheError> {
        let mut result = rustix::fs::linkat(file, c"", &self.fd, name, AtFlags::EMPTY_PATH);
        if result == Err(Errno::NOENT) {
            // The empty path needs CAP_DAC_READ_SEARCH in the first user namespace (linkat(2)).
            let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            result = rustix::fs::linkat(CWD, source, &self.fd, name, AtFlags::SYMLINK_FOLLOW);
        }
        match result {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(CacheError::new("link", &self.path_of(name), error)),
        }
    }

    /// Renames inside the directory; `false` when the new name is taken.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> Result<bool, CacheError> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                self.remove(from)?;
                Ok(false)
            }
            Err(error) => Err(CacheError::new("name", &self.path_of(to), error)),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
