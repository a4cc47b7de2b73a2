//! Which system calls an engine may make, and why. What becomes of all others: [`own`].
//!
//! Nobody knows what a particular engine calls, so there is room for one that makes code at run time, has threads, opens
//! files by their paths and serves sockets. There is none for new programs or processes, and none for anything that
//! concerns mounts, namespaces, other processes or the machine.

use std::io;

use skiff_sandbox::filter::own::{
    self, ABORT, Allowed, INTERNET, REFUSED, THREAD, allow, allow_if, low, unknown,
};
use skiff_sandbox::filter::{Action, Condition};
use skiff_sandbox::plan::CONTROL_FD;

/// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_GETLK`, `F_SETLK`, `F_SETLKW`, `F_DUPFD_CLOEXEC`,
/// `F_ADD_SEALS`, `F_GET_SEALS`.
const PLAIN_FCNTL: &[Condition] = &[low(
    1,
    u32::MAX,
    &[0, 1, 2, 3, 4, 5, 6, 7, 1030, 1033, 1034],
)];
/// `TCGETS`, `TIOCGWINSZ`, `FIONREAD`, `FIONBIO`, `FIOCLEX`.
const PLAIN_IOCTL: &[Condition] = &[low(1, u32::MAX, &[0x5401, 0x5413, 0x541b, 0x5421, 0x5451])];
/// `AF_UNIX`.
const LOCAL: &[Condition] = &[low(0, u32::MAX, &[1])];
/// `PR_SET_NAME`, `PR_GET_NAME`, `PR_SET_VMA`.
const NAMES: &[Condition] = &[low(0, u32::MAX, &[15, 16, 0x5356_4d41])];

