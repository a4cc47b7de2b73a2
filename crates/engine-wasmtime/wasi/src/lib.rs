//! What wasmtime's executables give their guests, and say about them: standard streams, names of hosts, WASI's interfaces
//! one by one, sentences about what is missing, and about how a guest died.
//!
//! Used by the host of commands and by the host of services. Nothing here compiles.

pub mod link;
pub mod obituary;
pub mod stdio;
#[expect(
    unsafe_code,
    reason = "loading compiled code and watching descriptors have no safe wrapper"
)]
mod sys;

pub use sys::code;
pub use sys::{watch_own, watch_readable};
