//! The process of a pod that holds its namespaces: it waits, reaps what it inherits, and ends when told.
//!
//! Started by skiff-init as the pod's sandbox container; containers that share its pid namespace have it as
//! their PID 1. No allocator, no C library, no descriptor: a node has one for each pod.
//!
//! SIGTERM and SIGINT end it with code 0. It sleeps in the kernel and never wakes up by itself.

#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a program without a C library is made of system calls"
)]

use core::arch::{asm, naked_asm};

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;

/// The signals that are waited for, as a `sigset_t`: signal n is bit n - 1.
static AWAITED: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);

const SIG_BLOCK: usize = 0;
/// Bytes of the kernel's `sigset_t`.
const SIGSET: usize = 8;
/// `-1` for `wait4`.
const ANY_CHILD: usize = usize::MAX;
const WNOHANG: usize = 1;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const WAIT4: usize = 260;
}

/// Where the kernel begins: the stack is aligned, and holds arguments that nobody asks for.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "call {run}", "ud2", run = sym run);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x30, xzr", "bl {run}", "brk #1", run = sym run);
}

extern "C" fn run() -> ! {
    let set = (&raw const AWAITED).expose_provenance();
    // Blocked signals wait until they are asked for: none is lost between two waits, and as PID 1 the
    // process would not even get SIGTERM without a handler.
    // SAFETY: the set is 8 bytes, as the size says, and outlives the call; the old one is not asked for.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGSET]) };
    loop {
        // Before the first signal too: a child may have ended before they were blocked.
        // SAFETY: no status and no usage are asked for: the kernel writes nowhere.
        while unsafe { call(number::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) } > 0 {}
        // SAFETY: the set is 8 bytes, as the size says; no information and no timeout are asked for.
        let signal = unsafe { call(number::RT_SIGTIMEDWAIT, [set, 0, 0, SIGSET]) };
        if signal == SIGTERM || signal == SIGINT {
            exit(0);
        }
    }
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// A system call; negative results are error numbers.
///
/// # Safety
/// The arguments that are addresses must be valid for what the call reads and writes.
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result: isize;
    let [a, b, c, d] = arguments;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel changes rax, rcx and r11 only, and memory as the caller expects.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel changes x0 only, and memory as the caller expects.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    result
}

/// Nothing above can panic; the language asks for it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(255)
}