/// Of hosts and workers.
pub(crate) const COMMON: &[Allowed] = &[
    // Files and streams.
    allow(libc::SYS_read, "files, streams"),
    allow(libc::SYS_readv, "files, streams"),
    allow(libc::SYS_pread64, "files"),
    allow(libc::SYS_preadv, "files"),
    allow(libc::SYS_preadv2, "files"),
    allow(libc::SYS_write, "files, streams"),
    allow(libc::SYS_writev, "files, streams"),
    allow(libc::SYS_pwrite64, "files, the exit record"),
    allow(libc::SYS_pwritev, "files"),
    allow(libc::SYS_pwritev2, "files"),
    allow(libc::SYS_lseek, "files"),
    allow(libc::SYS_openat, "files"),
    allow(libc::SYS_openat2, "files"),
    allow(libc::SYS_close, "files"),
    allow(libc::SYS_close_range, "files"),
    allow(libc::SYS_dup, "streams"),
    allow(libc::SYS_dup3, "streams"),
    allow(libc::SYS_pipe2, "pipes between threads"),
    allow_if(
        libc::SYS_fcntl,
        PLAIN_FCNTL,
        REFUSED,
        "flags of open files, locks, memories that start as a copy",
    ),
    allow_if(
        libc::SYS_ioctl,
        PLAIN_IOCTL,
        REFUSED,
        "terminals, how much there is to read",
    ),
    allow(libc::SYS_flock, "files"),
    allow(libc::SYS_fstat, "files"),
    allow(libc::SYS_newfstatat, "files"),
    allow(libc::SYS_statx, "files"),
    allow(libc::SYS_fstatfs, "files"),
    allow(libc::SYS_statfs, "files"),
    allow(libc::SYS_faccessat, "files"),
    allow(libc::SYS_faccessat2, "files"),
    allow(libc::SYS_getdents64, "directories"),
    allow(libc::SYS_mkdirat, "directories"),
    allow(libc::SYS_unlinkat, "files, directories"),
    allow(libc::SYS_linkat, "links"),
    allow(libc::SYS_symlinkat, "links"),
    allow(libc::SYS_readlinkat, "links"),
    allow(libc::SYS_renameat2, "files"),
    allow(libc::SYS_ftruncate, "files"),
    allow(libc::SYS_fallocate, "files"),
    allow(libc::SYS_fadvise64, "files"),
    allow(libc::SYS_copy_file_range, "files"),
    allow(libc::SYS_sendfile, "files"),
    allow(libc::SYS_fsync, "files"),
    allow(libc::SYS_fdatasync, "files"),
    allow(libc::SYS_utimensat, "times of files"),
    allow(libc::SYS_fchmod, "modes of files"),
    allow(libc::SYS_fchmodat, "modes of files"),
    allow(libc::SYS_umask, "modes of new files"),
    allow(libc::SYS_getcwd, "relative paths"),
    allow(libc::SYS_chdir, "relative paths"),
    allow(libc::SYS_fchdir, "relative paths"),
    allow(libc::SYS_memfd_create, "memories that start as a copy"),
    // Memory. Code is made and run in it.
    allow(libc::SYS_mmap, "memories, code, the allocator"),
    allow(libc::SYS_mprotect, "memories that grow, code"),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "the allocator"),
    allow(libc::SYS_madvise, "giving memory back"),
    allow(libc::SYS_mincore, "memory"),
    allow(libc::SYS_brk, "the allocator"),
    allow(
        libc::SYS_membarrier,
        "new code, on processors that have to be told",
    ),
    // Threads.
    allow_if(
        libc::SYS_clone,
        THREAD,
        Action::KILL_PROCESS,
        "threads, and no processes",
    ),
    // Its flags lie in memory, out of the filter's sight. libc falls back to clone.
    unknown(libc::SYS_clone3, "threads"),
    allow(libc::SYS_rseq, "threads: without it the C library gives up"),
    allow(libc::SYS_set_robust_list, "threads"),
    allow(libc::SYS_set_tid_address, "threads"),
    allow(libc::SYS_sched_getaffinity, "how many threads"),
    allow(libc::SYS_sched_yield, "threads that look for work"),
    allow(libc::SYS_futex, "locks"),
    allow_if(
        libc::SYS_prctl,
        NAMES,
        REFUSED,
        "names of threads and of memory",
    ),
    allow(libc::SYS_prlimit64, "how large stacks are"),
    allow(libc::SYS_getrusage, "timers of compilers"),
    allow(libc::SYS_sysinfo, "how much memory there is"),
    allow(libc::SYS_exit, "the end of a thread"),
    // Time, waiting, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
    allow(libc::SYS_clock_getres, "clock_res_get"),
    allow(libc::SYS_clock_nanosleep, "sleeps"),
    allow(libc::SYS_nanosleep, "sleeps"),
    allow(libc::SYS_setitimer, "the limit of time"),
    allow(libc::SYS_ppoll, "waits"),
    allow(libc::SYS_pselect6, "waits"),
    allow(libc::SYS_epoll_create1, "the event loop"),
    allow(libc::SYS_epoll_ctl, "the event loop"),
    allow(libc::SYS_epoll_pwait, "the event loop"),
    allow(libc::SYS_epoll_pwait2, "the event loop"),
    allow(libc::SYS_eventfd2, "the event loop"),
    allow(libc::SYS_timerfd_create, "timers"),
    allow(libc::SYS_timerfd_settime, "timers"),
    allow(libc::SYS_timerfd_gettime, "timers"),
    allow(libc::SYS_getrandom, "random_get, the seeds of hash tables"),
    allow_if(
        libc::SYS_socketpair,
        LOCAL,
        REFUSED,
        "tokio's handling of signals",
    ),
    // Signals and the end.
    allow(libc::SYS_rt_sigaction, "handlers for traps"),
    allow(libc::SYS_rt_sigreturn, "after a trap's signal"),
    allow(libc::SYS_rt_sigprocmask, "around traps, threads, abort"),
    allow(
        libc::SYS_sigaltstack,
        "the stack on which signals are handled",
    ),
    allow(
        libc::SYS_restart_syscall,
        "sleeps that a signal interrupted",
    ),
    allow(libc::SYS_getpid, "abort"),
    allow(libc::SYS_gettid, "abort"),
    allow(libc::SYS_getuid, "who the engine is"),
    allow(libc::SYS_geteuid, "who the engine is"),
    allow(libc::SYS_getgid, "who the engine is"),
    allow(libc::SYS_getegid, "who the engine is"),
    allow(libc::SYS_uname, "the name of the machine"),
    allow_if(libc::SYS_tgkill, ABORT, REFUSED, "abort"),
    allow(libc::SYS_exit_group, "the end"),
];

