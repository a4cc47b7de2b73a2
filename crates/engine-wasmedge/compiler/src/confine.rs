//! Which system calls the worker makes once it looks at a module, and why: a module may be made to attack the compiler.
//!
//! LLVM and its linker read and write files; there are none but their own in the worker's root. There is no network
//! and no privilege, and nothing is executed: [`own`] says what becomes of calls that are not listed.

use std::io;

use skiff_sandbox::filter::Action;
use skiff_sandbox::filter::own::{
    self, ABORT, Allowed, NOT_EXECUTABLE, REFUSED, THREAD, allow, allow_if, low, unknown,
};
use skiff_sandbox::plan::CONTROL_FD;

const CALLS: &[Allowed] = &[
    // Files: the two descriptors, and those of the compiler and the linker in their own root.
    allow(libc::SYS_read, "the module, the object file"),
    allow(libc::SYS_pread64, "files"),
    allow(libc::SYS_write, "the code, messages"),
    allow(libc::SYS_writev, "the code"),
    allow(libc::SYS_pwrite64, "the code"),
    allow(libc::SYS_lseek, "files"),
    allow(libc::SYS_openat, "files"),
    allow(libc::SYS_close, "files"),
    allow(libc::SYS_fstat, "files"),
    allow(libc::SYS_newfstatat, "files"),
    allow(libc::SYS_statx, "files"),
    allow(libc::SYS_fstatfs, "whether a file can be mapped"),
    allow(libc::SYS_ftruncate, "the linker's output"),
    allow(libc::SYS_fallocate, "the linker's output"),
    allow(libc::SYS_unlinkat, "the object file"),
    allow(libc::SYS_fcntl, "flags of open files"),
    allow(libc::SYS_umask, "modes of new files"),
    allow(libc::SYS_fchmod, "the linker's output"),
    allow(libc::SYS_getcwd, "relative paths"),
    allow_if(
        libc::SYS_sendto,
        &[low(0, u32::MAX, &[CONTROL_FD.unsigned_abs()])],
        REFUSED,
        "the report; the socket takes no other address than its peer's",
    ),
    // Memory. The code is compiled here, and never run.
    allow_if(
        libc::SYS_mmap,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "stacks, the allocator, files",
    ),
    allow_if(
        libc::SYS_mprotect,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "guard pages, the allocator",
    ),
    allow(libc::SYS_munmap, "memory"),
    allow(libc::SYS_mremap, "the allocator"),
    allow(libc::SYS_madvise, "giving memory back"),
    allow(libc::SYS_brk, "the allocator"),
    // Threads of the linker.
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
    allow(libc::SYS_sched_yield, "threads that look for work"),
    allow(libc::SYS_futex, "locks"),
    allow(libc::SYS_exit, "the end of a thread"),
    allow(libc::SYS_prlimit64, "how large stacks are"),
    allow(libc::SYS_sysinfo, "how much memory there is"),
    // Time, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
    allow(libc::SYS_getrusage, "the compiler's own timers"),
    allow(libc::SYS_getrandom, "the seeds of hash tables"),
    // Signals and the end.
    allow(libc::SYS_rt_sigaction, "handlers of the compiler"),
    allow(libc::SYS_rt_sigreturn, "after a handler"),
    allow(libc::SYS_rt_sigprocmask, "threads, abort"),
    allow(
        libc::SYS_sigaltstack,
        "the stack on which signals are handled",
    ),
    allow(libc::SYS_restart_syscall, "waits that a signal interrupted"),
    allow(libc::SYS_getpid, "abort, names of files"),
    allow(libc::SYS_gettid, "abort"),
    allow_if(libc::SYS_tgkill, ABORT, REFUSED, "abort"),
    allow(libc::SYS_exit_group, "the end"),
];

/// Calls that only older machines have.
#[cfg(target_arch = "x86_64")]
const HERE: &[Allowed] = &[
    allow(libc::SYS_unlink, "the object file"),
    allow(libc::SYS_access, "whether a file is there"),
    allow(libc::SYS_readlink, "paths"),
    allow(libc::SYS_rename, "the linker's output, put in place"),
    allow(libc::SYS_chmod, "the linker's output"),
];
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[Allowed] = &[
    allow(libc::SYS_faccessat, "whether a file is there"),
    allow(libc::SYS_readlinkat, "paths"),
    allow(libc::SYS_renameat, "the linker's output, put in place"),
    allow(libc::SYS_fchmodat, "the linker's output"),
];

/// Confines the calling thread, which must be the only one, and all that it starts.
///
/// # Errors
/// The kernel takes no filter from a process that may still gain privileges, or takes none at all.
pub(crate) fn confine() -> io::Result<()> {
    // The order's plan has done so already; without it the filter would need privileges.
    rustix::thread::set_no_new_privs(true)?;
    skiff_sandbox::sys::seccomp::load(&own::filter(&[CALLS, HERE]))
}
