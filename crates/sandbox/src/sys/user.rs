//! A child that has ended, in a user namespace: as long as it is not reaped, `/proc` shows the namespace and takes
//! its maps.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::clone::{SignalMask, Stack};
use crate::orphans;

/// The child. Reaped when dropped.
pub(crate) struct Ended {
    pid: Pid,
}

impl Ended {
    /// In a new user namespace, without maps.
    pub(crate) fn in_new_namespace() -> io::Result<Self> {
        Self::clone(libc::CLONE_NEWUSER, -1)
    }

    /// In a user namespace that is there.
    pub(crate) fn in_namespace(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        Self::clone(0, namespace.as_raw_fd())
    }

    fn clone(flags: libc::c_int, namespace: libc::c_int) -> io::Result<Self> {
        let stack = Stack::new()?;
        // A handler of this process must not run in the child: it would do so in this memory.
        let mask = SignalMask::block_all()?;
        let argument =
            std::ptr::without_provenance_mut::<libc::c_void>(namespace.cast_unsigned() as usize);
        let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let mut error = None;
        let [pid] = orphans::cloning(|| {
            // SAFETY: the stack is the child's own and outlives it (CLONE_VFORK); the argument is a number.
            let pid = unsafe { libc::clone(child, stack.top(), flags, argument) };
            error = (pid < 0).then(io::Error::last_os_error);
            [i64::from(pid)]
        });
        drop(mask);
        if let Some(error) = error {
            return Err(error);
        }
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let child = Self {
            pid: pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?,
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(child.pid), options)?;
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(child),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// The user namespace in which it ended.
    pub(crate) fn namespace(&self) -> io::Result<OwnedFd> {
        Ok(File::open(self.path("ns/user"))?.into())
    }

    /// Writes a file of its directory in `/proc`, with one call.
    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let mut file = File::options().write(true).open(self.path(file))?;
        if file.write(text.as_bytes())? == text.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Reads a file of its directory in `/proc`.
    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(self.path(file))
    }

    /// Its number is its own until it is reaped.
    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
            log::warn!("could not reap a child in a user namespace: {error}");
        }
    }
}

/// Enters a namespace if there is one, and ends; the exit code is the error's number. It runs in its parent's memory:
/// system calls only.
extern "C" fn child(namespace: *mut libc::c_void) -> libc::c_int {
    let Ok(namespace) = u32::try_from(namespace.addr()) else {
        return libc::EINVAL;
    };
    let namespace = namespace.cast_signed();
    if namespace < 0 {
        return 0;
    }
    // SAFETY: no pointers; the credentials are this process's own.
    let result = unsafe { libc::syscall(libc::SYS_setns, namespace, libc::CLONE_NEWUSER) };
    if result == 0 {
        return 0;
    }
    // SAFETY: no arguments; the area is that of the parent's thread, which waits.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address of an integer that nobody else uses now.
    unsafe { *errno }
}
