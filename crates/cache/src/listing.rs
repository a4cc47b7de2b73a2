//! stub, being written
use std::time::{Duration, SystemTime};

use crate::{About, Cache, CacheError, Key};

/// One entry, as `skiff cache ls` shows it. Read from its trailer without verifying it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was last looked up, give or take an hour.
    pub used: SystemTime,
    /// Some process has it open or mapped.
    pub in_use: bool,
    /// What its trailer says; `None` when that is no trailer.
    pub about: Option<About>,
}

/// What [`Cache::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was published.
    Good,
    /// Moved to the quarantine, and why.
    Quarantined(String),
}

/// What to remove. Without any limit: what is not in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prune {
    /// Remove the least recently used until no more than this is left.
    pub keep_bytes: Option<u64>,
    /// Remove what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Remove entries that are in use too: running containers keep their mapping.
    pub in_use_too: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What [`Cache::prune`] removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The entries.
    pub removed: Vec<Key>,
    /// Their bytes, and those of emptied quarantine files.
    pub bytes: u64,
}

impl Cache {
    /// All entries, least recently used first.
    pub fn list(&self) -> Result<Vec<Listed>, CacheError> {
        unimplemented!()
    }
    /// Verifies every entry, `progress` called after each; bad ones go to the quarantine.
    pub fn verify(&self, _progress: &mut dyn FnMut(&Listed, &Verdict)) -> Result<(), CacheError> {
        unimplemented!()
    }
    /// Removes entries by [`Prune`], and the quarantine's content.
    pub fn prune(&self, _prune: &Prune) -> Result<Pruned, CacheError> {
        unimplemented!()
    }
}
