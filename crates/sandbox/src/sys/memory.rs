//! Anonymous files that carry a message to a launched process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// A memory file with these bytes, sealed: nobody, root included, can change it any more.
///
/// # Errors
/// Memory cannot be had.
pub fn memfd_sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels from 6.3 on want to be told that the file is no program; older ones refuse the flag.
    let file = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut offset = 0;
    while offset < bytes.len() {
        let written = rustix::io::pwrite(&file, &bytes[offset..], offset as u64)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written;
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn sealed_bytes_can_be_read_and_not_changed() {
        let file = memfd_sealed("test", b"order").unwrap();
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::pread(&file, &mut bytes, 0).unwrap(), 5);
        assert_eq!(&bytes[..5], b"order");
        assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&file, 2), Err(Errno::PERM));
    }
}
