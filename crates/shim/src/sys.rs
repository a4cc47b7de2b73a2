//! The one thing that takes unsafe code: watching a descriptor in the event loop.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for becoming readable: a pidfd does when its process ends.
///
/// # Errors
/// The event loop has no room.
pub(crate) fn watch_readable(file: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the descriptor must stay open, and stay the same, for as long as the `AsyncFd` lives. The
    // borrow, which the `AsyncFd` holds, keeps its owner from closing or replacing it.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(io::Error::from)
}
