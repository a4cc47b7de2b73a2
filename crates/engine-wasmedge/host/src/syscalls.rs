//! Which system calls the host makes once its guest runs, and why. Compiled code was made executable before.

use skiff_sandbox::filter::own::{
    ABORT, Allowed, INTERNET, NOT_EXECUTABLE, PLAIN_FCNTL, REFUSED, THREAD, allow, allow_if, low,
    unknown,
};
use skiff_sandbox::filter::{Action, Condition};

/// `FIONREAD`.
const BYTES_TO_READ: &[Condition] = &[low(1, u32::MAX, &[0x541b])];

/// On every machine.
pub(crate) const CALLS: &[Allowed] = &[
    // Files and streams.
    allow(libc::SYS_read, "streams"),
    allow(libc::SYS_readv, "fd_read"),
    allow(libc::SYS_preadv, "fd_pread"),
    allow(libc::SYS_pread64, "files"),
    allow(libc::SYS_write, "streams, messages of the host"),
    allow(libc::SYS_writev, "fd_write"),
    allow(libc::SYS_pwritev, "fd_pwrite"),
    allow(libc::SYS_pwrite64, "the exit record"),
    allow(libc::SYS_lseek, "fd_seek, fd_tell"),
    allow(libc::SYS_openat, "path_open, parts of paths"),
    allow(libc::SYS_close, "files"),
    allow(libc::SYS_dup, "the guest's streams"),
    allow_if(
        libc::SYS_fcntl,
        PLAIN_FCNTL,
        REFUSED,
        "flags of open files, second descriptors of them",
    ),
    allow(libc::SYS_fstat, "files"),
    allow(libc::SYS_newfstatat, "path_filestat_get"),
    allow(libc::SYS_statx, "files"),
    allow(
        libc::SYS_faccessat2,
        "whether a directory can be searched, before each path",
    ),
    allow_if(
        libc::SYS_ioctl,
        BYTES_TO_READ,
        REFUSED,
        "poll_oneoff: how much there is to read",
    ),
    allow(libc::SYS_getdents64, "fd_readdir"),
    allow(libc::SYS_mkdirat, "path_create_directory"),
    allow(
        libc::SYS_unlinkat,
        "path_unlink_file, path_remove_directory",
    ),
    allow(libc::SYS_linkat, "path_link"),
    allow(libc::SYS_symlinkat, "path_symlink"),
    allow(libc::SYS_readlinkat, "path_readlink"),
    allow(libc::SYS_ftruncate, "fd_filestat_set_size"),
    allow(libc::SYS_fallocate, "fd_allocate"),
    allow(
        libc::SYS_fstatfs,
        "fd_allocate where the file system cannot do it",
    ),
    allow(libc::SYS_fadvise64, "fd_advise"),
    allow(libc::SYS_fsync, "fd_sync"),
    allow(libc::SYS_fdatasync, "fd_datasync"),
    allow(libc::SYS_utimensat, "times of files"),
    allow(libc::SYS_renameat, "path_rename"),
    // Sockets, which WasmEdge gives to modules of WASI p1 too, and name servers.
    allow_if(
        libc::SYS_socket,
        INTERNET,
        REFUSED,
        "sock_open, name servers",
    ),
    allow(libc::SYS_bind, "sock_bind"),
    allow(libc::SYS_connect, "sock_connect"),
    allow(libc::SYS_listen, "sock_listen"),
    allow(libc::SYS_accept, "sock_accept"),
    allow(libc::SYS_accept4, "sock_accept"),
    allow(libc::SYS_getsockname, "sock_getlocaladdr"),
    allow(libc::SYS_getpeername, "sock_getpeeraddr"),
    allow(libc::SYS_setsockopt, "sock_setsockopt"),
    allow(libc::SYS_getsockopt, "sock_getsockopt"),
    allow(libc::SYS_sendto, "sock_send_to"),
    allow(libc::SYS_sendmsg, "sock_send"),
    allow(libc::SYS_recvfrom, "sock_recv_from"),
    allow(libc::SYS_recvmsg, "sock_recv"),
    allow(libc::SYS_shutdown, "sock_shutdown"),
    // Memory.
    allow_if(
        libc::SYS_mmap,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "linear memories, the allocator",
    ),
    allow_if(
        libc::SYS_mprotect,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "growing linear memories",
    ),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "the allocator"),
    allow(libc::SYS_madvise, "giving memory back"),
    allow(libc::SYS_brk, "the allocator"),
    // Time, waiting, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
    allow(libc::SYS_clock_getres, "clock_res_get"),
    allow(libc::SYS_clock_nanosleep, "sleeps"),
    allow(libc::SYS_ppoll, "waits"),
    allow(libc::SYS_epoll_create1, "poll_oneoff, the event loop"),
    allow(libc::SYS_epoll_ctl, "poll_oneoff, the event loop"),
    allow(libc::SYS_epoll_pwait, "poll_oneoff, the event loop"),
    allow(libc::SYS_eventfd2, "the event loop of a lookup"),
    allow(libc::SYS_timerfd_create, "poll_oneoff"),
    allow(libc::SYS_timerfd_settime, "poll_oneoff"),
    allow(libc::SYS_futex, "locks"),
    allow(libc::SYS_sched_yield, "sched_yield"),
    allow(libc::SYS_getrandom, "random_get"),
    // Signals and the end.
    allow(libc::SYS_rt_sigaction, "traps: handlers around each call"),
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

/// Calls that only older machines have.
#[cfg(target_arch = "x86_64")]
pub(crate) const HERE: &[Allowed] = &[
    allow(libc::SYS_epoll_wait, "poll_oneoff, the event loop"),
    allow(libc::SYS_poll, "waits"),
    allow(libc::SYS_unlink, "path_unlink_file"),
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const HERE: &[Allowed] = &[];

/// Where the handler has plugins: they may calculate in threads of their own.
pub(crate) const OF_PLUGINS: &[Allowed] = &[
    allow_if(
        libc::SYS_clone,
        THREAD,
        Action::KILL_PROCESS,
        "threads, and no processes",
    ),
    unknown(libc::SYS_clone3, "threads"),
    allow(libc::SYS_rseq, "threads: without it the C library gives up"),
    allow(libc::SYS_set_robust_list, "threads"),
    allow(libc::SYS_sched_getaffinity, "how many threads"),
    allow(libc::SYS_sched_setaffinity, "where they run"),
    allow(libc::SYS_getcpu, "where they run"),
    allow(libc::SYS_exit, "the end of a thread"),
    allow(libc::SYS_prlimit64, "how large stacks are"),
    allow(libc::SYS_sysinfo, "how much memory there is"),
];
