//! The clone of a child that execs another program.
//!
//! Between clone and exec the child shares the parent's memory (`CLONE_VM`) while the parent's thread
//! waits (`CLONE_VFORK`); the parent's other threads run on and may hold any lock. So what the child runs,
//! [`child`], makes system calls with arguments that were prepared before, and nothing else: no
//! allocation, no lock, no panic, no destructor. It leaves by exec or by `exit_group`.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::DumpableBehavior;

use crate::orphans;
use crate::sys::exec;

/// Where a child failed that never became its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    /// Signal dispositions and mask.
    Signals = 1,
    /// Its descriptors.
    Descriptors = 2,
    /// The exec itself.
    Exec = 3,
    /// Its controlling terminal.
    Terminal = 4,
    /// That it ends with the thread that started it.
    Death = 5,
    /// The limits that only the node's root can raise.
    Limits = 6,
    /// How early the kernel kills it when memory is short.
    OomScore = 7,
    /// A namespace of another.
    Join = 8,
    /// The user namespace.
    User = 9,
    /// The clone of the process that is to live in the user namespace.
    Inside = 10,
}

impl Stage {
    fn of(number: i32) -> Self {
        match number {
            1 => Self::Signals,
            2 => Self::Descriptors,
            4 => Self::Terminal,
            5 => Self::Death,
            6 => Self::Limits,
            7 => Self::OomScore,
            8 => Self::Join,
            9 => Self::User,
            10 => Self::Inside,
            _ => Self::Exec,
        }
    }
}

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum CloneError {
    /// Nothing was cloned.
    Clone(io::Error),
    /// The child came to this stage, and is reaped.
    Child(Stage, io::Error),
}

/// In the place of a descriptor: none.
const NONE: RawFd = -1;

/// A program to start.
pub(crate) struct Program<'a> {
    pub(crate) file: BorrowedFd<'a>,
    /// Executed in the place of `file`: a script can only be executed by its path.
    pub(crate) path: Option<&'a CStr>,
    /// The kernel kills it when the calling thread ends. A program of ours asks for that itself.
    pub(crate) dies_with_thread: bool,
    pub(crate) args: &'a [&'a CStr],
    pub(crate) environment: &'a [&'a CStr],
    /// Become descriptors 0, 1, 2, …, a `None` none; there are no others. None of these, nor `file`, may have a number
    /// below their count: one would be overwritten before it is copied.
    pub(crate) descriptors: &'a [Option<BorrowedFd<'a>>],
    /// `CLONE_NEW…` flags.
    pub(crate) namespaces: u32,
    /// The cgroup (of the unified tree) in which it starts.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Descriptor 0 becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// The user namespace in which it starts.
    pub(crate) inside: Option<Inside<'a>>,
}

/// A user namespace to start in, and what takes rights that are lost there.
#[derive(Clone, Copy)]
pub(crate) struct Inside<'a> {
    /// The namespace.
    pub(crate) user: BorrowedFd<'a>,
    /// Namespaces of others, and their `CLONE_NEW…` flags; entered before.
    pub(crate) join: &'a [Join],
    /// Limits to set before.
    pub(crate) limits: &'a [Limit],
    /// Text for `oom_score_adj`; empty to leave it.
    pub(crate) oom_score_adj: &'a [u8],
}

/// A namespace to enter.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Join {
    pub(crate) namespace: RawFd,
    pub(crate) kind: u32,
}

/// A limit as `prlimit(2)` takes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Limit {
    pub(crate) resource: u32,
    pub(crate) value: libc::rlimit64,
}

/// What the child reads, and the one place where it writes.
#[repr(C)]
struct Prepared {
    file: RawFd,
    /// Null for none.
    path: *const c_char,
    /// The process that it must not outlive; 0 for none.
    parent: i32,
    args: *const *const c_char,
    environment: *const *const c_char,
    descriptors: *const RawFd,
    count: RawFd,
    terminal: bool,
    /// Null for a child that starts where its parent is, and for one that is inside by now.
    inside: *const PreparedInside,
    /// Set by the child before it gives up.
    stage: i32,
    errno: i32,
    /// The process that the child has cloned.
    second: i64,
}

