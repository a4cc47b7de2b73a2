//! The worker's two files, known to it by their descriptors only.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use skiff_engine::module::{LARGEST, Refusal};

use crate::failure::Failure;

/// The whole of `file`, from its beginning, wherever its position is: others may share it.
pub(crate) fn read(file: &OwnedFd) -> Result<Vec<u8>, Failure> {
    let size = rustix::fs::fstat(file)
        .map_err(|error| Failure::Read(error.into()))?
        .st_size;
    let size = u64::try_from(size).unwrap_or(0);
    if size > LARGEST {
        return Err(Failure::Refused(Refusal::TooLarge));
    }
    let mut bytes =
        vec![0; usize::try_from(size).map_err(|_| Failure::Refused(Refusal::TooLarge))?];
    let mut filled = 0;
    while filled < bytes.len() {
        let offset = u64::try_from(filled).expect("less than the size");
        match rustix::io::pread(file, &mut bytes[filled..], offset) {
            // It has become shorter meanwhile; the shim's hash of it will not fit, and that is its concern.
            Ok(0) => bytes.truncate(filled),
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::Read(error.into())),
        }
    }
    Ok(bytes)
}

/// Writes all of `bytes` at the beginning of `file`.
pub(crate) fn write(file: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source: io::Error| Failure::Write {
        bytes: bytes.len(),
        source,
    };
    let mut written = 0;
    while written < bytes.len() {
        let offset = u64::try_from(written).expect("usize fits");
        match rustix::io::pwrite(file, &bytes[written..], offset) {
            Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Ok(length) => written += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn what_is_written_is_read_from_the_beginning() {
        let file = file();
        write(&file, b"some bytes").unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).unwrap();
        assert_eq!(read(&file).unwrap(), b"some bytes");
    }

    #[test]
    fn the_limit_is_known_before_anything_is_read() {
        let file = file();
        rustix::fs::ftruncate(&file, LARGEST + 1).unwrap();
        assert!(matches!(
            read(&file),
            Err(Failure::Refused(Refusal::TooLarge))
        ));
    }

    #[test]
    fn a_full_disk_is_a_sentence() {
        let full = rustix::fs::open(
            "/dev/full",
            rustix::fs::OFlags::WRONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let sentence = skiff_sandbox::sentence::chain(&write(&full, b"abc").unwrap_err());
        assert!(
            sentence.starts_with("could not write 3 bytes of compiled code: No space left"),
            "{sentence}"
        );
    }
}
