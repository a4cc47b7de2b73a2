//! Joining of a guest with what it imports, before the container is reported as created: a guest that cannot be
//! linked fails its `create`, with a sentence that names what is missing and who has it.

use std::sync::Arc;

use skiff_engine::order::Guest;
use wasmtime::Engine;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::cap::Cap;
use crate::sys::code::Code;
use skiff_host::resolver::Resolver;

mod component;
mod core;
mod imports;
mod names;

pub(crate) use self::component::{Entry, LinkedComponent};
pub(crate) use self::core::LinkedModule;

/// Why a guest cannot run here. Each is a whole sentence about `guest`, the name the user knows it by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nobody provides an import.
    #[error("{guest} imports {item} from {module}, which is not provided here: {hint}")]
    UnknownImport {
        /// The guest.
        guest: String,
        /// Module or interface.
        module: String,
        /// Function.
        item: String,
        /// Who provides it, or what to do.
        hint: String,
    },
    /// An import is provided with another type, or could not be linked for another reason.
    #[error("could not link {guest} with what it imports")]
    Link {
        /// The guest.
        guest: String,
        /// The engine's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The entrypoint names a function that is not exported, or there is no default one.
    #[error("{guest} exports no function {function}; {hint}")]
    NoFunction {
        /// The guest.
        guest: String,
        /// What was looked for.
        function: String,
        /// What there is.
        hint: String,
    },
    /// Only functions without parameters can be an entrypoint.
    #[error("function {function} of {guest} takes {count} parameters; an entrypoint takes none")]
    Parameters {
        /// The guest.
        guest: String,
        /// The function.
        function: String,
        /// How many.
        count: usize,
    },
}

/// A guest that lacks nothing.
pub(crate) enum Linked {
    /// A core module.
    Module(LinkedModule),
    /// A component.
    Component(LinkedComponent),
}

/// What a core module's calls work on.
pub(crate) struct ModuleState {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) cap: Cap,
}

/// What a component's calls work on.
pub(crate) struct State {
    pub(crate) ctx: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) cap: Cap,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

/// Links `code` as `guest` asks.
///
/// # Errors
/// See [`LinkError`].
pub(crate) fn link(engine: &Engine, code: &Code, guest: &Guest) -> Result<Linked, LinkError> {
    match code {
        Code::Module(module) => core::link(engine, module, guest).map(Linked::Module),
        Code::Component(component) => {
            component::link(engine, component, guest).map(Linked::Component)
        }
    }
}

fn link_error(guest: &Guest, error: wasmtime::Error) -> LinkError {
    LinkError::Link {
        guest: guest.name.clone(),
        source: error.into(),
    }
}

/// `it exports a, b and c`, for guests whose entrypoint is not among them.
fn exported(mut names: Vec<String>) -> String {
    const SHOWN: usize = 8;
    let hidden = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match names.as_slice() {
        [] => "it exports no function without parameters that an entrypoint could name".to_owned(),
        names if hidden == 0 => format!(
            "name one of these after a # in the entrypoint: {}",
            names.join(", ")
        ),
        names => format!(
            "name one of these after a # in the entrypoint: {} and {hidden} more",
            names.join(", ")
        ),
    }
}