/// What the child reads that is to start in a user namespace.
#[repr(C)]
struct PreparedInside {
    user: RawFd,
    join: *const Join,
    join_count: usize,
    limits: *const Limit,
    limits_count: usize,
    oom_score_adj: *const u8,
    oom_score_adj_length: usize,
    /// For a second child, which is made inside; `flags` are 0 if the first one is enough.
    second: CloneArgs,
}

/// `struct clone_args` of `linux/sched.h`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
/// Signals that exist on Linux; 0 is none.
const SIGNALS: i32 = 64;
/// Bytes of the kernel's `sigset_t`.
const SIGSET: usize = 8;

/// Starts `program`. Returns once it has become itself (its exec succeeded) or failed to.
pub(crate) fn spawn(program: &Program<'_>) -> Result<(u32, OwnedFd), CloneError> {
    let args = exec::pointers(program.args);
    let environment = exec::pointers(program.environment);
    let number = |fd: &Option<BorrowedFd<'_>>| fd.as_ref().map_or(NONE, AsRawFd::as_raw_fd);
    let descriptors: Vec<RawFd> = program.descriptors.iter().map(number).collect();
    let count = RawFd::try_from(descriptors.len()).map_err(|_| invalid())?;
    let taken = |number: &RawFd| *number != NONE && *number < count;
    if descriptors.iter().any(taken) || program.file.as_raw_fd() < count {
        return Err(invalid());
    }
    let second = program
        .inside
        .filter(|_| program.namespaces != 0)
        .map(|_| Stack::new())
        .transpose()
        .map_err(CloneError::Clone)?;
    let inside = program
        .inside
        .map(|inside| prepare_inside(&inside, program.namespaces, second.as_ref()));
    let mut prepared = Prepared {
        file: program.file.as_raw_fd(),
        path: program.path.map_or(std::ptr::null(), CStr::as_ptr),
        parent: if program.dies_with_thread {
            std::process::id().cast_signed()
        } else {
            0
        },
        args: args.as_ptr(),
        environment: environment.as_ptr(),
        descriptors: descriptors.as_ptr(),
        count,
        terminal: program.terminal,
        inside: inside
            .as_ref()
            .map_or(std::ptr::null(), |inside| &raw const *inside),
        stage: 0,
        errno: 0,
        second: 0,
    };
    let stack = Stack::new().map_err(CloneError::Clone)?;
    let mut pidfd: RawFd = -1;
    let mut flags = address(libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD);
    if inside.is_none() {
        flags |= u64::from(program.namespaces);
    }
    let mut cgroup = 0;
    if let Some(directory) = program.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = address(directory.as_raw_fd());
    }
    let clone = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: address(libc::SIGCHLD),
        stack: stack.bottom.expose_provenance() as u64,
        stack_size: Stack::SIZE as u64,
        cgroup,
        ..CloneArgs::default()
    };
    // Until its exec the child has this memory. Whoever has rights over the user namespace and sees the child
    // (a container of the same pod, with a pid namespace in common) could otherwise read and write it.
    let closed = inside
        .is_some()
        .then(ClosedMemory::new)
        .transpose()
        .map_err(CloneError::Clone)?;
    // A handler of this process must not run in the child: it would do so in this memory.
    let before = SignalMask::block_all().map_err(CloneError::Clone)?;
    let [result, second] = orphans::cloning(|| {
        // SAFETY: `clone` describes a stack of its own and a pidfd location that outlive the child's stay in
        // this memory (CLONE_VFORK), and `prepared` holds the addresses of vectors that do so too.
        let first = unsafe { clone3(&raw const clone, &raw mut prepared) };
        // SAFETY: a valid local. Volatile, because another process wrote it behind the compiler's back.
        let second = unsafe { (&raw const prepared.second).read_volatile() };
        [first, second]
    });
    drop(before);
    drop(closed);
    if result < 0 {
        let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
        return Err(CloneError::Clone(io::Error::from_raw_os_error(errno)));
    }
    // SAFETY: clone3 succeeded, so the kernel stored a new descriptor there that nobody else owns.
    let mut pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let mut pid = u32::try_from(result).map_err(|_| invalid())?;
    if second > 0 {
        // The first child has ended when it had made the second, which is this process's own child as well.
        reap(&pidfd);
        pid = u32::try_from(second).map_err(|_| invalid())?;
        pidfd = super::process::open_pidfd(pid).map_err(CloneError::Clone)?;
    }
    // SAFETY: as above.
    let stage = unsafe { (&raw const prepared.stage).read_volatile() };
    if stage != 0 {
        // SAFETY: as above.
        let errno = unsafe { (&raw const prepared.errno).read_volatile() };
        reap(&pidfd);
        return Err(CloneError::Child(
            Stage::of(stage),
            io::Error::from_raw_os_error(errno),
        ));
    }
    Ok((pid, pidfd))
}

