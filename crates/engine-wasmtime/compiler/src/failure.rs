//! Why there is no compiled code, as sentences for whoever wrote the module.

use std::error::Error;
use std::io;

use skiff_engine::module::Refusal;
use skiff_sandbox::control::OrderError;
use skiff_sandbox::execute::ExecuteError;

/// Why there is no compiled code. The caller adds the module's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not launched by a shim, or by another version's.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A descriptor that should have been passed, was not.
    #[error("could not take over the descriptor of {what}")]
    Slot {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The worker's own confinement.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// Its seccomp filter.
    #[error("could not load the compiler's seccomp filter")]
    Confine(#[source] io::Error),
    /// The input.
    #[error("could not read the module")]
    Read(#[source] io::Error),
    /// Nothing that is compiled.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Text that is none.
    #[error("this is not valid WebAssembly text")]
    Text(#[source] wat::Error),
    /// Text that says of itself to be binary, and is text again.
    #[error("this is text that holds more text; one module or component is expected")]
    TextInText,
    /// A module for threads. The engine would take it, and end the guest when it runs.
    #[error(
        "it has a memory that threads share, and wasmtime has given up wasi-threads; build the module without threads"
    )]
    SharedMemory,
    /// Not valid.
    #[error("this is not valid WebAssembly")]
    Invalid(#[source] Box<dyn Error + Send + Sync>),
    /// A component that needs what is an option, and off.
    #[error(
        "it is a component of WASI 0.3, which is off: the handler's option WasiP3 = true switches it on"
    )]
    WasiP3(#[source] Box<dyn Error + Send + Sync>),
    /// Threads.
    #[error("could not start the compiler's threads")]
    Threads(#[source] rayon_core::ThreadPoolBuildError),
    /// The engine does not start.
    #[error("could not start wasmtime's compiler")]
    Engine(#[source] Box<dyn Error + Send + Sync>),
    /// The output.
    #[error("could not write {bytes} bytes of compiled code")]
    Write {
        /// How much it would have been.
        bytes: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result.
    #[error("could not encode the result")]
    Encode(#[source] postcard::Error),
}
