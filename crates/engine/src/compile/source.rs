//! A module's bytes on their way to the worker: copied once into sealed memory and hashed on the way, so
//! that what was hashed is what is compiled, whatever happens to the file they came from.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use sha2::{Digest, Sha256};

use crate::module::{Bytes, LARGEST};

/// A module could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// More bytes than any module may have.
    #[error("it is larger than {} MiB, the limit of a module", LARGEST >> 20)]
    TooLarge,
    /// The bytes do not have the digest by which they were asked for.
    #[error("its bytes have the digest sha256:{got}, not sha256:{expected}: pull the image again")]
    Digest {
        /// Asked for.
        expected: String,
        /// Found.
        got: String,
    },
    /// The kernel's answer to a read or to making the memory file.
    #[error("could not {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Bytes being collected.
#[derive(Debug)]
pub struct ModuleBuffer {
    file: File,
    hasher: Sha256,
    length: u64,
}

/// All bytes of a module, sealed.
#[derive(Debug)]
pub struct ModuleBytes {
    file: File,
    sha256: [u8; 32],
    length: u64,
}

impl ModuleBuffer {
    /// An empty one.
    ///
    /// # Errors
    /// When the kernel has no memory file to give.
    pub fn new() -> Result<Self, SourceError> {
        let file =
            rustix::fs::memfd_create(c"module", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .map_err(|error| SourceError::Io {
                    operation: "make a memory file",
                    source: error.into(),
                })?;
        Ok(Self {
            file: file.into(),
            hasher: Sha256::new(),
            length: 0,
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`SourceError::TooLarge`] beyond [`LARGEST`]; no memory.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.length = self
            .length
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.length > LARGEST {
            return Err(SourceError::TooLarge);
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(|source| SourceError::Io {
                operation: "copy it into memory",
                source,
            })
    }

    /// Seals them.
    ///
    /// # Errors
    /// When the kernel refuses the seals.
    pub fn finish(self) -> Result<ModuleBytes, SourceError> {
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&self.file, seals).map_err(|error| SourceError::Io {
            operation: "seal its copy in memory",
            source: error.into(),
        })?;
        Ok(ModuleBytes {
            file: self.file,
            sha256: self.hasher.finalize().into(),
            length: self.length,
        })
    }
}

impl ModuleBytes {
    /// Copies a file from its offset to its end. Blocking.
    ///
    /// # Errors
    /// As with [`ModuleBuffer::write`], and what reading answers.
    pub fn copy_of(mut from: impl Read) -> Result<Self, SourceError> {
        let mut buffer = ModuleBuffer::new()?;
        let mut chunk = vec![0; 128 * 1024];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return buffer.finish(),
                Ok(count) => buffer.write(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(SourceError::Io {
                        operation: "read it",
                        source,
                    });
                }
            }
        }
    }

    /// That they are the bytes of this digest.
    pub(super) fn check(&self, expected: &[u8; 32]) -> Result<(), SourceError> {
        if self.sha256 == *expected {
            return Ok(());
        }
        let hex = |digest: &[u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Err(SourceError::Digest {
            expected: hex(expected),
            got: hex(&self.sha256),
        })
    }

    /// Them in a descriptor of its own, for reading from their start.
    pub(super) fn reopen(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// How many they are.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Bytes for ModuleBytes {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