fn reap(pidfd: &OwnedFd) {
    if let Err(error) = super::process::wait(std::os::fd::AsFd::as_fd(pidfd)) {
        log::warn!("could not reap a child of a launch: {error}");
    }
}

fn prepare_inside(inside: &Inside<'_>, namespaces: u32, second: Option<&Stack>) -> PreparedInside {
    let parent = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT;
    PreparedInside {
        user: inside.user.as_raw_fd(),
        join: inside.join.as_ptr(),
        join_count: inside.join.len(),
        limits: inside.limits.as_ptr(),
        limits_count: inside.limits.len(),
        oom_score_adj: inside.oom_score_adj.as_ptr(),
        oom_score_adj_length: inside.oom_score_adj.len(),
        second: second.map_or_else(CloneArgs::default, |stack| CloneArgs {
            flags: address(parent) | u64::from(namespaces),
            // The signal of its end is that of the first child's.
            exit_signal: 0,
            stack: stack.bottom.expose_provenance() as u64,
            stack_size: Stack::SIZE as u64,
            ..CloneArgs::default()
        }),
    }
}

/// This process's memory as one that only the node's root may look at, until it is dropped.
struct ClosedMemory {
    before: DumpableBehavior,
}

impl ClosedMemory {
    fn new() -> io::Result<Self> {
        let before = rustix::process::dumpable_behavior()?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Ok(Self { before })
    }
}

impl Drop for ClosedMemory {
    fn drop(&mut self) {
        // One that is readable by root only (2) cannot be asked for.
        if self.before == DumpableBehavior::Dumpable
            && let Err(error) = rustix::process::set_dumpable_behavior(self.before)
        {
            log::warn!("could not make the shim's memory dumpable again: {error}");
        }
    }
}

fn invalid() -> CloneError {
    CloneError::Clone(io::ErrorKind::InvalidInput.into())
}

/// A non-negative C integer as the kernel's 64 bits.
fn address(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// A stack for the child, with a page below it that cannot be touched.
pub(super) struct Stack {
    mapping: *mut libc::c_void,
    bottom: *mut libc::c_void,
}

impl Stack {
    const GUARD: usize = 64 * 1024;
    const SIZE: usize = 64 * 1024;

    pub(super) fn new() -> io::Result<Self> {
        let length = Self::GUARD + Self::SIZE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so no mapping of this process is replaced.
        let mapping =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, flags)? };
        let stack = Self {
            mapping,
            bottom: mapping.wrapping_byte_add(Self::GUARD),
        };
        // SAFETY: the range is the lower half of the mapping just made, which nothing uses yet.
        unsafe { rustix::mm::mprotect(mapping, Self::GUARD, MprotectFlags::empty())? };
        Ok(stack)
    }

    /// Where a stack begins that grows downwards.
    #[cfg(feature = "planner")]
    pub(super) fn top(&self) -> *mut libc::c_void {
        self.bottom.wrapping_byte_add(Self::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and the child has left it (CLONE_VFORK).
        let result = unsafe { rustix::mm::munmap(self.mapping, Self::GUARD + Self::SIZE) };
        if let Err(error) = result {
            log::warn!("could not unmap the stack of a launch: {error}");
        }
    }
}

/// The thread's signal mask from before, restored when dropped.
pub(super) struct SignalMask(u64);

impl SignalMask {
    pub(super) fn block_all() -> io::Result<Self> {
        let all = u64::MAX;
        let mut before = 0_u64;
        // The C library's own call leaves out its two internal signals, whose handlers must not run either.
        // SAFETY: both pointers are to 8 bytes, as the size says.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const all,
                &raw mut before,
                SIGSET,
            )
        };
        if result == 0 {
            Ok(Self(before))
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: the new mask is 8 bytes, as the size says; the old one is not asked for.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.0,
                none,
                SIGSET,
            );
        }
    }
}

