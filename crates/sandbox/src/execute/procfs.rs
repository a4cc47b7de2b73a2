//! A private proc file system: mounted nowhere, so nothing can be mounted over any part of it. A process that starts in
//! a user namespace is given it by its shim: to make one takes rights over the mount namespace that it is still in.
//!
//! Redirected writes to `/proc` by symlinks and mounts in an image were CVE-2019-19921, CVE-2023-27561 and
//! CVE-2025-52881. A handle that was made from nothing cannot be redirected.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::control::adopt_slot;
use crate::plan::Slot;
use crate::sys::mount;

/// The root of a detached proc mount, of the pid namespace in which it was made or of one above it.
pub(super) struct Proc {
    root: OwnedFd,
}

impl Proc {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            root: mount::private_proc()?,
        })
    }

    pub(super) fn adopt(slot: Slot) -> io::Result<Self> {
        Ok(Self {
            root: adopt_slot(slot)?,
        })
    }

    fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    /// An open file; what is read from it is the state at the time of reading.
    pub(super) fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_file(path, OFlags::RDONLY)
    }

    /// One of the process's own namespaces, by its name there. The link leads out of proc, where no path does.
    pub(super) fn namespace(&self, name: &str) -> io::Result<OwnedFd> {
        let path = Path::new("self/ns").join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root, path, flags, Mode::empty())?)
    }

    /// The whole contents of a file.
    pub(super) fn read(&self, path: &Path) -> io::Result<String> {
        read_to_end(&self.file(path)?)
    }

    /// Writes `value` in one call, as the files of proc want it.
    pub(super) fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let file = self.open_file(path, OFlags::WRONLY)?;
        if rustix::io::write(&file, value.as_bytes())? == value.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

/// Reads from the present offset to the end. Only `read` is called: a seccomp filter may be in force.
pub(super) fn read_to_end(file: &OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(file, &mut buffer)? {
            0 => break,
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
