//! `mmap`, with which WasmEdge's library makes linear memories larger: a growth beyond the cap is refused here, since the
//! library's own limit is fixed when it starts and holds for each memory by itself.
//!
//! A memory's address space is reserved without access; what the guest gets of it is mapped over that, for reading and
//! writing, at a fixed address. Nothing else in this process maps memory so. The definition here comes first for the
//! dynamic loader, since it is the executable's; the C library's own allocator does not go through it.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skiff_host::cap::Cap;

/// WasmEdge reserves so much before a memory's first byte,
const BEFORE: usize = 4 << 30;
/// and so much in all.
const RESERVED: usize = 12 << 30;

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

struct Watch {
    cap: Cap,
    /// Where the last reservation's memory begins.
    begin: usize,
    running: bool,
}

fn watch() -> MutexGuard<'static, Option<Watch>> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on memories grow within the cap.
pub(crate) fn cap(cap: Cap) {
    *watch() = Some(Watch {
        cap,
        begin: 0,
        running: false,
    });
}

/// What modules declare is there; what comes now is growth. `false` if it could not be had.
pub(crate) fn instantiated() -> bool {
    match &mut *watch() {
        Some(watch) => {
            watch.running = true;
            watch.cap.complaint().is_none()
        }
        None => true,
    }
}

/// What was refused, for a guest that ended badly afterwards.
pub(crate) fn complaint() -> Option<String> {
    watch().as_ref()?.cap.complaint()
}

/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    const FIXED: c_int = libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    const ACCESS: c_int = libc::PROT_READ | libc::PROT_WRITE;
    if flags & FIXED == FIXED && protection == ACCESS && !may_grow(address.addr(), length) {
        // SAFETY: it takes nothing.
        let error = unsafe { libc::__errno_location() };
        // SAFETY: the calling thread's own.
        unsafe { error.write(libc::ENOMEM) };
        return libc::MAP_FAILED;
    }
    // SAFETY: the caller's promise; the kernel answers -1 for a failure, which is MAP_FAILED.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            address,
            length,
            protection,
            flags,
            file,
            offset,
        )
    };
    if protection == libc::PROT_NONE
        && length == RESERVED
        && let Ok(begin) = usize::try_from(answer)
        && let Some(watch) = &mut *watch()
    {
        watch.begin = begin + BEFORE;
    }
    std::ptr::with_exposed_provenance_mut(answer.cast_unsigned().try_into().unwrap_or(usize::MAX))
}

fn may_grow(address: usize, length: usize) -> bool {
    let mut watch = watch();
    let Some(watch) = &mut *watch else {
        return true;
    };
    let is_declared = !watch.running && address == watch.begin;
    watch
        .cap
        .grow(u64::try_from(length).unwrap_or(u64::MAX), is_declared)
}
