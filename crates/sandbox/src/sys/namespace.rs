//! What a namespace file is (`ioctl_nsfs(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `NS_GET_NSTYPE`: `_IO(0xb7, 0x3)` of `linux/nsfs.h`.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Whether a file is that of a mount namespace, and not any other file.
///
/// # Errors
/// None are expected.
pub fn is_of_mounts(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: this ioctl takes no argument and changes nothing; other files answer ENOTTY.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind >= 0 {
        return Ok(kind == libc::CLONE_NEWNS);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOTTY) => Ok(false),
        error => Err(error),
    }
}
