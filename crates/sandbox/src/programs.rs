//! The folder of the shim's own executables, from which all launched programs are opened.
//!
//! Opened once by a shim. Through a read-only mount of its own: who gets at a descriptor of an executable, or at
//! `/proc/<pid>/exe` of its process, can read the file and never write to it, not even as root
//! (CVE-2019-5736 was such a write).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::sys::mount::read_only_directory;

/// A folder of executables.
#[derive(Debug)]
pub struct Programs {
    path: PathBuf,
    folder: OwnedFd,
}

impl Programs {
    /// The folder that the running executable is in.
    ///
    /// # Errors
    /// `/proc` is not mounted, or the folder is gone.
    pub fn beside_own_executable() -> io::Result<Self> {
        let mut path = std::fs::read_link("/proc/self/exe")?;
        path.pop();
        Self::in_folder(path)
    }

    /// Another folder.
    ///
    /// # Errors
    /// It is not there.
    pub fn in_folder(path: PathBuf) -> io::Result<Self> {
        let folder = read_only_directory(&path)?;
        Ok(Self { path, folder })
    }

    /// Opens the executable `name`, which is in the folder itself: a symbolic link is none.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            Mode::empty(),
        )?)
    }

    /// The folder's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
