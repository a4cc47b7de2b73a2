//! What is in the cache, and what goes: the data of `skiff cache ls`, `verify` and `prune`, and the eviction
//! that happens by itself when an entry is published.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::store::{Opened, is_used, modified};
use crate::trailer::Trailer;
use crate::{About, Cache, CacheError, Key};

/// One entry, as `skiff cache ls` shows it. Read from its trailer, without verifying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was last looked up, give or take an hour.
    pub used: SystemTime,
    /// Some process has it open or mapped.
    pub in_use: bool,
    /// What its trailer says; `None` when it has none that can be read.
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

/// What to remove. Without any limit: all that is not in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prune {
    /// Remove the least recently used, until no more than this is left.
    pub keep_bytes: Option<u64>,
    /// Remove only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Remove entries that are in use too: running containers keep their mapping.
    pub in_use_too: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What [`Cache::prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The entries.
    pub removed: Vec<Key>,
    /// Their bytes, and those of the quarantine.
    pub bytes: u64,
}

impl Cache {
    /// All entries but notes ([`crate::Kind::NOTE`]), least recently used first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, CacheError> {
        let mut entries = self.list_all()?;
        entries.retain(|entry| {
            !entry
                .about
                .as_ref()
                .is_some_and(|about| about.kind.is_note())
        });
        Ok(entries)
    }

    fn list_all(&self) -> Result<Vec<Listed>, CacheError> {
        let mut entries = Vec::new();
        for name in self.0.entries.names()? {
            if let Some(key) = Key::from_name(&name)
                && let Some(listed) = self.listed(key)?
            {
                entries.push(listed);
            }
        }
        let now = SystemTime::now();
        entries.sort_by_key(|entry| (last_use(entry.used, now), entry.key));
        Ok(entries)
    }

    fn listed(&self, key: Key) -> Result<Option<Listed>, CacheError> {
        let file: File = match self.0.open_entry(&key.to_string())? {
            Opened::File(file) => file,
            Opened::Missing => return Ok(None),
            Opened::Flawed(_) => {
                let used = SystemTime::UNIX_EPOCH;
                return Ok(Some(Listed {
                    key,
                    bytes: 0,
                    used,
                    in_use: false,
                    about: None,
                }));
            }
        };
        let path = self.0.entries.path_of(&key.to_string());
        let stat =
            rustix::fs::fstat(&file).map_err(|error| CacheError::new("look at", &path, error))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let about = Trailer::read(&file, bytes)
            .ok()
            .map(|trailer| trailer.about);
        Ok(Some(Listed {
            key,
            bytes,
            used: modified(&stat),
            in_use: is_used(&file),
            about,
        }))
    }

    /// Verifies every entry and calls `progress` after each; bad ones go to the quarantine.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn verify(&self, progress: &mut dyn FnMut(&Listed, &Verdict)) -> Result<(), CacheError> {
        for listed in self.list_all()? {
            let name = listed.key.to_string();
            let verdict = match self.0.open_entry(&name)? {
                Opened::Missing => continue,
                Opened::Flawed(flaw) => {
                    self.0.quarantine(&name, None, &flaw);
                    Verdict::Quarantined(flaw.to_string())
                }
                Opened::File(file) => match self.0.verify(&file, &listed.key)? {
                    Ok(_) => Verdict::Good,
                    Err(flaw) => {
                        self.0.quarantine(&name, Some(&file), &flaw);
                        Verdict::Quarantined(flaw.to_string())
                    }
                },
            };
            progress(&listed, &verdict);
        }
        Ok(())
    }

    /// How large the file under a key's name is, verified or not; `None` if there is none.
    pub fn size(&self, key: &Key) -> Option<u64> {
        let stat = rustix::fs::statat(
            &self.0.entries,
            key.to_string(),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .ok()?;
        u64::try_from(stat.st_size).ok()
    }

    /// Removes one entry, used or not; one that is not there is no error.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn remove(&self, key: &Key) -> Result<(), CacheError> {
        self.0.entries.remove(&key.to_string())
    }

    /// Removes entries as [`Prune`] says, what dead publishers left, and the quarantine's content.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn prune(&self, prune: &Prune) -> Result<Pruned, CacheError> {
        let mut pruned = self.remove_entries(prune)?;
        if prune.dry_run {
            pruned.bytes += self
                .quarantined()
                .iter()
                .map(|file| file.bytes)
                .sum::<u64>();
        } else {
            self.remove_orphans();
            pruned.bytes += self.0.trim_quarantine(0);
        }
        Ok(pruned)
    }

    /// Evicts what was used longest ago, and is not in use, until `bytes` more fit below the limit. Two
    /// publishers at once would evict twice as much as needed: one of them leaves it to the other.
    pub(crate) fn make_room(&self, bytes: u64) {
        let evict = || -> Result<(), CacheError> {
            if let Some(_lock) = self.locks().try_housekeeping()? {
                let keep_bytes = Some(self.limit().saturating_sub(bytes));
                let pruned = self.remove_entries(&Prune {
                    keep_bytes,
                    ..Prune::default()
                })?;
                if !pruned.removed.is_empty() {
                    log::info!(
                        "evicted {} entries, {} bytes, from the cache: its limit is {} bytes",
                        pruned.removed.len(),
                        pruned.bytes,
                        self.limit()
                    );
                }
            }
            Ok(())
        };
        if let Err(error) = evict() {
            log::warn!("could not make room in the cache: {error}");
        }
    }

    fn remove_entries(&self, prune: &Prune) -> Result<Pruned, CacheError> {
        let now = SystemTime::now();
        let entries = self.list_all()?;
        let mut left: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut pruned = Pruned::default();
        for entry in entries {
            if prune.keep_bytes.is_some_and(|keep| left <= keep) {
                break;
            }
            let age = now
                .duration_since(last_use(entry.used, now))
                .unwrap_or_default();
            if prune.unused_for.is_some_and(|limit| age < limit)
                || (entry.in_use && !prune.in_use_too)
            {
                continue;
            }
            if !prune.dry_run {
                self.0.entries.remove(&entry.key.to_string())?;
            }
            left -= entry.bytes;
            pruned.bytes += entry.bytes;
            pruned.removed.push(entry.key);
        }
        Ok(pruned)
    }
}

/// A time to come says nothing of the last use: the clock was set back since. Such an entry was not used
/// after that, or its time would have been renewed; it counts as the oldest.
fn last_use(used: SystemTime, now: SystemTime) -> SystemTime {
    if used > now + Duration::from_secs(60) {
        SystemTime::UNIX_EPOCH
    } else {
        used
    }
}
