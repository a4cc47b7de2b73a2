//! Does the kernel have a system call? Asked by calling it in a way that it must refuse.

use std::io;

use rustix::io::Errno;

/// Calls `number` with `arguments` and returns the error; `None` when the call went through.
///
/// For existence probes only: every caller passes null pointers, zero sizes and descriptor -1, so that a
/// kernel that has the call answers EINVAL, EFAULT or EBADF, and one without it ENOSYS.
fn refused(number: libc::c_long, arguments: [usize; 5]) -> Option<Errno> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: all pointer arguments are null (see the callers below, the only ones), so the kernel
    // reads and writes no memory of this process; no descriptor of this process is named.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 {
        None
    } else {
        Errno::from_io_error(&io::Error::last_os_error())
    }
}

const NO_DESCRIPTOR: usize = usize::MAX;

/// `mount_setattr(2)`: refuses an attribute struct of size 0.
pub(super) fn mount_setattr() -> Option<Errno> {
    refused(libc::SYS_mount_setattr, [NO_DESCRIPTOR, 0, 0, 0, 0])
}

/// `clone3(2)`: refuses an argument struct of size 0.
pub(super) fn clone3() -> Option<Errno> {
    refused(libc::SYS_clone3, [0, 0, 0, 0, 0])
}

/// `close_range(2)`: refuses a range that ends before it begins.
pub(super) fn close_range() -> Option<Errno> {
    refused(libc::SYS_close_range, [1, 0, 0, 0, 0])
}

/// The Landlock ABI of the running kernel (`LANDLOCK_CREATE_RULESET_VERSION`), or why there is none.
pub(super) fn landlock_abi() -> Result<i64, Errno> {
    const VERSION: usize = 1;
    // SAFETY: with the version flag the first two arguments must be null and zero; nothing is read or
    // written, no descriptor is made.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, VERSION) };
    if result >= 0 {
        Ok(result)
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::NOSYS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_no_kernel_has_is_missing() {
        assert_eq!(refused(100_000, [0; 5]), Some(Errno::NOSYS));
    }

    #[test]
    fn probes_are_refused_and_do_nothing() {
        for (name, answer) in [
            ("mount_setattr", mount_setattr()),
            ("clone3", clone3()),
            ("close_range", close_range()),
        ] {
            assert!(answer.is_some(), "{name} went through");
        }
    }
}
