//! What takes unsafe code: the making of the daemon, its signals and memory, and watching a descriptor in the event
//! loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

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

/// Watches a descriptor that belongs to the watch.
///
/// # Errors
/// The event loop has no room, or the file is none that lets anybody wait.
pub(crate) fn watch_own(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as above. The `AsyncFd` owns the descriptor, and nobody takes it out or replaces it.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(io::Error::from)
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

/// What is said of SIGTERM and SIGINT, in the form of the log.
const IGNORED: &[u8] = b"level=info msg=\"a signal to end is ignored: the shim ends with its last container\" runtime=skiff\n";

extern "C" fn say_that_it_is_ignored(_signal: libc::c_int) {
    // SAFETY: no preconditions; the pointer is valid for the life of the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above. Whoever was interrupted finds its `errno` as it was.
    let before = unsafe { *errno };
    // SAFETY: write(2) may be called in a signal handler; the bytes are a constant.
    unsafe { libc::write(2, IGNORED.as_ptr().cast(), IGNORED.len()) };
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Lets SIGTERM and SIGINT do nothing but leave a line in the log. Not SIG_IGN, which containers would inherit.
///
/// # Errors
/// None are expected.
pub(crate) fn ignore_terminating_signals() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all bytes zero are a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = say_that_it_is_ignored as *const () as usize;
        // Calls that wait go on waiting.
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the action is initialised, and its handler calls nothing but write(2).
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The eventfd that the end of a child rings, by its number; -1 while nobody has asked for it.
static BELL: AtomicI32 = AtomicI32::new(-1);

extern "C" fn ring(_signal: libc::c_int) {
    // SAFETY: no preconditions; the pointer is valid for the life of the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above. Whoever was interrupted finds its `errno` as it was.
    let before = unsafe { *errno };
    let one = 1_u64;
    // SAFETY: write(2) may be called in a signal handler; the pointer is to 8 bytes, and the descriptor, which was
    // stored before the handler was set, is never closed. It does not wait.
    unsafe { libc::write(BELL.load(Ordering::Relaxed), (&raw const one).cast(), 8) };
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// A non-blocking eventfd that becomes readable when a child of this process ends. There is one, made when it is asked
/// for first.
///
/// # Errors
/// The process has no descriptors left.
pub(crate) fn child_bell() -> io::Result<BorrowedFd<'static>> {
    static OWNER: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(bell) = OWNER.get() {
        return Ok(bell.as_fd());
    }
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    let bell = OWNER.get_or_init({
        let made = rustix::event::eventfd(0, flags)?;
        || made
    });
    BELL.store(bell.as_raw_fd(), Ordering::Relaxed);
    // SAFETY: all bytes zero are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ring as *const () as usize;
    // Calls that wait go on waiting; a child that only stops is of no interest.
    action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
    // SAFETY: the action is initialised, and its handler calls nothing but write(2).
    if unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bell.as_fd())
}

/// Gives memory that is free back to the kernel: the C library keeps it otherwise.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions; what is in use is not touched.
    unsafe {
        libc::malloc_trim(0);
    }
}
