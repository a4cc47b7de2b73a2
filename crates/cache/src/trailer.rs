//! The last bytes of an entry: what it is, and a keyed hash over it and over all the code before.
//!
//! ```text
//! offset  bytes
//!      0      8  magic
//!      8      2  format number          all numbers little endian
//!     10      2  kind, the caller's
//!     12      4  zero
//!     16      8  length of the code
//!     24     32  key
//!     56     32  SHA-256 of what it was made from
//!     88     24  maker's name, padded with zeros
//!    112     32  BLAKE3, keyed with the node's secret, of the code and of the 112 bytes above
//! ```
//!
//! It comes last so that the code starts on a page, and so that a worker can write the code before
//! anyone knows what it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::key::{FORMAT, Key};
use crate::{About, Kind};

pub(crate) const TRAILER_BYTES: usize = 144;
const HASHED_BYTES: usize = 112;
const MAKER_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"SKIFFENT";

/// Bytes read at once: as many as make BLAKE3 use its widest path (16 KiB), and no more than a shim, of which
/// there is one for each pod, should touch for it.
const CHUNK: usize = 32 * 1024;

/// All but the hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) length: u64,
    pub(crate) key: Key,
    pub(crate) about: About,
}

/// Why a file is not an entry that this node has published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it belongs to user {0}")]
    Owner(u32),
    #[error("its mode is {0:o}")]
    Mode(u32),
    #[error("it has {0} hard links")]
    Links(libc::nlink_t),
    #[error("it ends with no trailer of this format")]
    NoTrailer,
    #[error("its trailer speaks of {said} bytes of code, the file has {found}")]
    Length { said: u64, found: u64 },
    #[error("it is the entry of another key, {0}")]
    Key(Key),
    #[error("its bytes are not those that were published")]
    Hash,
    #[error("it cannot be read ({0})")]
    Unreadable(io::Error),
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; HASHED_BYTES] {
        let mut bytes = [0; HASHED_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.about.kind.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.key.0);
        bytes[56..88].copy_from_slice(&self.about.source);
        let maker =
            &self.about.maker.as_bytes()[..self.about.maker.floor_char_boundary(MAKER_BYTES)];
        bytes[88..88 + maker.len()].copy_from_slice(maker);
        bytes
    }

    fn decode(bytes: &[u8; HASHED_BYTES]) -> Option<Self> {
        let kind = u16::from_le_bytes([bytes[10], bytes[11]]);
        let length = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
        let key = Key(bytes[24..56].try_into().ok()?);
        let source = bytes[56..88].try_into().ok()?;
        let maker = std::str::from_utf8(&bytes[88..])
            .ok()?
            .trim_end_matches('\0')
            .to_owned();
        let trailer = Self {
            length,
            key,
            about: About {
                kind: Kind(kind),
                maker,
                source,
            },
        };
        // One trailer has one encoding: whatever does not come back the same was not written by us.
        (trailer.encode() == *bytes).then_some(trailer)
    }

    /// Reads the trailer of a file of `size` bytes without verifying anything but its form.
    pub(crate) fn read(file: &File, size: u64) -> Result<Self, Flaw> {
        Ok(Self::read_with_hash(file, size)?.0)
    }

    fn read_with_hash(file: &File, size: u64) -> Result<(Self, blake3::Hash), Flaw> {
        let found = size
            .checked_sub(TRAILER_BYTES as u64)
            .ok_or(Flaw::NoTrailer)?;
        let mut bytes = [0; TRAILER_BYTES];
        file.read_exact_at(&mut bytes, found)
            .map_err(Flaw::Unreadable)?;
        let (hashed, hash) = bytes
            .split_first_chunk::<HASHED_BYTES>()
            .ok_or(Flaw::NoTrailer)?;
        let hash = blake3::Hash::from_slice(hash).map_err(|_| Flaw::NoTrailer)?;
        let trailer = Self::decode(hashed).ok_or(Flaw::NoTrailer)?;
        if trailer.length != found {
            return Err(Flaw::Length {
                said: trailer.length,
                found,
            });
        }
        Ok((trailer, hash))
    }

    /// Reads and verifies a whole file of `size` bytes.
    pub(crate) fn verify(
        file: &File,
        size: u64,
        key: &Key,
        secret: &[u8; 32],
    ) -> Result<Self, Flaw> {
        let (trailer, said) = Self::read_with_hash(file, size)?;
        if trailer.key != *key {
            return Err(Flaw::Key(trailer.key));
        }
        // blake3::Hash compares in constant time.
        if trailer.hash(file, secret).map_err(Flaw::Unreadable)? != said {
            return Err(Flaw::Hash);
        }
        Ok(trailer)
    }

    /// Appends this trailer to the code in `file`. The file must be open for reading too.
    pub(crate) fn append(&self, file: &File, secret: &[u8; 32]) -> io::Result<()> {
        let hash = self.hash(file, secret)?;
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..HASHED_BYTES].copy_from_slice(&self.encode());
        bytes[HASHED_BYTES..].copy_from_slice(hash.as_bytes());
        file.write_all_at(&bytes, self.length)
    }

    fn hash(&self, file: &File, secret: &[u8; 32]) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        let mut chunk =
            vec![0; usize::try_from(self.length).map_or(CHUNK, |length| length.min(CHUNK))];
        let mut offset = 0;
        while offset < self.length {
            let wanted =
                usize::try_from(self.length - offset).map_or(CHUNK, |rest| rest.min(CHUNK));
            match file.read_at(&mut chunk[..wanted], offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    hasher.update(&chunk[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        hasher.update(&self.encode());
        Ok(hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Trailer {
        let about = About {
            kind: Kind(7),
            maker: "wasmtime".to_owned(),
            source: [9; 32],
        };
        Trailer {
            length: 12345,
            key: Key([3; 32]),
            about,
        }
    }

    #[test]
    fn encoding_is_fixed() {
        let bytes = sample().encode();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "534b494646454e54",
            "0100",
            "0700",
            "00000000",
            "3930000000000000",
            &"03".repeat(32),
            &"09".repeat(32),
            "7761736d74696d65",
            &"00".repeat(16),
        ];
        assert_eq!(text, expected.concat());
        assert_eq!(Trailer::decode(&bytes), Some(sample()));
    }

    #[test]
    fn every_changed_bit_of_fixed_fields_is_refused() {
        let bytes = sample().encode();
        for index in (0..10).chain(12..16) {
            for bit in 0..8 {
                let mut changed = bytes;
                changed[index] ^= 1 << bit;
                assert_eq!(Trailer::decode(&changed), None, "byte {index} bit {bit}");
            }
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut trailer = sample();
        trailer.about.maker = "ä".repeat(20);
        assert_eq!(
            Trailer::decode(&trailer.encode()).map(|trailer| trailer.about.maker),
            Some("ä".repeat(12))
        );
        trailer.about.maker = "a".to_owned() + &"ä".repeat(20);
        assert_eq!(
            Trailer::decode(&trailer.encode()).map(|trailer| trailer.about.maker),
            Some("a".to_owned() + &"ä".repeat(11))
        );
    }
}
