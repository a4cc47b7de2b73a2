//! What can go wrong before the component is served.

use std::error::Error;
use std::io;

use skiff_sandbox::control::{ControlError, OrderError};
use skiff_sandbox::execute::ExecuteError;
use skiff_wasi_wasmtime::link::LinkError;

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not launched by a shim, or by another version's.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The shim cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
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
    #[error("could not set up {what}")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A variable of the environment that is not understood.
    #[error("{name}={value} in its environment is not understood: {expected}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
    /// The engine does not start.
    #[error("could not start wasmtime")]
    Engine(#[source] Box<dyn Error + Send + Sync>),
    /// The compiled code is not for this engine.
    #[error("could not load the compiled code of {guest}")]
    Code {
        /// The guest.
        guest: String,
        /// The engine's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The container.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The guest lacks something.
    #[error(transparent)]
    Link(#[from] LinkError),
}
