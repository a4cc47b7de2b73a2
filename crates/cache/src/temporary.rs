//! Entries in the making on file systems without `O_TMPFILE`: under a name that is no key's, locked as long
//! as the maker lives, so that what a dead maker left is told from what a living one needs.

use std::fs::File;

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::publish::random_name;
use crate::{Cache, CacheError};

const PREFIX: &str = ".new-";

/// The name of a file in the making; removed when dropped before it was given its last name.
#[derive(Debug)]
pub(crate) struct Temporary {
    cache: Cache,
    name: String,
}

impl Temporary {
    /// Makes one, and removes those of dead makers.
    pub(crate) fn create(cache: &Cache) -> Result<(File, Self), CacheError> {
        cache.remove_orphans();
        let entries = &cache.0.entries;
        let failed =
            |error: std::io::Error| CacheError::new("make a file in", entries.path(), error);
        let name = format!("{PREFIX}{}", random_name().map_err(failed)?);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(entries, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failed(error.into()))?;
        let temporary = Self {
            cache: cache.clone(),
            name,
        };
        // An orphan sweep between the two calls takes the name away; publishing then fails, and nothing else.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        Ok((file.into(), temporary))
    }

    /// Gives the file its last name; `false` when that is taken.
    pub(crate) fn rename(&self, to: &str) -> Result<bool, CacheError> {
        let entries = &self.cache.0.entries;
        match rustix::fs::renameat_with(
            entries,
            &self.name,
            entries,
            to,
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(CacheError::new("name", &entries.path_of(to), error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = self.cache.0.entries.remove(&self.name) {
            log::warn!("{error}");
        }
    }
}

impl Cache {
    /// Removes files in the making whose makers are dead.
    pub(crate) fn remove_orphans(&self) {
        let entries = &self.0.entries;
        for name in entries
            .names()
            .unwrap_or_default()
            .iter()
            .filter(|name| name.starts_with(PREFIX))
        {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let orphan =
                rustix::fs::openat(entries, name, flags, Mode::empty()).is_ok_and(|file| {
                    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                });
            if orphan && let Err(error) = entries.remove(name) {
                log::warn!("{error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::{About, Key, Kind, Settings};

    fn open(directory: &Path) -> Cache {
        Cache::open(&Settings {
            directory: directory.to_path_buf(),
            limit: 1 << 20,
        })
        .unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        std::fs::read_dir(directory.join("entries"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_named_file_is_published_and_a_dropped_one_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = open(directory.path());
        let (key, about) = (
            Key([1; 32]),
            About {
                kind: Kind(1),
                maker: String::new(),
                source: [0; 32],
            },
        );
        let dropped = cache.begin_named(&key).unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(dropped);
        assert!(names(directory.path()).is_empty());

        let publication = cache.begin_named(&key).unwrap();
        File::from(publication.output().unwrap())
            .write_all(b"code")
            .unwrap();
        assert_eq!(publication.publish(&about).unwrap().length, 4);
        drop(publication);
        assert_eq!(names(directory.path()), [key.to_string()]);

        // The second of two gets the first one's.
        let publication = cache.begin_named(&key).unwrap();
        File::from(publication.output().unwrap())
            .write_all(b"other code")
            .unwrap();
        assert_eq!(publication.publish(&about).unwrap().length, 4);
    }

    #[test]
    fn orphans_are_removed_and_the_living_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = open(directory.path());
        std::fs::write(
            directory.path().join("entries/.new-0123456789abcdef"),
            b"half of it",
        )
        .unwrap();
        let living = cache.begin_named(&Key([1; 32])).unwrap();
        open(directory.path()).remove_orphans();
        assert_eq!(names(directory.path()).len(), 1);
        assert!(!names(directory.path()).contains(&".new-0123456789abcdef".to_owned()));
        drop(living);
        assert!(names(directory.path()).is_empty());
    }
}
