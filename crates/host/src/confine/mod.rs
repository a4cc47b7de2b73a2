//! The last step before the guest runs: what the host itself no longer needs, it gives up for good.
//!
//! The container's own seccomp profile, if it has one, is in force already; a profile for arbitrary Linux
//! programs has to allow a great deal. An engine that runs compiled code allows far less. Should a guest ever
//! break out of the engine, this is what it finds itself in.

use std::io;

use skiff_engine::order::CodeKind;
use skiff_sandbox::filter::own::{self, Allowed};

use crate::sys::landlock::{self, Landlock};

mod syscalls;

/// Why the host could not be confined. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
pub struct ConfineError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Confines the calling thread, which must be the only one, to what wasmtime needs for a guest of this kind.
///
/// # Errors
/// See [`ConfineError`]. A kernel without Landlock is no error.
pub fn confine(kind: CodeKind) -> Result<Landlock, ConfineError> {
    confine_to(&syscalls::lists(kind))
}

/// Confines the calling thread, which must be the only one, to these calls.
///
/// # Errors
/// See [`ConfineError`]. A kernel without Landlock is no error.
pub fn confine_to(lists: &[&[Allowed]]) -> Result<Landlock, ConfineError> {
    let failed = |step| move |source| ConfineError { step, source };
    // Both filters demand it of processes without privileges. Nothing is executed from here on anyway.
    rustix::thread::set_no_new_privs(true)
        .map_err(io::Error::from)
        .map_err(failed("give up gaining privileges"))?;
    let landlock = landlock::restrict_to_root()
        .map_err(failed("restrict the guest to its files by Landlock"))?;
    skiff_sandbox::sys::seccomp::load(&own::filter(lists))
        .map_err(failed("load the engine's own seccomp filter; the container's seccomp profile must allow seccomp(2)"))?;
    Ok(landlock)
}

#[cfg(test)]
mod tests;
