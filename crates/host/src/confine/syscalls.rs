//! Which system calls an engine host makes once its guest runs, and why. Data; [`skiff_sandbox::filter::own`] turns it
//! into a filter, and says what becomes of all other calls. Compiled code was made executable before.

use skiff_engine::order::CodeKind;
use skiff_sandbox::filter::own::{
    ABORT, Allowed, INTERNET, NOT_EXECUTABLE, PLAIN_FCNTL, REFUSED, THREAD, allow, allow_if, low,
    unknown,
};
use skiff_sandbox::filter::{Action, Condition};

/// `PAGEMAP_SCAN`, of the process' own page map.
const PAGEMAP_SCAN: &[Condition] = &[low(1, u32::MAX, &[0xc060_6610])];

/// For every guest.
const ALWAYS: &[Allowed] = &[
    // Files and streams.
    allow(libc::SYS_read, "standard input"),
    allow(
        libc::SYS_write,
        "standard output and error, messages of the host",
    ),
    allow(
        libc::SYS_pread64,
        "reading files; guests keep their own positions",
    ),
    allow(libc::SYS_pwrite64, "writing files, the exit record"),
    allow(libc::SYS_pwritev2, "files opened for appending"),
    allow(libc::SYS_openat, "parts of paths, directories"),
    allow(
        libc::SYS_openat2,
        "every open of a guest, kept beneath its directory by the kernel",
    ),
    allow(libc::SYS_close, "files"),
    allow_if(
        libc::SYS_fcntl,
        PLAIN_FCNTL,
        REFUSED,
        "flags of open files, second descriptors of them",
    ),
    allow(libc::SYS_fstat, "files"),
    allow(libc::SYS_statx, "files"),
    allow(libc::SYS_getdents64, "reading directories"),
    allow(libc::SYS_mkdirat, "path_create_directory"),
    allow(
        libc::SYS_unlinkat,
        "path_unlink_file, path_remove_directory",
    ),
    allow(libc::SYS_linkat, "path_link"),
    allow(libc::SYS_symlinkat, "path_symlink"),
    allow(libc::SYS_readlinkat, "path_readlink"),
    allow(libc::SYS_ftruncate, "fd_filestat_set_size"),
    allow(libc::SYS_fadvise64, "fd_advise"),
    allow(libc::SYS_fsync, "fd_sync"),
    allow(libc::SYS_fdatasync, "fd_datasync"),
    allow(libc::SYS_utimensat, "times of files"),
    // Memory.
    allow_if(
        libc::SYS_mmap,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "linear memories, stacks, the allocator",
    ),
    allow_if(
        libc::SYS_mprotect,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "growing linear memories, guard pages",
    ),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "memories that move, the allocator"),
    allow(libc::SYS_madvise, "giving memory back"),
    allow(libc::SYS_brk, "the allocator"),
    // Time, waiting, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
    allow(
        libc::SYS_clock_getres,
        "clock_res_get, wasi:clocks: the steps of clocks",
    ),
    allow(libc::SYS_clock_nanosleep, "poll_oneoff with a clock alone"),
    allow(libc::SYS_ppoll, "whether standard streams are ready"),
    allow(libc::SYS_epoll_ctl, "the event loop"),
    allow(libc::SYS_futex, "locks"),
    allow(libc::SYS_getrandom, "random_get"),
    // Signals and the end.
    allow(libc::SYS_rt_sigreturn, "after a trap's signal"),
    allow(libc::SYS_rt_sigprocmask, "around traps, abort"),
    allow(
        libc::SYS_sigaltstack,
        "the stack on which signals are handled",
    ),
    allow(
        libc::SYS_restart_syscall,
        "sleeps that a signal interrupted",
    ),
    allow(libc::SYS_getpid, "who sent SIGPIPE, abort"),
    allow(libc::SYS_gettid, "abort"),
    allow_if(libc::SYS_tgkill, ABORT, REFUSED, "abort"),
    allow(libc::SYS_exit_group, "the end"),
];

