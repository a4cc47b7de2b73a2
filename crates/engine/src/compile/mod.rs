//! Code for a module: out of the node's cache, or made by a compile worker and kept there.
//!
//! Used by the shim at Create and by `skiff cache warm`, on a tokio runtime of any flavour with time and I/O
//! enabled. There is one implementation, asynchronous; what blocks runs on tokio's threads for that.
//!
//! ```no_run
//! # use skiff_engine::compile::*;
//! # async fn example(file: std::os::fd::OwnedFd, sha256: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! let compiler = Compiler::new(Settings::beside_own_executable("wasmtime")?)?;
//! // A file of the root, opened as a regular file:
//! let code = compiler.code_for(Source::File(file), "/app.wasm", CompileOptions::default()).await?;
//! // A layer; the future is polled only when the cache does not have the code:
//! let bytes = Box::pin(async {
//!     let mut buffer = ModuleBuffer::new()?;
//!     buffer.write(b"each chunk as it comes")?;
//!     Ok(buffer.finish()?)
//! });
//! let code = compiler.code_for(Source::Blob { sha256, bytes }, "layer 1", CompileOptions::default()).await?;
//! # Ok(()) }
//! ```

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use skiff_cache::{Cache, Entry, Key, KeyParts, Kind};
use skiff_sandbox::programs::{Executable, Programs};
use skiff_sandbox::sentence::chain;

use crate::options::{CodeOptions, OptLevel};
use crate::order::CodeKind;

mod build_id;
mod compilation;
mod error;
mod failure;
mod fingerprint;
mod leftover;
mod output;
mod processor;
mod request;
mod settings;
mod source;
mod worker;

pub use error::CompileError;
pub use leftover::sweep;
pub use settings::Settings;
pub use source::{ModuleBuffer, ModuleBytes, SourceError};

use request::Request;

pub use skiff_cache::Settings as CacheSettings;

/// An error of another's, carried through.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The future of a module's bytes.
pub type FetchModule<'a> = Pin<Box<dyn Future<Output = Result<ModuleBytes, BoxError>> + Send + 'a>>;

/// Where a module's bytes come from.
pub enum Source<'a> {
    /// An open regular file, read from its start. Others may change it while it is read.
    File(OwnedFd),
    /// Bytes known by their digest. They are asked for only when their code is not in the cache,
    /// and must then have this digest.
    Blob {
        /// SHA-256.
        sha256: [u8; 32],
        /// Gets them.
        bytes: FetchModule<'a>,
    },
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Blob { sha256, .. } => f
                .debug_struct("Blob")
                .field("sha256", sha256)
                .finish_non_exhaustive(),
        }
    }
}

/// Options of a compilation. Those that change the code are part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// What the code may use and must hold.
    pub code: CodeOptions,
    /// How much work to put into it.
    pub opt_level: OptLevel,
    /// What the cache is for. Not part of the key.
    pub cache: CachePolicy,
}

/// What the node's cache is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Code is taken from it, else made and kept there.
    #[default]
    Use,
    /// Code is taken from it, and never made.
    Only,
    /// It is neither looked into nor added to: code is made each time, for one container.
    Off,
}

impl CompileOptions {
    /// One encoding for each value.
    fn encode(self) -> [u8; 4] {
        let CodeOptions {
            wasi_p3,
            proposals,
            lines,
            statistics,
            interpreted,
        } = self.code;
        let level = match self.opt_level {
            OptLevel::None => 0,
            OptLevel::Speed => 1,
            OptLevel::SpeedAndSize => 2,
        };
        let [low, high] = proposals.bits();
        let flags = [wasi_p3, lines, statistics, interpreted]
            .into_iter()
            .enumerate()
            .fold(0, |flags, (bit, set)| flags | u8::from(set) << bit);
        [flags, level, low, high]
    }
}

/// Compiled code, ready for a host.
#[derive(Debug)]
pub struct Code {
    /// Read-only, and cannot be reopened for writing. For [`crate::order::Guest::code`].
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
        /// The worker's work on the module: reading, validating and compiling it, writing its code. Not the worker's
        /// start and end, which are the same for all modules.
        milliseconds: u64,
    },
    /// It was compiled into memory, and will be compiled again the next time.
    Uncached {
        /// As above.
        milliseconds: u64,
        /// Why the cache does not have it.
        reason: String,
    },
}

/// The driver of one engine's compile workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Compiler(Arc<Driver>);

#[derive(Debug)]
struct Driver {
    settings: Settings,
    program: Executable,
    build: Vec<u8>,
    processor: String,
    /// The cache, or why there is none.
    cache: Result<Cache, String>,
    /// Part of the names of the workers' cgroups: two caches on one node have each their own slots.
    identity: Option<String>,
    /// Threads of [`Compiler::later`].
    later: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let later = self.later.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in later.drain(..) {
            if thread.join().is_err() {
                log::warn!("something could not be cleaned up after a compiler");
            }
        }
    }
}

/// What an entry's kind means, for listings: `module`, `component`, `service`, or the name of a note.
pub fn kind_name(kind: Kind) -> &'static str {
    match (code_kind(kind), kind) {
        (Some(CodeKind::Module), _) => "module",
        (Some(CodeKind::Component), _) => "component",
        (Some(CodeKind::Service), _) => "service",
        (None, failure::KIND) => "failure",
        (None, fingerprint::KIND) => "fingerprint",
        (None, _) => "other",
    }
}

