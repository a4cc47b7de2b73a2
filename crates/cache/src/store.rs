//! stub, being written
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::{CacheError, Key};

/// What an entry is, in the caller's numbering; the cache only keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u16);

/// What a listing says of an entry besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// Engine or other maker, cut at 24 bytes.
    pub maker: String,
    /// SHA-256 of what it was made from.
    pub source: [u8; 32],
}

/// Where the cache is and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its directory; made when missing.
    pub directory: PathBuf,
    /// Bytes of all entries together. Unused entries beyond it are removed when one is published.
    pub limit: u64,
}

impl Settings {
    /// From `SKIFF_CACHE_DIR` and `SKIFF_CACHE_BYTES`, else `/var/lib/skiff/cache` and 4 GiB.
    pub fn from_environment() -> Self {
        unimplemented!()
    }
}

/// A node's cache. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Cache;

/// A verified entry.
#[derive(Debug)]
pub struct Entry {
    /// The file, read-only, on a read-only mount. The code is its first `length` bytes.
    pub file: OwnedFd,
    /// Bytes of code; a trailer follows them.
    pub length: u64,
    /// What it is.
    pub about: About,
}

impl Cache {
    /// Opens the cache, making what is missing. A directory that can only be read is opened too:
    /// lookups work, publishing answers [`CacheError::ReadOnly`].
    pub fn open(_settings: &Settings) -> Result<Self, CacheError> {
        unimplemented!()
    }
    /// Its directory.
    pub fn directory(&self) -> &Path {
        unimplemented!()
    }
    /// The verified entry of `key`. One that does not verify is quarantined and `None` is the answer.
    pub fn lookup(&self, _key: &Key) -> Result<Option<Entry>, CacheError> {
        unimplemented!()
    }
}
