//! What a namespace file is (`ioctl_nsfs(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `NS_GET_NSTYPE`: `_IO(0xb7, 0x3)` of `linux/nsfs.h`.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

use crate::plan::Namespace;

/// Whether a file is a namespace of this kind, and not any other file.
///
/// # Errors
/// None are expected.
pub fn is(file: BorrowedFd<'_>, expected: Namespace) -> io::Result<bool> {
    // SAFETY: this ioctl takes no argument and changes nothing; other files answer ENOTTY.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind >= 0 {
        let expected = match expected {
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
            Namespace::Network => libc::CLONE_NEWNET,
            Namespace::Cgroup => libc::CLONE_NEWCGROUP,
            Namespace::Time => libc::CLONE_NEWTIME,
            Namespace::Mount => libc::CLONE_NEWNS,
        };
        return Ok(kind == expected);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOTTY) => Ok(false),
        error => Err(error),
    }
}
