//! What can go wrong with the cache, sorted by what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The cache could not do what was asked. None of these keeps a container from running: the caller
/// can always compile into memory and go on without the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk, its inodes or a quota are used up.
    #[error("the disk of the cache is full: could not {operation} {path}")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The directory is on a read-only file system, or not ours to write.
    #[error("the cache cannot be written: could not {operation} {path}")]
    ReadOnly {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("could not {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something in the cache is not as this program would have made it, and cannot be repaired.
    #[error("cache directory {path} is not used: it {reason}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The entry alone is larger than the cache may be.
    #[error("the code is {bytes} bytes large, more than the whole cache may hold ({limit})")]
    TooLarge {
        /// The entry.
        bytes: u64,
        /// The cache.
        limit: u64,
    },
    /// Someone spoils the entry again and again while it is being published.
    #[error("could not publish {path}: what lies there is not valid, however often it is replaced")]
    Contested {
        /// The entry.
        path: PathBuf,
    },
}

impl CacheError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_path_buf(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full {
                operation,
                path,
                source,
            },
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly {
                operation,
                path,
                source,
            },
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }
}
