//! Which system calls an engine host makes once its guest runs, and why. Data; [`super::program`] turns it into a filter.
//!
//! What is not listed answers EPERM, because a rarely taken path of the C library deserves an error code more than
//! it deserves death. What is in [`NEVER`] kills the process: no code of ours leads there, so whoever comes there has
//! taken the host over.

use libc::c_long;
use skiff_engine::order::CodeKind;

/// What the filter does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    /// The call fails with this error.
    Fail(i32),
    /// The process is killed by SIGSYS.
    Kill,
}

/// The low half of one argument, masked, is one of these values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) values: &'static [u32],
}

/// What happens with one system call: [`Action::Allow`] if all checks hold, else `otherwise`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) call: c_long,
    pub(super) checks: &'static [Check],
    pub(super) otherwise: Action,
}

struct Allowed {
    call: c_long,
    checks: &'static [Check],
    otherwise: Action,
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "for the reader, and for the test that demands one"
        )
    )]
    reason: &'static str,
}

const fn allow(call: c_long, reason: &'static str) -> Allowed {
    Allowed {
        call,
        checks: &[],
        otherwise: Action::Allow,
        reason,
    }
}

const fn allow_if(
    call: c_long,
    checks: &'static [Check],
    otherwise: Action,
    reason: &'static str,
) -> Allowed {
    Allowed {
        call,
        checks,
        otherwise,
        reason,
    }
}

const REFUSED: Action = Action::Fail(libc::EPERM);

/// `prot` is the third argument of both calls. Compiled code was made executable before the filter is loaded.
const NOT_EXECUTABLE: &[Check] = &[Check {
    argument: 2,
    mask: 4,
    values: &[0],
}];
/// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_DUPFD_CLOEXEC`.
const PLAIN_FCNTL: &[Check] = &[Check {
    argument: 1,
    mask: u32::MAX,
    values: &[0, 1, 2, 3, 4, 1030],
}];
const ABORT: &[Check] = &[Check {
    argument: 2,
    mask: u32::MAX,
    values: &[6],
}];
/// `CLONE_VM` and `CLONE_THREAD` are set, nothing with `CLONE_NEW` in its name is.
const THREAD: &[Check] = &[Check {
    argument: 0,
    mask: 0x7e03_0100 | 0x80,
    values: &[0x0001_0100],
}];
/// `AF_INET`, `AF_INET6`; `SOCK_STREAM`, `SOCK_DGRAM` whatever their flags.
const INTERNET: &[Check] = &[
    Check {
        argument: 0,
        mask: u32::MAX,
        values: &[2, 10],
    },
    Check {
        argument: 1,
        mask: 0xf,
        values: &[1, 2],
    },
];

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
        Action::Kill,
        "linear memories, stacks, the allocator",
    ),
    allow_if(
        libc::SYS_mprotect,
        NOT_EXECUTABLE,
        Action::Kill,
        "growing linear memories, guard pages",
    ),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "memories that move, the allocator"),
    allow(libc::SYS_madvise, "giving memory back"),
    allow(libc::SYS_brk, "the allocator"),
    // Time, waiting, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
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
        Action::Kill,
        "helper threads for reads and writes that may block",
    ),
    // Its flags lie in memory, out of the filter's sight. libc falls back to clone.
    allow_if(
        libc::SYS_clone3,
        NOTHING,
        Action::Fail(libc::ENOSYS),
        "threads: answers that there is no such call",
    ),
    allow(libc::SYS_rseq, "threads: without it the C library gives up"),
    allow(
        libc::SYS_sched_getaffinity,
        "threads, how the C library describes their stacks",
    ),
    allow(libc::SYS_exit, "the end of a thread"),
];

/// Never true: an argument without any bits is not 1.
const NOTHING: &[Check] = &[Check {
    argument: 0,
    mask: 0,
    values: &[1],
}];

/// Calls that mean that the host has been taken over.
const NEVER: &[c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// The rules for a guest of this kind, one for each call, in the order of their numbers.
pub(super) fn actions(kind: CodeKind) -> Vec<Rule> {
    let more: &[Allowed] = match kind {
        CodeKind::Module => &[],
        CodeKind::Component => COMPONENT,
    };
    let allowed = ALWAYS.iter().chain(ALWAYS_HERE).chain(more);
    let mut rules: Vec<Rule> = allowed
        .map(
            |Allowed {
                 call,
                 checks,
                 otherwise,
                 ..
             }| Rule {
                call: *call,
                checks,
                otherwise: *otherwise,
            },
        )
        .chain(NEVER.iter().map(|call| Rule {
            call: *call,
            checks: &[],
            otherwise: Action::Kill,
        }))
        .collect();
    rules.sort_unstable_by_key(|rule| rule.call);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_one_rule_and_a_reason() {
        for kind in [CodeKind::Module, CodeKind::Component] {
            let rules = actions(kind);
            assert!(
                rules.is_sorted_by(|one, next| one.call < next.call),
                "a call has two rules: {rules:?}"
            );
        }
        assert!(
            ALWAYS
                .iter()
                .chain(ALWAYS_HERE)
                .chain(COMPONENT)
                .all(|allowed| !allowed.reason.is_empty())
        );
    }

    #[test]
    fn few_calls_are_allowed() {
        let never = |action: Action| action == Action::Fail(libc::ENOSYS) || action == Action::Kill;
        let count = |kind| {
            let rules = actions(kind);
            rules
                .iter()
                .filter(|rule| !rule.checks.is_empty() || !never(rule.otherwise))
                .count()
        };
        // clone3 is counted, and never allowed.
        assert!(count(CodeKind::Module) <= 46, "{}", count(CodeKind::Module));
        assert!(
            count(CodeKind::Component) <= 61,
            "{}",
            count(CodeKind::Component)
        );
    }
}
