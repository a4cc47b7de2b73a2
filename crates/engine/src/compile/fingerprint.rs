//! A quicker way from a file to its code. The module of a root is a file whose digest nobody knows, so it is
//! read and hashed at every start. SHA-256, by which layers are known, costs three to six times as much as
//! BLAKE3: the cache keeps a note that leads from the one hash to the other.

use std::fs::File;
use std::io::{self, Read, Seek};

use skiff_cache::{About, Cache, Key, Kind};

use super::{ModuleBytes, SourceError, chain};
use crate::module::LARGEST;

/// Kind of these notes in the cache.
pub(super) const KIND: Kind = Kind(Kind::NOTE.0 | 2);

/// BLAKE3 of a file's bytes.
pub(super) type Fingerprint = [u8; 32];

fn key_of(fingerprint: &Fingerprint) -> Key {
    Key::of("fingerprint", &[fingerprint])
}

/// Hashes a file from its start.
pub(super) fn of(file: &mut File) -> Result<Fingerprint, SourceError> {
    let read = |source| SourceError::Io {
        operation: "read it",
        source,
    };
    if file.metadata().map_err(read)?.len() > LARGEST {
        return Err(SourceError::TooLarge);
    }
    file.rewind().map_err(read)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 64 * 1024];
    // A file that grows while it is read has an end here too.
    let mut rest = Hashing {
        inner: file.take(LARGEST + 1),
        hasher: &mut hasher,
    };
    loop {
        match rest.read(&mut chunk) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read(error)),
        }
    }
}

/// Copies a file from its start, and hashes what is copied.
pub(super) fn copy(mut file: File) -> Result<(ModuleBytes, Fingerprint), SourceError> {
    file.rewind().map_err(|source| SourceError::Io {
        operation: "read it",
        source,
    })?;
    let mut hasher = blake3::Hasher::new();
    let bytes = ModuleBytes::copy_of(Hashing {
        inner: file,
        hasher: &mut hasher,
    })?;
    Ok((bytes, *hasher.finalize().as_bytes()))
}

/// The SHA-256 of the bytes with this fingerprint, if the cache knows it.
pub(super) fn resolve(cache: &Cache, fingerprint: &Fingerprint) -> Option<[u8; 32]> {
    let note = cache.lookup(&key_of(fingerprint)).ok()??;
    (note.about.kind == KIND).then_some(note.about.source)
}

/// Makes the note. That it could not is no failure: the next start takes the longer way again.
pub(super) fn note(cache: &Cache, engine: &str, fingerprint: &Fingerprint, sha256: &[u8; 32]) {
    if resolve(cache, fingerprint).is_none() {
        let about = About {
            kind: KIND,
            maker: engine.to_owned(),
            source: *sha256,
        };
        if let Err(error) = cache.publish_bytes(&key_of(fingerprint), &about, &[]) {
            log::debug!("could not note a module's digest: {}", chain(&error));
        }
    }
}

/// A reader whose bytes are hashed as they pass.
struct Hashing<'a, R> {
    inner: R,
    hasher: &'a mut blake3::Hasher,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
