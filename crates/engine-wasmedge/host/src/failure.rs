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
        "{guest} imports {name} from {module}, which is not provided here: WasmEdge has wasi_snapshot_preview1 {}; build the guest for a WASI target, for example wasm32-wasip1{}",
        beside(plugins.as_deref()),
        if plugins.is_none() { ", or let the handler's option PluginDirectory (of the table WasmEdge) name a directory with a plugin for it" } else { "" }
    )]
    Import {
        /// The guest.
        guest: String,
        /// The module that is asked for.
        module: String,
        /// What of it.
        name: String,
        /// What plugins provide, where there are any.
        plugins: Option<String>,
    },
    /// Where plugins should be.
    #[error(
        "could not look for plugins in {directory}, which the handler's option PluginDirectory names"
    )]
    Plugins {
        /// The directory.
        directory: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A memory that is larger from the start.
    #[error(
        "{guest} declares a memory of {declared} pages, and the handler's option MemoryPages allows {allowed}"
    )]
    Pages {
        /// The guest.
        guest: String,
        /// What it declares.
        declared: u32,
        /// What it may have.
        allowed: u32,
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

fn beside(plugins: Option<&str>) -> String {
    match plugins {
        None => "alone".to_owned(),
        Some(modules) => format!("and what its plugins provide ({modules})"),
    }
}
