//! What the worker writes and the host reads: the module, or what the engine's compiler made of it.
//!
//! The node's cache keeps it, with bytes of its own behind it: its length stands in front.
//!
//! | offset | what |
//! |--|--|
//! | 0 | magic |
//! | 8 | 1 if the engine's compiler made it, 0 if it is the module |
//! | 16 | the module's size, 8 bytes, little endian |
//! | 24 | the length of what follows the header, likewise |
//! | 32 | the module's SHA-256 |
//! | 64 | the code |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const MAGIC: &[u8; 8] = b"skiff-rw";
const HEADER: usize = 64;

/// A module's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the module.
    pub(crate) sha256: [u8; 32],
    /// Of the module, in bytes.
    pub(crate) size: u64,
    /// `code` comes from the engine's compiler.
    pub(crate) is_compiled: bool,
    /// The bytes that the engine is given.
    pub(crate) code: Vec<u8>,
}

impl Entry {
    /// What stands in front of the code.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8] = u8::from(self.is_compiled);
        header[16..24].copy_from_slice(&self.size.to_le_bytes());
        header[24..32].copy_from_slice(&(self.code.len() as u64).to_le_bytes());
        header[32..].copy_from_slice(&self.sha256);
        header
    }

    /// Reads one.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if header[..8] != *MAGIC {
            return Err(io::Error::other(
                "it was not written by this engine's worker",
            ));
        }
        // A file that says more than it has ends the reading, before memory is taken for it.
        let length = number(24).min(file.metadata()?.len());
        let mut code = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut code, HEADER as u64)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&header[32..]);
        Ok(Self {
            sha256,
            size: number(16),
            is_compiled: header[8] == 1,
            code,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn an_entry_ends_before_what_the_cache_adds() {
        let entry = Entry {
            sha256: [7; 32],
            size: 123,
            is_compiled: true,
            code: b"some code".to_vec(),
        };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&entry.header()).unwrap();
        file.write_all(&entry.code).unwrap();
        file.write_all(b"a trailer").unwrap();
        assert_eq!(Entry::read(&file).unwrap(), entry);
        file.set_len(70).unwrap();
        Entry::read(&file).unwrap_err();
        file.set_len(0).unwrap();
        Entry::read(&file).unwrap_err();
        file.write_all_at(&[b'x'; 100], 0).unwrap();
        Entry::read(&file).unwrap_err();
    }
}
