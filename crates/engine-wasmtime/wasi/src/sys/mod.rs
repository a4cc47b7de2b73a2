//! What has no safe wrapper: loading compiled code, descriptors in the event loop.
//! All unsafe code of the host is below here.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub mod code;

/// Registers `fd` with the event loop of the calling thread.
///
/// # Errors
/// `EPERM` for files that an event loop cannot wait for: regular ones, `/dev/null`.
pub fn watch_readable(fd: BorrowedFd<'static>) -> io::Result<AsyncFd<BorrowedFd<'static>>> {
    // SAFETY: a descriptor borrowed for the life of the program stays open and the same.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// Registers `fd` with the event loop of the calling thread, for as long as what is returned lives.
///
/// # Errors
/// As [`watch_readable`].
pub fn watch_own(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open and the same until it is dropped, which is after it was deregistered.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
