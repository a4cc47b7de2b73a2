//! Counting what the guest executes.
//!
//! The crate's executors are made without a counter: its own way to pass one frees the counter at once. The function that
//! makes them is defined here and adds one. The definition comes first for the linker, since it is the executable's.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static COUNTER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" {
    fn WasmEdge_StatisticsCreate() -> *mut c_void;
    fn WasmEdge_StatisticsGetInstrCount(counter: *const c_void) -> u64;
    fn WasmEdge_StatisticsGetInstrPerSecond(counter: *const c_void) -> f64;
}

/// Executors that are made from now on count.
pub(crate) fn count() {
    // SAFETY: it takes nothing; what it makes is never given back.
    COUNTER.store(unsafe { WasmEdge_StatisticsCreate() }, Ordering::Relaxed);
}

/// Instructions that were executed, and how many in a second outside of calls of the host; `None` if nobody counts.
pub(crate) fn counted() -> Option<(u64, f64)> {
    let counter = COUNTER.load(Ordering::Relaxed);
    if counter.is_null() {
        return None;
    }
    // SAFETY: made by the library, and never given back.
    let count = unsafe { WasmEdge_StatisticsGetInstrCount(counter) };
    // SAFETY: as above.
    let rate = unsafe { WasmEdge_StatisticsGetInstrPerSecond(counter) };
    Some((count, rate))
}

/// # Safety
/// As for the library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn WasmEdge_ExecutorCreate(
    configuration: *const c_void,
    counter: *mut c_void,
) -> *mut c_void {
    type Create = unsafe extern "C" fn(*const c_void, *mut c_void) -> *mut c_void;
    // SAFETY: a name that ends with a zero.
    let library = unsafe { libc::dlsym(libc::RTLD_NEXT, c"WasmEdge_ExecutorCreate".as_ptr()) };
    if library.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: it is the library's function of this name, which has this type.
    let library = unsafe { std::mem::transmute::<*mut c_void, Create>(library) };
    let own = COUNTER.load(Ordering::Relaxed);
    // SAFETY: the caller's promise; the counter is the library's own and is never given back.
    unsafe { library(configuration, if own.is_null() { counter } else { own }) }
}
