//! Loading compiled code: the greatest act of trust in this program, since whatever the file holds is executed.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use skiff_engine::order::CodeKind;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Result};

/// Compiled code, mapped.
#[derive(Debug)]
pub enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

/// Maps the compiled code that `file` holds. Pages that the guest does not change stay shared with every other
/// process that maps the same file.
///
/// Executes nothing yet, but what it returns can be executed: `file` must be the one that the shim has passed for this
/// purpose. It was written by our own compile worker, the shim has checked it on this very descriptor, and it is
/// immutable and open for reading only.
///
/// # Errors
/// The code was made by another engine or configuration, or `file` is something else.
pub fn map_verified(engine: &Engine, kind: CodeKind, file: BorrowedFd<'_>) -> Result<Code> {
    match kind {
        CodeKind::Module => {
            let file = File::from(file.try_clone_to_owned()?);
            // SAFETY: output of a wasmtime compiler that nobody can change: see above.
            Ok(Code::Module(unsafe {
                Module::deserialize_open_file(engine, file)
            }?))
        }
        CodeKind::Component | CodeKind::Service => {
            // For components there is no way to pass a descriptor. This runs while the node's /proc is still in sight.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            // SAFETY: as above; the link leads to the same open file.
            Ok(Code::Component(unsafe {
                Component::deserialize_file(engine, path)
            }?))
        }
    }
}
