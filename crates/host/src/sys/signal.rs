//! Every terminating signal ends the container at once, whatever the guest is doing.
//!
//! The host is PID 1 of its pid namespace, and the kernel drops signals for a PID 1 that has no handler for
//! them: without these, SIGTERM would do nothing. The handlers are installed before the engine is made. The engine then
//! puts its own before ours for the signals that traps are made of, and hands on what is none of its business.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use skiff_engine::exit::{self, EarlyRecord};
use skiff_engine::notes;

/// Signals whose default is to end the process, SIGKILL excepted. Those from 34 on (real time) are added below.
const TERMINATING: [i32; 25] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGUSR1,
    libc::SIGSEGV,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSYS,
    // Only their numbers are left of them in the kernel, but they can be sent.
    32,
    33,
    34,
];
const LAST_SIGNAL: i32 = 64;

/// The exit record's descriptor, or -1. Set once, before the handlers are installed.
static RECORD: AtomicI32 = AtomicI32::new(-1);

/// From now on every terminating signal `n` ends the process with code 128 + `n`, after the exit record has been
/// written to descriptor `record`, which must stay open for the life of the process.
///
/// # Errors
/// None are expected; a signal that cannot be handled is an error of this program.
pub fn end_on_all(record: i32) -> io::Result<()> {
    RECORD.store(record, Ordering::Release);
    for signal in TERMINATING.into_iter().chain(35..=LAST_SIGNAL) {
        handle(signal)?;
    }
    // As PID 1 it becomes the parent of what programs that were executed beside the guest leave behind.
    skiff_sandbox::sys::process::ignore_children()
}

/// The descriptor of an eventfd that is told of the first signal that asks for the end, or -1: nobody is asked.
static ASKED: AtomicI32 = AtomicI32::new(-1);

/// From now on the first SIGTERM, SIGINT or SIGQUIT only makes this eventfd readable, which must stay open for the life of
/// the process. The second ends the process at once, like all others.
pub fn ask_first(eventfd: i32) {
    ASKED.store(eventfd, Ordering::Release);
}

/// What is said when the time is over. Set once, before the timer is.
static TIME_IS_OVER: OnceLock<String> = OnceLock::new();

/// Ends the process after `limit` as SIGALRM does, with `words` for the log and the container's notes. The clock is that of
/// the machine: it goes on while the container is paused.
///
/// # Errors
/// None are expected.
pub fn end_after(limit: Duration, words: String) -> io::Result<()> {
    TIME_IS_OVER.get_or_init(|| words);
    let timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(limit.subsec_micros()),
        },
    };
    // SAFETY: `timer` is a valid itimerval; the old one is not asked for.
    match unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process at once, after the exit record has been written, as the handlers do. Nothing is lost: the host
/// buffers no output.
pub fn end(code: u8) -> ! {
    write_record(RECORD.load(Ordering::Acquire), code);
    // SAFETY: ends the process without running anything else; async-signal-safe.
    unsafe { libc::_exit(i32::from(code)) }
}

/// The kernel's `struct sigaction` where it differs from libc's: `x86_64` and `aarch64`.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `sigaction`: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as *const () as usize;
    // ONSTACK: a guest that has used up the stack is ended too, not only one that has some left.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    if signal == 32 || signal == 33 {
        return handle_raw(signal);
    }
    // SAFETY: `action` is a valid action whose handler is async-signal-safe; no old action is asked for.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// libc keeps signals 32 and 33 for itself (cancelling threads, changing ids in all of them; neither happens
/// here) and refuses to name them, the kernel does not. They get what SIGTERM has.
fn handle_raw(signal: i32) -> io::Result<()> {
    let mut action = KernelAction {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let mask_bytes = size_of::<u64>();
    // SAFETY: the kernel writes one `KernelAction`, laid out as it expects on these machines; none is set.
    let got = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            libc::SIGTERM,
            ptr::null::<KernelAction>(),
            &raw mut action,
            mask_bytes,
        )
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `action` is what libc installed for SIGTERM a moment ago, its restorer included.
    let set = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const action,
            ptr::null_mut::<KernelAction>(),
            mask_bytes,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Async-signal-safe: system calls without allocation or locks, then the end of the process.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // Writing to a pipe that nobody reads raises SIGPIPE in the writer, writing beyond RLIMIT_FSIZE raises SIGXFSZ:
    // the exit record's own write too, whose code must not become that of a signal. For a guest they are an error
    // code of its write and no more; only somebody else's end it.
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler, for as long as the handler runs.
    let info = unsafe { &*info };
    let of_a_write = matches!(signal, libc::SIGPIPE | libc::SIGXFSZ);
    // SAFETY: whoever sends these two, the kernel sets the sender's pid.
    if of_a_write && unsafe { info.si_pid() } == own_pid() {
        return;
    }
    if matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT) {
        let asked = ASKED.swap(-1, Ordering::AcqRel);
        if asked >= 0 {
            let one = 1u64.to_ne_bytes();
            // SAFETY: the buffer is readable for its whole length.
            unsafe { libc::write(asked, one.as_ptr().cast(), one.len()) };
            return;
        }
    }
    // The kernel's own, from the timer; anybody else's is a signal like others.
    if signal == libc::SIGALRM
        && info.si_code == libc::SI_KERNEL
        && let Some(words) = TIME_IS_OVER.get()
    {
        say(words);
    }
    end(exit::from_signal(u8::try_from(signal).unwrap_or(u8::MAX)))
}

/// Async-signal-safe.
fn say(words: &str) {
    // SAFETY: the buffer is readable for its whole length.
    unsafe { libc::write(2, words.as_ptr().cast(), words.len()) };
    // SAFETY: a plain newline.
    unsafe { libc::write(2, b"\n".as_ptr().cast(), 1) };
    let record = RECORD.load(Ordering::Acquire);
    let (length, at) = (
        u16::try_from(words.len()).unwrap_or(0).to_le_bytes(),
        notes::WORDS,
    );
    // SAFETY: the buffer is readable for its whole length.
    unsafe { libc::pwrite(record, words.as_ptr().cast(), words.len(), at + 2) };
    // SAFETY: the buffer is readable for its whole length.
    unsafe { libc::pwrite(record, length.as_ptr().cast(), length.len(), at) };
}

fn own_pid() -> i32 {
    // SAFETY: no arguments, no effect, always succeeds.
    unsafe { libc::getpid() }
}

/// Async-signal-safe. A record that cannot be written is not missed: the shim learns the code from the kernel.
fn write_record(record: i32, code: u8) {
    if record < 0 {
        return;
    }
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable and of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    let bytes = EarlyRecord {
        code,
        unix_nanos: seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos),
    }
    .encode();
    // SAFETY: the buffer is readable for its whole length.
    unsafe { libc::pwrite(record, bytes.as_ptr().cast(), bytes.len(), 0) };
}
