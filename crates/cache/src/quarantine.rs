//! What did not verify: moved out of the way, kept for a look, never used again.

use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, RenameFlags};

use crate::store::{Cache, Store};
use crate::trailer::Flaw;

/// Files kept in the quarantine; older ones are removed. A disk that rots must not fill itself up with it.
const KEPT: usize = 16;

/// A file that was taken out of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The entry's key and the time it was moved, in nanoseconds since the epoch: `<key>.<time>`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Store {
    /// Moves the entry out of the way, unless the name belongs to another file than `file` by now. Failing to
    /// is logged: the entry does not verify at the next lookup either.
    pub(crate) fn quarantine(&self, name: &str, file: Option<&File>, flaw: &Flaw) {
        let path = self.entries.path_of(name);
        log::warn!(
            "cache entry {} is put in quarantine and made anew: {flaw}",
            path.display()
        );
        if let Some(file) = file {
            let same = rustix::fs::fstat(file).is_ok_and(|ours| {
                rustix::fs::statat(&self.entries, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|named| (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino))
            });
            if !same {
                return;
            }
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let to = format!("{name}.{:020}", now.as_nanos());
        let moved = rustix::fs::renameat_with(
            &self.entries,
            name,
            &self.quarantine,
            &to,
            RenameFlags::NOREPLACE,
        );
        if let Err(error) = moved {
            log::warn!(
                "could not move {} to the quarantine, it is removed: {error}",
                path.display()
            );
            if let Err(error) = self.entries.remove(name) {
                log::warn!("{error}");
            }
        }
        self.trim_quarantine(KEPT);
    }

    /// Removes all but the newest `keep` files; answers what it removed.
    pub(crate) fn trim_quarantine(&self, keep: usize) -> u64 {
        let mut files = self.quarantined();
        // The time is the end of the name: the oldest come first.
        files.sort_by(|a, b| a.name.rsplit('.').next().cmp(&b.name.rsplit('.').next()));
        let surplus = files.len().saturating_sub(keep);
        let mut bytes = 0;
        for file in &files[..surplus] {
            match self.quarantine.remove(&file.name) {
                Ok(()) => bytes += file.bytes,
                Err(error) => log::warn!("{error}"),
            }
        }
        bytes
    }

    fn quarantined(&self) -> Vec<Quarantined> {
        let names = self.quarantine.names().unwrap_or_else(|error| {
            log::warn!("{error}");
            Vec::new()
        });
        let size = |name: &str| {
            rustix::fs::statat(&self.quarantine, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
        };
        names
            .into_iter()
            .map(|name| Quarantined {
                bytes: size(&name),
                name,
            })
            .collect()
    }
}

impl Cache {
    /// What lies in the quarantine.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.0.quarantined()
    }
}
