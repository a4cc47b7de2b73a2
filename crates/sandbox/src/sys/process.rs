//! Processes by pidfd, and what a process can change of itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{WaitId, WaitIdOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::plan::{Namespace, NewNamespaces, Rlimit};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The code that a shell gives it: the exit code, or 128 and the signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// The end of a child, if it has ended: its exit status. The zombie is reaped.
///
/// # Errors
/// `ECHILD` if it is no child of this process or was reaped before.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    waitid(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the end of a child. The zombie is reaped.
///
/// # Errors
/// As [`try_wait`].
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = waitid(pidfd, WaitIdOptions::EXITED)? {
            return Ok(status);
        }
    }
}

fn waitid(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
    let status = loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    Ok(status.map(
        |status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(byte(code)),
            (None, Some(signal)) => ExitStatus::Signal(byte(signal)),
            // Only WEXITED was asked for: an end is a code or a signal.
            (None, None) => ExitStatus::Code(u8::MAX),
        },
    ))
}

/// Sends signal `number` to a process. Real-time signals too, which have no names.
///
/// # Errors
/// `ESRCH` when it has ended, `EINVAL` for numbers that are no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means the same as kill(2) would send; nothing else is a pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            none,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A pidfd of a process that is not a child. Between learning the number and this call the process may have
/// ended and another may have its number: check what identifies it afterwards.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(rustix::io::Errno::SRCH))?;
    Ok(rustix::process::pidfd_open(
        pid,
        rustix::process::PidfdFlags::empty(),
    )?)
}

/// Enters the namespace of kind `kind` that `namespace` refers to.
///
/// # Errors
/// `EINVAL` if it is of another kind, `EPERM` without rights over it.
pub fn enter(namespace: BorrowedFd<'_>, kind: Namespace) -> io::Result<()> {
    let kind = match kind {
        Namespace::User => LinkNameSpaceType::User,
        Namespace::Pid => LinkNameSpaceType::ProcessID,
        Namespace::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Namespace::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Namespace::Network => LinkNameSpaceType::Network,
        Namespace::Cgroup => LinkNameSpaceType::ControlGroup,
        Namespace::Time => LinkNameSpaceType::Time,
        Namespace::Mount => LinkNameSpaceType::Mount,
    };
    Ok(rustix::thread::move_into_link_name_space(
        namespace,
        Some(kind),
    )?)
}

