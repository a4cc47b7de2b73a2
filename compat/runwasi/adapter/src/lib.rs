//! An engine that is written for runwasi, as an engine of Skiff.
//!
//! Such an engine is an implementation of [`Shim`] and [`Sandbox`](containerd_shim_wasm::sandbox::Sandbox), and perhaps of
//! [`Compiler`](containerd_shim_wasm::shim::Compiler). Of these, [`run`] makes the two programs that Skiff's shim
//! launches for an engine: the host, a process that becomes the container and runs its guest in itself, and the worker
//! that compiles a module once for the whole node. They are one executable by two names.
//!
//! runwasi's own shim and sandbox are never called: Skiff's are in their place.
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     skiff_runwasi::run::<MyShim>() // where it was MyShim::run(None)
//! }
//! ```

use std::path::Path;
use std::process::ExitCode;

use containerd_shim_wasm::shim::Shim;

mod calls;
mod context;
mod engine;
mod entry;
mod failure;
mod host;
#[expect(
    unsafe_code,
    reason = "the C library's buffers can be written out by itself alone"
)]
mod sys;
mod worker;

/// What the worker's executable is called, before the name of its engine.
const WORKER: &str = "skiff-compile-";

/// The program: the compile worker if it goes by a name like `skiff-compile-wasmi`, else the engine host.
pub fn run<S: Shim>() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if name.starts_with(WORKER) {
        worker::main::<S>(&name)
    } else {
        host::main::<S>(&name)
    }
}
