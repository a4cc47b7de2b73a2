//! Where a worker's code goes: a file in the making of the cache, or memory when the cache cannot take it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use skiff_cache::Publication;

/// Where a worker's code goes.
#[derive(Debug)]
pub(super) enum Output {
    /// To be published in the cache.
    Cache(Publication),
    /// To be used once.
    Memory(File),
}

/// What a write may need more than the disk had, at most: compilers write in larger pieces, and a disk is
/// full for a guest long before the last byte of it is used.
const PROBE: usize = 1 << 20;

impl Output {
    pub(super) fn memory() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels from 6.3 on want to be told that the file is no program; older ones refuse the flag.
        let file = match rustix::fs::memfd_create(c"code", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(c"code", flags)?,
            other => other?,
        };
        Ok(Self::Memory(file.into()))
    }

    /// The file opened once more, for writing only.
    pub(super) fn for_worker(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.as_fd().as_raw_fd());
        Ok(rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(self)?.st_size).unwrap_or(0))
    }

    /// Whether the disk has no room left for the file to grow. Asked when a worker has failed: its words
    /// say why, but not in a way that a program should depend on.
    pub(super) fn is_stuck(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Cache(publication) => {
                let probe = || -> io::Result<()> {
                    let file = File::from(publication.as_fd().try_clone_to_owned()?);
                    let length = file.metadata()?.len();
                    file.write_all_at(&vec![0; PROBE], length)?;
                    file.set_len(length)
                };
                probe().is_err()
            }
        }
    }

    /// The first `length` bytes in sealed memory: nobody can change them any more.
    pub(super) fn into_memory(self, length: u64) -> io::Result<OwnedFd> {
        let file = match self {
            Self::Memory(file) => file,
            Self::Cache(publication) => {
                let mut from = File::from(publication.as_fd().try_clone_to_owned()?);
                from.rewind()?;
                let Self::Memory(mut file) = Self::memory()? else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let copied = io::copy(&mut from.take(length), &mut file)?;
                if copied != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                file.flush()?;
                file
            }
        };
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Cache(publication) => publication.as_fd(),
            Self::Memory(file) => file.as_fd(),
        }
    }
}