/// Enters namespaces of the process that `pidfd` refers to, all at once.
///
/// # Errors
/// `ESRCH` when it has ended, `EPERM` without rights over one of them.
pub fn enter_all(pidfd: BorrowedFd<'_>, kinds: NewNamespaces) -> io::Result<()> {
    // Which the kernel takes for a mistake.
    if kinds.is_empty() {
        return Ok(());
    }
    // SAFETY: no pointers; only namespace flags can come out of `clone_flags`.
    let result = unsafe { libc::syscall(libc::SYS_setns, pidfd.as_raw_fd(), clone_flags(kinds)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Others of the same user get at neither the process's memory nor its descriptors, until it executes a program.
///
/// # Errors
/// None are expected.
pub fn hide() -> io::Result<()> {
    use rustix::process::DumpableBehavior;
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

/// Children of this process are gone when they end: nobody has to wait for them. For one that is PID 1 of a pid
/// namespace, where whoever loses its parent becomes its child, and that executes no other program: it would
/// inherit this.
///
/// # Errors
/// None are expected.
pub fn ignore_children() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of this process.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The `CLONE_NEW…` flags of a set of namespaces.
pub(crate) fn clone_flags(new: NewNamespaces) -> u32 {
    let flags = [
        (Namespace::User, UnshareFlags::NEWUSER),
        (Namespace::Pid, UnshareFlags::NEWPID),
        (Namespace::Ipc, UnshareFlags::NEWIPC),
        (Namespace::Uts, UnshareFlags::NEWUTS),
        (Namespace::Network, UnshareFlags::NEWNET),
        (Namespace::Cgroup, UnshareFlags::NEWCGROUP),
        (Namespace::Time, UnshareFlags::NEWTIME),
        (Namespace::Mount, UnshareFlags::NEWNS),
    ];
    flags
        .into_iter()
        .filter(|(kind, _)| new.contains(*kind))
        .fold(0, |all, (_, flag)| all | flag.bits())
}

/// Moves the calling thread into new namespaces.
///
/// # Errors
/// `EPERM` without the right, `ENOSPC` when a limit of namespaces is reached.
pub fn unshare(new: NewNamespaces) -> io::Result<()> {
    // SAFETY: only namespace flags can come out of `clone_flags`; descriptors and memory stay shared as they are.
    let result = unsafe { libc::syscall(libc::SYS_unshare, clone_flags(new)) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the calling thread a mount namespace, and a root and working directory, of its own.
///
/// # Errors
/// `EPERM` without the right.
pub fn unshare_mounts_of_thread() -> io::Result<()> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS;
    // SAFETY: descriptors and memory stay shared; what is not shared any more belongs to no other thread.
    let result = unsafe { libc::syscall(libc::SYS_unshare, flags.bits()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How many processors this machine has, also those that are off.
pub fn processors() -> usize {
    // SAFETY: it takes a number and answers one.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(count).unwrap_or(1)
}

/// Lets the calling thread run on one processor only.
///
/// # Errors
/// `EINVAL` for a processor that is not there.
pub fn pin_thread(processor: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The kernel kills the process with SIGKILL when the thread that launched it ends.
///
/// Changing user or group ids undoes it: call it again after that.
///
/// # Errors
/// None are expected.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        rustix::process::Signal::KILL,
    ))?)
}

/// Sets a limit of the process by its number.
///
/// # Errors
/// `EPERM` for a hard limit above the present one without `CAP_SYS_RESOURCE`.
pub fn set_limit(limit: Rlimit) -> io::Result<()> {
    let value = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: pid 0 is the caller, the new limit is initialised and outlives the call, the old one is not asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            limit.resource,
            &raw const value,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A limit of this process, soft and hard.
///
/// # Errors
/// `EINVAL` for a number that the kernel does not know.
pub(crate) fn limit(resource: u32) -> io::Result<libc::rlimit64> {
    let mut value = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let none = std::ptr::null::<libc::rlimit64>();
    // SAFETY: pid 0 is the caller, no new limit is given, and the old one is written to a local of its size.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut value) };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Exactly these supplementary groups.
///
/// # Errors
/// `EINVAL` for too many, or for one without a mapping in the user namespace.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice, of which the kernel reads.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Real, effective and saved group id.
///
/// # Errors
/// `EINVAL` for an id without a mapping in the user namespace.
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: no pointers. Threads of the C library would keep the old id: only processes with one thread call it.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Real, effective and saved user id.
///
/// # Errors
/// `EINVAL` for an id without a mapping in the user namespace.
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: as in `set_gid`.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes ownership of an inherited descriptor, which from then on is not inherited any further.
///
/// Only for the numbers that [`crate::plan`] gives to the descriptors of a launched process: the launch put
/// them there, before anything else in the process could open a file.
///
/// # Errors
/// `EBADF` if it is not open, or was taken before.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let gone = || io::Error::from(rustix::io::Errno::BADF);
    // Two owners would close each other's files: the second is refused.
    let index = usize::try_from(number).map_err(|_| gone())?;
    let word = ADOPTED.get(index / 64).ok_or_else(gone)?;
    let bit = 1 << (index % 64);
    rustix::io::fcntl_setfd(inherited(number)?, rustix::io::FdFlags::CLOEXEC)?;
    if word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(gone());
    }
    // SAFETY: open, as the call above has shown; put there for this process to own by whoever launched it,
    // and given away here no more than once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// One bit for each number that [`adopt`] has given away.
static ADOPTED: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// Borrows an inherited descriptor by its number, for as long as the process lives.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn inherited(number: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: used for one call that tells whether the number is open.
    let borrowed = unsafe { BorrowedFd::<'static>::borrow_raw(number) };
    rustix::io::fcntl_getfd(borrowed)?;
    Ok(borrowed)
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// None are expected.
pub fn close_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no pointers; the caller gives up what is open there.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits until `file` is readable or its other end is gone; `false` after `timeout`.
///
/// # Errors
/// None are expected.
pub fn wait_readable(
    file: BorrowedFd<'_>,
    timeout: Option<std::time::Duration>,
) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
    loop {
        let left =
            deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        let left = left.map(|left| rustix::time::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let file = file.as_fd();
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
