//! What has no safe wrapper: signal handlers and the Landlock system calls. All unsafe code of this crate is below here.

pub mod landlock;
pub mod signal;