/// Clones; the child runs [`child`] on `prepared`. Answers the child's pid or a negative errno.
///
/// # Safety
/// `clone` must describe a stack and have `CLONE_VM | CLONE_VFORK`; `prepared` must be valid until it returns.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(clone: *const CloneArgs, prepared: *mut Prepared) -> i64 {
    let result: i64;
    // SAFETY: the kernel preserves all registers but rax, rcx and r11. The child starts with a stack pointer
    // at the end of its own stack, which is aligned, and never comes past the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call {child}",
            "ud2",
            "2:",
            child = sym child,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") clone,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") prepared,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// See the other architecture's.
///
/// # Safety
/// As there.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(clone: *const CloneArgs, prepared: *mut Prepared) -> i64 {
    let result: i64;
    // SAFETY: the kernel preserves all registers but x0. The child starts with a stack pointer at the end of
    // its own stack, which is aligned, and never comes past the call.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "bl {child}",
            "brk #1",
            "2:",
            child = sym child,
            in("x8") libc::SYS_clone3,
            inlateout("x0") clone => result,
            in("x1") size_of::<CloneArgs>(),
            in("x20") prepared,
            lateout("x30") _,
        );
    }
    result
}

/// `struct sigaction` as the kernel has it; all zero: the default action.
#[repr(C)]
struct DefaultAction([u64; 4]);

/// The child, from clone to exec. See the rules on top of this file.
///
/// # Safety
/// Runs on a stack of its own in a process of its own; `prepared` is valid.
unsafe extern "C" fn child(prepared: *mut Prepared) -> ! {
    // SAFETY: valid by contract; the parent waits, so nobody else touches it.
    let prepared = unsafe { &mut *prepared };
    if !prepared.inside.is_null() {
        // SAFETY: prepared by the parent, which waits.
        unsafe { go_inside(prepared) };
    }
    let action = DefaultAction([0; 4]);
    let none = std::ptr::null_mut::<DefaultAction>();
    for signal in 1..=SIGNALS {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the action is as large as the kernel's structure; the handlers are this process's own.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const action,
                none,
                SIGSET,
            )
        };
        if result != 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Signals) };
        }
    }
    let mask = 0_u64;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the mask is 8 bytes, as the size says. Handlers are gone by now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            none,
            SIGSET,
        )
    };
    if result != 0 {
        // SAFETY: see `give_up`.
        unsafe { give_up(prepared, Stage::Signals) };
    }
    // A session of its own: no terminal's signals. Fails only for the leader of a group, which a child is not.
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_setsid) };
    if prepared.parent != 0 {
        // SAFETY: no pointers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_prctl,
                libc::PR_SET_PDEATHSIG,
                libc::SIGKILL,
                0,
                0,
                0,
            )
        };
        // The parent may have ended before the call; its memory, which is read here, is there still.
        // SAFETY: no arguments.
        let parent = unsafe { libc::syscall(libc::SYS_getppid) };
        if result != 0 || parent != i64::from(prepared.parent) {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Death) };
        }
    }
    let mut number = 0;
    while number < prepared.count {
        // SAFETY: `count` numbers are there.
        let source = unsafe {
            *prepared
                .descriptors
                .wrapping_add(number.cast_unsigned() as usize)
        };
        // No pointers; the table of descriptors is this process's own (no CLONE_FILES). One of the parent's
        // that happens to have this number is not the child's.
        let result = if source == NONE {
            // SAFETY: see above.
            unsafe { libc::syscall(libc::SYS_close, number) }.max(0)
        } else {
            // SAFETY: see above.
            unsafe { libc::syscall(libc::SYS_dup3, source, number, 0) }
        };
        if result < 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Descriptors) };
        }
        number += 1;
    }
    if prepared.terminal {
        // SAFETY: no pointers; 0 does not take the terminal from another session.
        let result = unsafe { libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0) };
        if result != 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Terminal) };
        }
    }
    // Whatever was opened without close-on-exec by anybody in the parent ends here.
    // SAFETY: no pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            prepared.count,
            u32::MAX,
            CLOSE_RANGE_CLOEXEC,
        )
    };
    if result != 0 {
        // SAFETY: see `give_up`.
        unsafe { give_up(prepared, Stage::Descriptors) };
    }
    if !prepared.path.is_null() {
        // SAFETY: path and vectors were prepared by the parent; the vectors end with null pointers.
        unsafe {
            libc::syscall(
                libc::SYS_execve,
                prepared.path,
                prepared.args,
                prepared.environment,
            );
        }
        // SAFETY: see `give_up`.
        unsafe { give_up(prepared, Stage::Exec) };
    }
    // SAFETY: file and vectors were prepared by the parent and end with null pointers.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            prepared.file,
            c"".as_ptr(),
            prepared.args,
            prepared.environment,
            libc::AT_EMPTY_PATH,
        );
    }
    // SAFETY: see `give_up`.
    unsafe { give_up(prepared, Stage::Exec) }
}

