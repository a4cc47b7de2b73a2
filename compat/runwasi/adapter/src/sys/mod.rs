//! All unsafe code of the adapter.

use std::io::Write as _;
use std::ptr;

/// Writes out what was buffered for standard output, by the engine or by a library of C in it: the process ends without
/// doing so.
pub(crate) fn flush() {
    // Nobody reads it: then there is nobody to tell, either.
    drop(std::io::stdout().flush());
    // SAFETY: null means all open streams of the C library.
    unsafe { libc::fflush(ptr::null_mut()) };
}