/// Calls that go by other names on newer machines.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[Allowed] = &[
    allow(libc::SYS_renameat, "path_rename"),
    allow(libc::SYS_epoll_wait, "the event loop"),
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[Allowed] = &[
    allow(libc::SYS_renameat2, "path_rename"),
    allow(libc::SYS_epoll_pwait, "the event loop"),
];

/// For components, which have sockets and, where they wait for files and sockets together, helper threads.
const COMPONENT: &[Allowed] = &[
    allow_if(
        libc::SYS_socket,
        INTERNET,
        REFUSED,
        "wasi:sockets, name servers",
    ),
    allow(libc::SYS_bind, "wasi:sockets"),
    allow(libc::SYS_connect, "wasi:sockets"),
    allow(libc::SYS_listen, "wasi:sockets"),
    allow(libc::SYS_accept4, "wasi:sockets"),
    allow(libc::SYS_getsockname, "wasi:sockets"),
    allow(libc::SYS_getpeername, "wasi:sockets"),
    allow(libc::SYS_setsockopt, "wasi:sockets"),
    allow(libc::SYS_getsockopt, "wasi:sockets"),
    allow(libc::SYS_sendto, "wasi:sockets"),
    allow(libc::SYS_recvfrom, "wasi:sockets"),
    allow(libc::SYS_shutdown, "wasi:sockets"),
    allow_if(
        libc::SYS_clone,
        THREAD,
        Action::KILL_PROCESS,
        "helper threads for reads and writes that may block",
    ),
    // Its flags lie in memory, out of the filter's sight. libc falls back to clone.
    unknown(libc::SYS_clone3, "threads"),
    allow(libc::SYS_rseq, "threads: without it the C library gives up"),
    allow(
        libc::SYS_sched_getaffinity,
        "threads, how the C library describes their stacks",
    ),
    allow(libc::SYS_exit, "the end of a thread"),
];

/// For services, whose host has a thread with an event loop for each processor, and answers many clients.
const SERVICE: &[Allowed] = &[
    allow(libc::SYS_epoll_create1, "the event loop of a thread"),
    allow(libc::SYS_eventfd2, "waking the event loop of a thread"),
    allow(
        libc::SYS_set_robust_list,
        "threads, as the C library makes them",
    ),
    allow(libc::SYS_writev, "head and body of an answer in one piece"),
    allow_if(
        libc::SYS_ioctl,
        PAGEMAP_SCAN,
        REFUSED,
        "which pages an instance has written to, when its memory is wiped for the next",
    ),
];

/// The calls that are made for a guest of this kind.
pub(super) fn lists(kind: CodeKind) -> [&'static [Allowed]; 4] {
    let (more, still_more): (&[Allowed], &[Allowed]) = match kind {
        CodeKind::Module => (&[], &[]),
        CodeKind::Component => (COMPONENT, &[]),
        CodeKind::Service => (COMPONENT, SERVICE),
    };
    [ALWAYS, ALWAYS_HERE, more, still_more]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_one_rule_and_a_reason() {
        for kind in [CodeKind::Module, CodeKind::Component, CodeKind::Service] {
            let mut seen = std::collections::BTreeSet::new();
            for allowed in lists(kind).into_iter().flatten() {
                assert!(seen.insert(allowed.call()), "two rules: {allowed:?}");
                assert!(!allowed.reason().is_empty(), "{allowed:?}");
            }
        }
    }

    #[test]
    fn few_calls_are_allowed() {
        let count = |kind| {
            let all = lists(kind).into_iter().flatten();
            all.filter(|allowed| allowed.is_carried_out()).count()
        };
        assert!(count(CodeKind::Module) <= 46, "{}", count(CodeKind::Module));
        assert!(
            count(CodeKind::Component) <= 61,
            "{}",
            count(CodeKind::Component)
        );
        assert!(
            count(CodeKind::Service) <= 67,
            "{}",
            count(CodeKind::Service)
        );
    }
}
