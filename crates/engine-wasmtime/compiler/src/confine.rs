//! Which system calls the worker makes once it looks at a module, and why: a module may be made to attack the
//! compiler, and whoever succeeds finds itself in here.
//!
//! The worker has its descriptors by now, and an empty file system, no network and no privileges; so there is
//! nothing to open, to connect to or to start. [`own`] says what becomes of calls that are not listed.

use std::io;

use skiff_sandbox::filter::Action;
use skiff_sandbox::filter::own::{
    self, ABORT, Allowed, NOT_EXECUTABLE, REFUSED, THREAD, allow, allow_if, low, unknown,
};
use skiff_sandbox::plan::CONTROL_FD;

const CALLS: &[Allowed] = &[
    // The two files, the control socket, standard error.
    allow(libc::SYS_fstat, "the module's size"),
    allow(libc::SYS_pread64, "the module"),
    allow(libc::SYS_pwrite64, "the compiled code"),
    allow_if(
        libc::SYS_write,
        &[low(0, u32::MAX, &[2])],
        REFUSED,
        "messages on standard error",
    ),
    allow_if(
        libc::SYS_sendto,
        &[low(0, u32::MAX, &[CONTROL_FD.unsigned_abs()])],
        REFUSED,
        "the report; the socket takes no other address than its peer's",
    ),
    allow(libc::SYS_close, "the module, once it is read"),
    // Memory. The code is compiled here, and never run.
    allow_if(
        libc::SYS_mmap,
        NOT_EXECUTABLE,
        Action::KILL_PROCESS,
        "stacks, the allocator",
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
    // The threads that compile.
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
    allow(
        libc::SYS_sched_getaffinity,
        "threads, how the C library describes their stacks",
    ),
    allow(libc::SYS_sched_yield, "threads that look for work"),
    allow(libc::SYS_futex, "locks, threads that wait for work"),
    allow(libc::SYS_exit, "the end of a thread"),
    // Time, chance.
    allow(libc::SYS_clock_gettime, "where the vdso cannot answer"),
    allow(libc::SYS_getrandom, "the seeds of hash tables"),
    // Signals and the end.
    allow(
        libc::SYS_rt_sigaction,
        "a fault's default action, set by its handler: refused, it would come again without end",
    ),
    allow(libc::SYS_rt_sigreturn, "after that handler"),
    allow(libc::SYS_rt_sigprocmask, "threads, abort"),
    allow(
        libc::SYS_sigaltstack,
        "the stack on which signals are handled",
    ),
    allow(libc::SYS_restart_syscall, "waits that a signal interrupted"),
    allow(libc::SYS_getpid, "abort"),
    allow(libc::SYS_gettid, "abort"),
    allow_if(libc::SYS_tgkill, ABORT, REFUSED, "abort"),
    allow(libc::SYS_exit_group, "the end"),
];

/// Confines the calling thread, which must be the only one, and all that it starts.
///
/// # Errors
/// The kernel takes no filter from a process that may still gain privileges, or takes none at all.
pub(crate) fn confine() -> io::Result<()> {
    // The order's plan has done so already; without it the filter would need privileges.
    rustix::thread::set_no_new_privs(true)?;
    skiff_sandbox::sys::seccomp::load(&own::filter(&[CALLS]))
}

#[cfg(test)]
mod tests;
