//! Becoming another program.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Replaces the process by the program that `program` is open on. Returns only when it cannot.
pub fn execute_fd(program: BorrowedFd<'_>, args: &[&CStr], environment: &[&CStr]) -> io::Error {
    let args = pointers(args);
    let environment = pointers(environment);
    // Rust's start ignores it, and what is ignored stays so over exec: `yes | head` would never end.
    // SAFETY: the default action runs no code of this process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: both vectors end with a null pointer and their strings, borrowed by the caller, outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Replaces the process by the program at `path`, which may be a script. Returns only when it cannot.
pub fn execute_path(path: &CStr, args: &[&CStr], environment: &[&CStr]) -> io::Error {
    let args = pointers(args);
    let environment = pointers(environment);
    // SAFETY: as in `execute_fd`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the path ends with NUL; the vectors as in `execute_fd`.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// The strings' addresses and a null pointer, as exec takes them.
pub(crate) fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}
