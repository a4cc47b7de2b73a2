//! What can go wrong before the guest runs.

use std::io;

use skiff_engine::module::Refusal;
use skiff_host::confine::ConfineError;
use skiff_sandbox::control::OrderError;
use skiff_sandbox::execute::ExecuteError;

/// Why there is no container, or no code. Of a worker's, the caller adds the module's name.
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
    /// The machine lacks something.
    #[error("could not set up the handling of signals")]
    Signals(#[source] io::Error),
    /// The container.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The last step before the engine is called.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The same in a worker.
    #[error("could not load the worker's seccomp filter")]
    ConfineWorker(#[source] io::Error),
    /// Threads for the engine's futures.
    #[error("could not start the threads that {engine} runs on")]
    Runtime {
        /// The engine.
        engine: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An option that cannot be carried over.
    #[error(
        "{option} of the handler's options cannot be had with {engine}: it is an engine written for runwasi, whose interface has no place for it; {advice}"
    )]
    Option {
        /// With its value, where it is known.
        option: String,
        /// The engine.
        engine: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The bytes are none that an engine is given.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The module's text.
    #[error("this is not valid WebAssembly text")]
    Text(#[source] wat::Error),
    /// The module cannot be read, or the code cannot.
    #[error("could not read {what}")]
    Read {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output.
    #[error("could not write compiled code")]
    Write(#[source] io::Error),
    /// The engine's own refusal, in its own words.
    #[error("{engine} {could_not}: {words}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// `cannot run /app.wasm`.
        could_not: String,
        /// What it says.
        words: String,
    },
    /// The answer.
    #[error("could not encode the result")]
    Encode(#[source] postcard::Error),
}
