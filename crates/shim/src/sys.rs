//! What takes unsafe code: the making of the daemon, and watching a descriptor in the event loop.

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

/// Which of the two processes this is after [`fork`].
pub(crate) enum Fork {
    /// The one that was there before.
    Parent,
    /// The new one.
    Child,
}

/// `fork(2)`. For a process with one thread, which is what `start` is.
///
/// # Errors
/// The kernel has no process to give (`pids.max`, `RLIMIT_NPROC`, memory).
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the child of a process with several threads finds locks that nobody releases. `start` is called
    // by `main` before it makes a thread or an event loop, so that there are no others.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}
