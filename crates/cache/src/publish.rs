//! How an entry comes into being: written to a file without a name, made durable, then named. At every
//! moment before, a crash leaves nothing; after, the whole entry.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use crate::secret;
use crate::store::ENTRY_MODE;
use crate::temporary::Temporary;
use crate::trailer::{TRAILER_BYTES, Trailer};
use crate::{About, Cache, CacheError, Entry, Key};

/// How often an entry that others spoil in the moment of its publication is replaced.
const ATTEMPTS: usize = 4;

/// An entry in the making: a file without a name. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Publication {
    cache: Cache,
    key: Key,
    file: File,
    /// The name it has nevertheless, on file systems without `O_TMPFILE`.
    temporary: Option<Temporary>,
}

impl Cache {
    /// Starts an entry: write the code to [`Publication::output`], then [`Publication::publish`].
    ///
    /// # Errors
    /// [`CacheError::Full`] and [`CacheError::ReadOnly`] are worth a fallback: make the code in memory.
    pub fn begin(&self, key: &Key) -> Result<Publication, CacheError> {
        let store = &self.0;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&store.entries, ".", flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Publication {
                cache: self.clone(),
                key: *key,
                file: file.into(),
                temporary: None,
            }),
            // EISDIR is the answer of kernels and file systems that do not know the flag (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => self.begin_named(key),
            Err(error) => Err(CacheError::new(
                "make a file in",
                store.entries.path(),
                error,
            )),
        }
    }

    /// As [`Cache::begin`], where files without a name cannot be had.
    pub(crate) fn begin_named(&self, key: &Key) -> Result<Publication, CacheError> {
        let (file, temporary) = Temporary::create(self)?;
        Ok(Publication {
            cache: self.clone(),
            key: *key,
            file,
            temporary: Some(temporary),
        })
    }

    /// Publishes bytes that are at hand.
    ///
    /// # Errors
    /// As [`Cache::begin`] and [`Publication::publish`].
    pub fn publish_bytes(
        &self,
        key: &Key,
        about: &About,
        bytes: &[u8],
    ) -> Result<Entry, CacheError> {
        let publication = self.begin(key)?;
        (&publication.file)
            .write_all(bytes)
            .map_err(|error| publication.failed("write", error))?;
        publication.publish(about)
    }
}

impl Publication {
    /// The file opened once more, for writing only: what a worker may inherit.
    ///
    /// # Errors
    /// Without `/proc`, or a free descriptor.
    pub fn output(&self) -> Result<OwnedFd, CacheError> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| self.failed("open", error))
    }

    /// Appends the trailer, makes the file durable, links it in place. Blocking: reads all of it and waits for
    /// the disk. Nobody may write to the file any more when this is called: whoever could is dead.
    ///
    /// When another has published the same key meanwhile, that entry is the answer.
    ///
    /// # Errors
    /// The file still has the code, and can be read by [`AsFd`], when this fails.
    pub fn publish(&self, about: &About) -> Result<Entry, CacheError> {
        let store = &self.cache.0;
        let stat = rustix::fs::fstat(&self.file).map_err(|error| self.failed("look at", error))?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let bytes = length + TRAILER_BYTES as u64;
        if bytes > store.limit {
            return Err(CacheError::TooLarge {
                bytes,
                limit: store.limit,
            });
        }
        let secret = secret::obtain(&store.directory, &store.locks)?;
        store.set_secret(secret);
        let trailer = Trailer {
            length,
            key: self.key,
            about: about.clone(),
        };
        trailer
            .append(&self.file, &secret)
            .map_err(|error| self.failed("write", error))?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(ENTRY_MODE))
            .map_err(|error| self.failed("change the mode of", error))?;
        self.file
            .sync_all()
            .map_err(|error| self.failed("write", error))?;
        self.cache.make_room(bytes);

        let name = self.key.to_string();
        for _ in 0..ATTEMPTS {
            let linked = match &self.temporary {
                None => store.entries.link(self.file.as_fd(), &name)?,
                Some(temporary) => temporary.rename(&name)?,
            };
            if linked && let Err(error) = store.entries.sync() {
                // After a crash of the machine the entry may be missing, and is made anew.
                log::warn!(
                    "could not make {} durable: {error}",
                    store.entries.path().display()
                );
            }
            // Looking it up verifies what is really on disk, and puts another's bad entry out of the way.
            if let Some(entry) = self.cache.lookup(&self.key)? {
                return Ok(entry);
            }
        }
        Err(CacheError::Contested {
            path: store.entries.path_of(&name),
        })
    }

    fn failed(&self, operation: &'static str, error: impl Into<io::Error>) -> CacheError {
        CacheError::new(
            operation,
            &self.cache.0.entries.path_of(&self.key.to_string()),
            error,
        )
    }
}

impl AsFd for Publication {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// 16 random hexadecimal digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}
