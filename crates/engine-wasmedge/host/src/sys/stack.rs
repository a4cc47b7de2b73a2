//! The guest's stack, which is that of the process's first thread: its size, and a guest that uses it up.
//!
//! WasmEdge's compiled code does not look how much stack is left. It runs into the end of the stack, and the handler
//! that the library has for such faults needs a stack itself: `sigaction`, with which the library installs it, is defined
//! here and gives it another one. The definition comes first for the dynamic loader, since it is the executable's.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside the guest's own, room for the host's calls on it.
const BESIDE: u64 = (2 << 20) - (512 << 10);
/// The kernel keeps so much address space free for the stack of a process's first thread, whatever its limit.
pub(crate) const LARGEST: u32 = 96 << 20;
/// For handlers, which unwind the stack that has faulted.
const FOR_HANDLERS: usize = 128 << 10;
/// Faults so close to the limit are the stack's.
const NEAR: usize = 1 << 20;

/// The library's own handler of SIGSEGV.
static LIBRARY: AtomicUsize = AtomicUsize::new(0);
/// Below this the stack does not grow.
static END: AtomicUsize = AtomicUsize::new(0);
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn __sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int;
}

/// Gives the calling thread, the process's first, a stack of `size` bytes for its guest.
///
/// # Errors
/// None are expected.
pub(crate) fn limit(size: u32) -> io::Result<()> {
    let wanted = u64::from(size.min(LARGEST)) + BESIDE;
    let limit = getrlimit(Resource::Stack);
    let allowed = limit.maximum.map_or(wanted, |most| wanted.min(most));
    let new = Rlimit {
        current: Some(allowed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Stack, new)?;
    let here = ptr::from_ref(&new).addr();
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    END.store(here.saturating_sub(allowed), Ordering::Relaxed);
    let memory = Box::leak(vec![0u8; FOR_HANDLERS].into_boxed_slice());
    let other = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: the memory is nobody else's, and is never given back.
    match unsafe { libc::sigaltstack(&raw const other, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the guest ran into the end of its stack.
pub(crate) fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's promise: null, or a valid action.
    let wanted = unsafe { new.as_ref() };
    let Some(wanted) = wanted.filter(|_| matches!(signal, libc::SIGSEGV | libc::SIGBUS)) else {
        // SAFETY: the caller's promise.
        return unsafe { __sigaction(signal, new, old) };
    };
    // Our own handlers ask for the other stack themselves.
    let is_ours = wanted.sa_flags & libc::SA_ONSTACK != 0;
    if is_ours || wanted.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: the caller's promise.
        return unsafe { __sigaction(signal, new, old) };
    }
    LIBRARY.store(wanted.sa_sigaction, Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
    let mut changed = *wanted;
    changed.sa_sigaction = handler as *const () as usize;
    changed.sa_flags |= libc::SA_ONSTACK;
    // SAFETY: a valid action, and the caller's promise for `old`.
    unsafe { __sigaction(signal, &raw const changed, old) }
}

/// Async-signal-safe.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let info_of_fault = unsafe { &*info };
    // SAFETY: of a fault it has the address.
    let address = unsafe { info_of_fault.si_addr() }.addr();
    let end = END.load(Ordering::Relaxed);
    if address.abs_diff(end) < NEAR {
        EXHAUSTED.store(true, Ordering::Relaxed);
    }
    let library = LIBRARY.load(Ordering::Relaxed);
    if library == 0 {
        return;
    }
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    // SAFETY: only `sigaction` above stores there, what it was given as a handler of this type.
    let library: Handler = unsafe { std::mem::transmute::<usize, Handler>(library) };
    // It does not come back: it jumps to where the guest was called.
    library(signal, info, context);
}
