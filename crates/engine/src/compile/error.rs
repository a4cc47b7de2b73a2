//! Why a module has no code. The whole chain of an error, joined with `: `, is one sentence for the user.

use std::path::PathBuf;
use std::time::Duration;

use super::{BoxError, SourceError};
use crate::module::Refusal;

/// A module has no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is no worker for the engine.
    #[error("could not open the compiler {}: it is installed beside the shim", path.display())]
    NoCompiler {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot be opened.
        #[source]
        source: std::io::Error,
    },
    /// The module's bytes cannot be had from where they are.
    #[error("could not read module {name}")]
    Read {
        /// The module.
        name: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// The caller's own way of getting them failed.
    #[error("could not get module {name}")]
    Fetch {
        /// The module.
        name: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The bytes are no WebAssembly.
    #[error("could not use {name} as a module")]
    Refused {
        /// The module.
        name: String,
        /// What it is.
        #[source]
        source: Refusal,
    },
    /// The compiler understood the module well enough to refuse it.
    #[error("could not compile module {name}: {sentence}")]
    Invalid {
        /// The module.
        name: String,
        /// The worker's words.
        sentence: String,
    },
    /// Stopped by the clock.
    #[error("could not compile module {name}: it took longer than {} s, the limit of one compilation", limit.as_secs_f64())]
    Time {
        /// The module.
        name: String,
        /// The limit.
        limit: Duration,
    },
    /// Killed for lack of memory.
    #[error("could not compile module {name}: it needed more than {} MiB of memory, the limit of one compilation", limit >> 20)]
    Memory {
        /// The module.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The cache has no code, and none may be made.
    #[error(
        "module {name} has no compiled code on this node for the options of its handler, whose CachePolicy = \"only\" keeps it from being compiled at a start: let `skiff cache warm` or the node's agent compile it ahead, or change the option"
    )]
    NotCached {
        /// The module.
        name: String,
    },
    /// Too much code.
    #[error("could not compile module {name}: its code is larger than {} MiB, the limit of one module", limit >> 20)]
    Output {
        /// The module.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The worker ended without an answer, or with one that no worker of ours gives.
    #[error("could not compile module {name}: the compiler {how}")]
    Died {
        /// The module.
        name: String,
        /// What it did.
        how: String,
    },
    /// All slots were taken for too long.
    #[error("could not compile module {name}: other compilations on this node left no room within {} s", waited.as_secs())]
    Busy {
        /// The module.
        name: String,
        /// The limit of waiting.
        waited: Duration,
    },
    /// The same module failed a moment ago at a limit; trying again at once would only load the node.
    #[error("{sentence} (tried {} s ago; it is tried again {} s after that)", ago.as_secs(), again.as_secs())]
    FailedBefore {
        /// The error of then.
        sentence: String,
        /// How long ago.
        ago: Duration,
        /// How long the node remembers it.
        again: Duration,
    },
    /// The worker could not be started or watched.
    #[error("could not compile module {name}: could not {operation}")]
    Worker {
        /// The module.
        name: String,
        /// What failed.
        operation: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
}