fn code_kind(kind: Kind) -> Option<CodeKind> {
    [CodeKind::Module, CodeKind::Component, CodeKind::Service]
        .into_iter()
        .find(|code| kind_of(*code) == kind)
}

fn kind_of(code: CodeKind) -> Kind {
    match code {
        CodeKind::Module => Kind(1),
        CodeKind::Component => Kind(2),
        CodeKind::Service => Kind(3),
    }
}

impl Compiler {
    /// Finds the worker and opens the cache. A cache that cannot be opened is logged and done without.
    ///
    /// # Errors
    /// There is no worker for the engine.
    pub fn new(settings: Settings) -> Result<Self, CompileError> {
        match Programs::in_folder(settings.programs.clone()) {
            Ok(programs) => Self::with_worker_of(&programs, settings),
            Err(source) => Err(CompileError::NoCompiler {
                path: settings.programs,
                source,
            }),
        }
    }

    /// The same with the worker in `programs`, whatever the settings say of the folder.
    ///
    /// # Errors
    /// As [`Compiler::new`].
    pub fn with_worker_of(programs: &Programs, settings: Settings) -> Result<Self, CompileError> {
        let name = format!("skiff-compile-{}", settings.engine);
        let path = programs.path().join(&name);
        let open = || -> io::Result<(Executable, Vec<u8>)> {
            let program =
                programs.of_engine("compile", &settings.engine, settings.version.as_deref())?;
            let build = build_id::of(&File::from(program.file.try_clone()?))?;
            Ok((program, build))
        };
        let (program, build) =
            open().map_err(|source| CompileError::NoCompiler { path, source })?;
        let cache = Cache::open(&settings.cache).map_err(|error| {
            let reason = chain(&error);
            log::warn!("modules are compiled anew at each start: {reason}");
            reason
        });
        let identity = cache
            .as_ref()
            .ok()
            .and_then(|cache| leftover::identity(cache.directory()));
        Ok(Self(Arc::new(Driver {
            program,
            build,
            processor: processor::features(),
            cache,
            identity,
            settings,
            later: Mutex::default(),
        })))
    }

    /// The node's cache, if it could be opened.
    pub fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref().ok()
    }

    /// The key of a module's code.
    pub fn key(&self, sha256: &[u8; 32], options: CompileOptions) -> Key {
        Key::new(&KeyParts {
            module: sha256,
            engine: &self.0.settings.engine,
            build: &self.0.build,
            options: &options.encode(),
            processor: &self.0.processor,
        })
    }

    /// Whether the cache has the code of a module with this digest. Reads and verifies it.
    pub fn has(&self, sha256: &[u8; 32], options: CompileOptions) -> bool {
        self.cache().is_some_and(|cache| {
            cache
                .lookup(&self.key(sha256, options))
                .is_ok_and(|entry| entry.is_some())
        })
    }

    /// The code of a module: from the cache, else compiled now. `name` is what the user calls the module.
    ///
    /// # Errors
    /// See [`CompileError`]. A full or unwritable cache is none.
    ///
    /// # Cancel safety
    /// Dropping the future kills the worker and removes its cgroup.
    pub async fn code_for(
        &self,
        source: Source<'_>,
        name: &str,
        options: CompileOptions,
    ) -> Result<Code, CompileError> {
        Request {
            compiler: self,
            name,
            options,
        }
        .serve(source)
        .await
    }
}

impl Compiler {
    /// Cleans up while others go on. The last of the compiler's clones waits for it when it is dropped.
    fn later(&self, work: impl FnOnce() + Send + 'static) {
        let work = Arc::new(Mutex::new(Some(work)));
        let on_thread = {
            let work = Arc::clone(&work);
            move || run_once(&work)
        };
        match std::thread::Builder::new()
            .name("skiff-later".to_owned())
            .spawn(on_thread)
        {
            Ok(thread) => {
                let mut later = self.0.later.lock().unwrap_or_else(PoisonError::into_inner);
                later.retain(|thread| !thread.is_finished());
                later.push(thread);
            }
            Err(error) => {
                log::debug!("no thread for cleaning up: {error}");
                run_once(&work);
            }
        }
    }

    /// What the cache has. A cache that fails is as good as none.
    fn cached(&self, sha256: &[u8; 32], options: CompileOptions) -> Option<Code> {
        let found = self.cache()?.lookup(&self.key(sha256, options));
        let Entry {
            file,
            length,
            about,
        } = found
            .inspect_err(|error| log::warn!("the cache is not used: {}", chain(error)))
            .ok()??;
        let kind = code_kind(about.kind)?;
        Some(Code {
            file,
            kind,
            length,
            module: *sha256,
            origin: Origin::Cached,
        })
    }
}

fn run_once(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

/// Runs what blocks on a thread of its own.
///
/// Not on tokio's: when the kernel has no thread to give (`pids.max`, `RLIMIT_NPROC`), tokio panics, and a
/// shim that ends takes its containers with it. Here the caller's thread does the work then.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (done, result) = tokio::sync::oneshot::channel();
    let on_thread = {
        let work = Arc::clone(&work);
        move || {
            if let Some(work) = take(&work) {
                // Nobody waits any more when the caller was dropped.
                drop(done.send(work()));
            }
        }
    };
    match std::thread::Builder::new()
        .name("skiff-blocking".to_owned())
        .spawn(on_thread)
    {
        Ok(_) => result.await.map_err(io::Error::other),
        Err(error) => {
            log::debug!("no thread for work that blocks: {error}");
            take(&work)
                .map(|work| work())
                .ok_or_else(|| io::Error::other("the work is gone"))
        }
    }
}
