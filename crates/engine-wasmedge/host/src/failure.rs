//! What can go wrong before the guest runs.

use std::io;

use skiff_sandbox::control::OrderError;
use skiff_sandbox::execute::ExecuteError;
use wasmedge_sdk::error::WasmEdgeError;

/// Why there is no container.
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
    /// The worker refuses these, so none should come here.
    #[error("{0} is a component, and WasmEdge runs core modules only: run it with wasmtime")]
    Component(String),
    /// The engine does not start.
    #[error("could not start WasmEdge")]
    Engine(#[source] Box<WasmEdgeError>),
    /// The compiled code is not for this engine.
    #[error("could not load the compiled code of {guest}")]
    Code {
        /// The guest.
        guest: String,
        /// The engine's own words.
        #[source]
        source: Box<WasmEdgeError>,
    },
    /// An import that nothing provides.
    #[error(
        "{guest} imports {name} from {module}, which is not provided here: WasmEdge has wasi_snapshot_preview1 alone; build the guest for a WASI target, for example wasm32-wasip1"
    )]
    Import {
        /// The guest.
        guest: String,
        /// The module that is asked for.
        module: String,
        /// What of it.
        name: String,
    },
    /// The function of the entrypoint.
    #[error("{guest} has no function {function} without parameters; it exports {exported}")]
    NoFunction {
        /// The guest.
        guest: String,
        /// What was asked for.
        function: String,
        /// What there is.
        exported: String,
    },
    /// The container.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}
