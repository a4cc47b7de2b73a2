//! Joining of a component with what it imports, and the sentences about what is missing and who has it.

use std::sync::Arc;

use skiff_engine::order::Guest;
use skiff_host::resolver::Resolver;
use wasmtime_wasi::WasiView;

use drafts::Drafts;

pub mod drafts;
pub mod interfaces;
pub mod missing;
mod names;

/// What a component's calls work on.
pub trait Resolves: WasiView + 'static {
    /// Who answers for names.
    fn resolver(&self) -> &Arc<Resolver>;

    /// What the interfaces work on that WASI has drafts of: the same for all instances of a container.
    fn drafts(&self) -> &Arc<Drafts>;

    /// Writes a line, without its end, to the container's standard error.
    fn log(&mut self, line: String);
}

/// Why a guest cannot run here. Each is a whole sentence about `guest`, the name the user knows it by.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
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

/// The engine's own words about a guest.
pub fn link_error(guest: &Guest, error: wasmtime::Error) -> LinkError {
    LinkError::Link {
        guest: guest.name.clone(),
        source: error.into(),
    }
}

/// `it exports a, b and c`, for guests whose entrypoint is not among them.
pub fn exported(mut names: Vec<String>) -> String {
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