/// Calls that only older machines have.
#[cfg(target_arch = "x86_64")]
pub(crate) const HERE: &[Allowed] = &[
    allow(libc::SYS_open, "files"),
    allow(libc::SYS_stat, "files"),
    allow(libc::SYS_lstat, "files"),
    allow(libc::SYS_access, "files"),
    allow(libc::SYS_unlink, "files"),
    allow(libc::SYS_rename, "files"),
    allow(libc::SYS_renameat, "files"),
    allow(libc::SYS_mkdir, "directories"),
    allow(libc::SYS_rmdir, "directories"),
    allow(libc::SYS_chmod, "modes of files"),
    allow(libc::SYS_link, "links"),
    allow(libc::SYS_symlink, "links"),
    allow(libc::SYS_readlink, "links"),
    allow(libc::SYS_dup2, "streams"),
    allow(libc::SYS_pipe, "pipes between threads"),
    allow(libc::SYS_poll, "waits"),
    allow(libc::SYS_select, "waits"),
    allow(libc::SYS_epoll_wait, "the event loop"),
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const HERE: &[Allowed] = &[];

/// Of hosts: the container's network. Its control socket is an open one.
pub(crate) const CONTAINER: &[Allowed] = &[
    allow_if(libc::SYS_socket, INTERNET, REFUSED, "sockets, name servers"),
    allow(libc::SYS_bind, "sockets"),
    allow(libc::SYS_connect, "sockets"),
    allow(libc::SYS_listen, "sockets"),
    allow(libc::SYS_accept, "sockets"),
    allow(libc::SYS_accept4, "sockets"),
    allow(libc::SYS_getsockname, "sockets"),
    allow(libc::SYS_getpeername, "sockets"),
    allow(libc::SYS_setsockopt, "sockets"),
    allow(libc::SYS_getsockopt, "sockets"),
    allow(libc::SYS_sendto, "sockets, the report to the shim"),
    allow(libc::SYS_sendmsg, "sockets"),
    allow(libc::SYS_sendmmsg, "name servers"),
    allow(libc::SYS_recvfrom, "sockets, the shim's word to go"),
    allow(libc::SYS_recvmsg, "sockets"),
    allow(libc::SYS_recvmmsg, "sockets"),
    allow(libc::SYS_shutdown, "sockets"),
];

/// Of workers.
const WORKER: &[Allowed] = &[allow_if(
    libc::SYS_sendto,
    &[low(0, u32::MAX, &[CONTROL_FD.unsigned_abs()])],
    REFUSED,
    "the report; the socket takes no other address than its peer's",
)];

/// Confines a worker's only thread, and all that it starts.
///
/// # Errors
/// The kernel takes no filter from a process that may still gain privileges, or takes none at all.
pub(crate) fn confine_worker() -> io::Result<()> {
    // The order's plan has done so already; without it the filter would need privileges.
    rustix::thread::set_no_new_privs(true)?;
    skiff_sandbox::sys::seccomp::load(&own::filter(&[COMMON, HERE, WORKER]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_has_one_rule_and_a_reason() {
        for last in [CONTAINER, WORKER] {
            let mut seen = BTreeSet::new();
            for allowed in [COMMON, HERE, last].into_iter().flatten() {
                assert!(seen.insert(allowed.call()), "two rules: {allowed:?}");
                assert!(!allowed.reason().is_empty(), "{allowed:?}");
            }
        }
    }

    #[test]
    fn an_engine_starts_no_program() {
        let listed: BTreeSet<_> = [COMMON, HERE, CONTAINER, WORKER]
            .into_iter()
            .flatten()
            .map(Allowed::call)
            .collect();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_kill,
        ] {
            assert!(!listed.contains(&call), "{call}");
        }
    }
}