/// Enters the user namespace, with what has to be done before. Comes back in the process that is to be the program:
/// this one, or, where a new pid namespace is to belong to the user namespace, another that this one has cloned.
///
/// # Safety
/// As [`child`]; `prepared.inside` is valid.
unsafe fn go_inside(prepared: &mut Prepared) {
    // SAFETY: valid by contract.
    let inside = unsafe { &*prepared.inside };
    let mut index = 0;
    while index < inside.limits_count {
        let limit = inside.limits.wrapping_add(index);
        // SAFETY: `limits_count` of them are there.
        let resource = unsafe { (*limit).resource };
        // SAFETY: as above; the address only.
        let value = unsafe { &raw const (*limit).value };
        let none = std::ptr::null_mut::<libc::rlimit64>();
        // SAFETY: 0 is this process, the new limit is valid, the old one is not asked for.
        let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, value, none) };
        if result != 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Limits) };
        }
        index += 1;
    }
    if inside.oom_score_adj_length > 0 {
        let path = c"/proc/self/oom_score_adj";
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        // SAFETY: the path ends with a NUL.
        let file =
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) };
        let (text, length) = (inside.oom_score_adj, inside.oom_score_adj_length);
        // SAFETY: pointer and length describe the text.
        if file < 0 || unsafe { libc::syscall(libc::SYS_write, file, text, length) } < 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::OomScore) };
        }
    }
    index = 0;
    while index < inside.join_count {
        // SAFETY: `join_count` of them are there.
        let join = unsafe { *inside.join.wrapping_add(index) };
        // SAFETY: no pointers; the namespaces and the working directory are this process's own.
        let result = unsafe { libc::syscall(libc::SYS_setns, join.namespace, join.kind) };
        if result != 0 {
            // SAFETY: see `give_up`.
            unsafe { give_up(prepared, Stage::Join) };
        }
        index += 1;
    }
    // SAFETY: no pointers; the credentials are this process's own.
    let mut result = unsafe { libc::syscall(libc::SYS_setns, inside.user, libc::CLONE_NEWUSER) };
    // The node's ids have no names in there, and an exec would take all rights from who is not root there.
    if result == 0 {
        // SAFETY: no pointers, and no other thread of this process.
        result = unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) };
    }
    if result == 0 {
        // SAFETY: as above.
        result = unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) };
    }
    if result != 0 {
        // SAFETY: see `give_up`.
        unsafe { give_up(prepared, Stage::User) };
    }
    if inside.second.flags == 0 {
        return;
    }
    let second = &raw const inside.second;
    // The second child does not come here again.
    prepared.inside = std::ptr::null();
    // SAFETY: the stack is another than this process's, and outlives the second child's stay in this memory.
    let result = unsafe { clone3(second, prepared) };
    if result < 0 {
        // SAFETY: the address of a thread-local integer, as in `give_up`.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        unsafe { *errno = i32::try_from(-result).unwrap_or(libc::EINVAL) };
        // SAFETY: see `give_up`.
        unsafe { give_up(prepared, Stage::Inside) };
    }
    // SAFETY: a valid field. Volatile, because nothing after it in this process reads it.
    unsafe { (&raw mut prepared.second).write_volatile(result) };
    loop {
        // SAFETY: ends the process; the second child, if it has failed, has said so itself.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

/// Tells the parent, in its own memory, and ends the child.
///
/// # Safety
/// Only for the child of [`clone3`]. `errno` is the waiting parent thread's: the child shares its thread area.
unsafe fn give_up(prepared: &mut Prepared, stage: Stage) -> ! {
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address of a thread-local integer, which nobody else uses now.
    prepared.errno = unsafe { *errno };
    // SAFETY: a valid field. Volatile, because nothing after it in this process reads it.
    unsafe { (&raw mut prepared.stage).write_volatile(stage as i32) };
    loop {
        // SAFETY: ends the process; no destructors, no handlers of the parent's C library.
        unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    }
}
