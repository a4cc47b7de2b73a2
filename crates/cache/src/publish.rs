//! stub, being written
use std::os::fd::{AsFd, BorrowedFd};

use crate::{About, Cache, CacheError, Entry, Key};

/// An entry in the making: a file without a name. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Publication;

impl AsFd for Publication {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

impl Publication {
    /// Seals the file with its trailer and links it in place; blocking (hashes, `fsync`).
    /// When another has published the same key meanwhile, that entry is the answer.
    pub fn publish(self, _about: &About) -> Result<Entry, CacheError> {
        unimplemented!()
    }
}

impl Cache {
    /// Starts an entry: write code to the descriptor of the answer, then [`Publication::publish`].
    pub fn begin(&self, _key: &Key) -> Result<Publication, CacheError> {
        unimplemented!()
    }
    /// Publishes bytes that are at hand.
    pub fn publish_bytes(&self, _key: &Key, _about: &About, _bytes: &[u8]) -> Result<Entry, CacheError> {
        unimplemented!()
    }
}
