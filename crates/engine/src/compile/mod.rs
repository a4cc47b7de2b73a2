//! signatures; bodies are being written
//!
//! ```ignore
//! let compiler = Compiler::new(&Settings::beside_own_executable("wasmtime")?)?;
//! // a file of the root (an fd, regular file, from rootfs::open_in_root):
//! let code = compiler.code_for(Source::File(fd), "/app.wasm", &options).await?;
//! // a layer: the future is polled only on a miss
//! let code = compiler.code_for(Source::Blob { sha256, bytes: Box::pin(async move {
//!     let mut buffer = ModuleBuffer::new()?;
//!     // for each chunk of containerd's Content.Read:  buffer.write(&chunk)?;
//!     Ok(buffer.finish()?)
//! }) }, "layer sha256:…", &options).await?;
//! // code.file → the slot of Guest::code, code.kind → Guest::kind
//! ```

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use skiff_cache::Cache;

use crate::order::CodeKind;

mod source;

pub use source::{ModuleBuffer, ModuleBytes, SourceError};

/// An error of a caller's own, carried through.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a module's bytes come from.
pub enum Source<'a> {
    /// An open regular file, read from offset 0. It may be changed by others while it is read.
    File(OwnedFd),
    /// Bytes known by their digest. They are asked for only when their code is not in the cache,
    /// and must then have this digest.
    Blob {
        /// SHA-256.
        sha256: [u8; 32],
        /// Gets them.
        bytes: Pin<Box<dyn Future<Output = Result<ModuleBytes, BoxError>> + Send + 'a>>,
    },
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Blob { sha256, .. } => f.debug_struct("Blob").field("sha256", sha256).finish_non_exhaustive(),
        }
    }
}

/// Options of a compilation that change the code; part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// WASI 0.3 may be used by the code.
    pub wasi_p3: bool,
}

/// How workers are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's name, `wasmtime`.
    pub engine: String,
    /// The folder with `skiff-compile-<engine>`.
    pub programs: PathBuf,
    /// The cache; see [`skiff_cache::Settings::from_environment`].
    pub cache: skiff_cache::Settings,
    /// Threads of one worker.
    pub threads: u16,
    /// Workers at once on the node.
    pub slots: u16,
    /// Memory of one worker, in bytes.
    pub memory: u64,
    /// Wall time of one compilation.
    pub time: Duration,
    /// Largest compiled code, in bytes.
    pub output: u64,
}

/// Compiled code, ready for a host.
#[derive(Debug)]
pub struct Code {
    /// Read-only, cannot be reopened for writing. For [`crate::order::Guest::code`].
    pub file: OwnedFd,
    /// For [`crate::order::Guest::kind`].
    pub kind: CodeKind,
    /// Bytes of code; in a cache entry a trailer follows them.
    pub length: u64,
    /// SHA-256 of the module.
    pub module: [u8; 32],
    /// Where it came from.
    pub origin: Origin,
}

/// Where code came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cache had it.
    Cached,
    /// It was compiled, and the cache has it now.
    Compiled {
        /// Time of the compilation alone.
        milliseconds: u64,
    },
    /// It was compiled into memory, and will be compiled again the next time: why.
    Uncached {
        /// Time of the compilation alone.
        milliseconds: u64,
        /// Why the cache does not have it, a whole sentence.
        reason: String,
    },
}

/// The driver of one engine's compile workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Compiler;

/// A module has no code. `Display` of the whole chain is one sentence that names the module.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {}

impl Settings {
    /// Defaults of this node: workers beside the running executable, cache from the environment.
    pub fn beside_own_executable(_engine: &str) -> std::io::Result<Self> {
        unimplemented!()
    }
}

impl Compiler {
    /// Finds the worker and opens the cache. A cache that cannot be opened is logged and done without.
    pub fn new(_settings: Settings) -> Result<Self, CompileError> {
        unimplemented!()
    }

    /// The node's cache, if it could be opened.
    pub fn cache(&self) -> Option<&Cache> {
        unimplemented!()
    }

    /// The code of a module: from the cache, else compiled now. `name` is what the user calls the module.
    /// Runs on tokio (any flavour, with time and I/O enabled).
    ///
    /// # Cancel safety
    /// Dropping the future kills the worker and removes its cgroup.
    pub async fn code_for(&self, _source: Source<'_>, _name: &str, _options: CompileOptions) -> Result<Code, CompileError> {
        unimplemented!()
    }

    /// Whether the code of a module with this digest is in the cache (`skiff inspect`); verifies it.
    pub fn has(&self, _sha256: &[u8; 32], _options: CompileOptions) -> bool {
        unimplemented!()
    }

    /// Removes what workers of dead shims left behind (cgroups). Fast when there is nothing.
    pub fn sweep(&self) {
        unimplemented!()
    }
}
