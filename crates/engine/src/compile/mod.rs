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
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use skiff_cache::{About, Cache, Entry, Key, KeyLock, KeyParts, Kind, SlotLock};
use skiff_sandbox::cgroup::Layout;
use skiff_sandbox::sys::mount;

use crate::module::{self, Form};
use crate::order::{CodeKind, Compiled};

mod build_id;
mod error;
mod failure;
mod output;
mod processor;
mod settings;
mod source;
mod worker;

pub use error::CompileError;
pub use settings::Settings;
pub use source::{ModuleBuffer, ModuleBytes, SourceError};

use failure::Limit;
use output::Output;
use worker::{End, Job};

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

/// Options of a compilation that change the code; part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// WASI 0.3 may be used by the code.
    pub wasi_p3: bool,
}

impl CompileOptions {
    /// One encoding for each value: a byte of flags. A new option takes a new bit.
    fn encode(self) -> [u8; 1] {
        [u8::from(self.wasi_p3)]
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
        /// Time of the compilation alone.
        milliseconds: u64,
    },
    /// It was compiled into memory, and will be compiled again the next time.
    Uncached {
        /// Time of the compilation alone.
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
    program: OwnedFd,
    build: Vec<u8>,
    processor: String,
    /// The cache, or why there is none.
    cache: Result<Cache, String>,
    /// Part of the names of the workers' cgroups: two caches on one node have each their own slots.
    identity: String,
}

/// What an entry's kind means, for listings: `module`, `component`, or a note on a failed compilation.
pub fn kind_name(kind: Kind) -> &'static str {
    match (code_kind(kind), kind) {
        (Some(CodeKind::Module), _) => "module",
        (Some(CodeKind::Component), _) => "component",
        (None, failure::KIND) => "failure",
        (None, _) => "other",
    }
}

fn code_kind(kind: Kind) -> Option<CodeKind> {
    [CodeKind::Module, CodeKind::Component]
        .into_iter()
        .find(|code| kind_of(*code) == kind)
}

fn kind_of(code: CodeKind) -> Kind {
    match code {
        CodeKind::Module => Kind(1),
        CodeKind::Component => Kind(2),
    }
}

impl Compiler {
    /// Finds the worker and opens the cache. A cache that cannot be opened is logged and done without.
    ///
    /// # Errors
    /// There is no worker for the engine.
    pub fn new(settings: Settings) -> Result<Self, CompileError> {
        let name = format!("skiff-compile-{}", settings.engine);
        let path = settings.programs.join(&name);
        let open = || -> io::Result<(OwnedFd, Vec<u8>)> {
            let folder = mount::read_only_directory(&settings.programs)?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let program = File::from(rustix::fs::openat(&folder, &name, flags, Mode::empty())?);
            let build = build_id::of(&program)?;
            Ok((program.into(), build))
        };
        let (program, build) =
            open().map_err(|source| CompileError::NoCompiler { path, source })?;
        let cache = Cache::open(&settings.cache).map_err(|error| {
            let reason = chain(&error);
            log::warn!("modules are compiled anew at each start: {reason}");
            reason
        });
        let identity = identity(cache.as_ref().ok());
        Ok(Self(Arc::new(Driver {
            program,
            build,
            processor: processor::features(),
            cache,
            identity,
            settings,
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

    /// Removes cgroups that workers of dead shims left behind. Fast when there is nothing, and leaves alone what
    /// is in use. Called by the shim's `delete`.
    pub fn sweep(&self) {
        let (Some(cache), Ok(layout)) = (self.cache(), Layout::of_node()) else {
            return;
        };
        let mut slots = Vec::new();
        // Held all at once: each is another one then.
        while let Ok(Some(slot)) = cache.try_slot(self.0.settings.slots) {
            worker::clean(&self.0.cgroup_path(Some(&slot)), layout);
            slots.push(slot);
        }
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

/// Bytes that are not here yet, or are.
enum Bytes<'a> {
    Here(ModuleBytes),
    Fetch(FetchModule<'a>),
}

/// One call of [`Compiler::code_for`].
struct Request<'a> {
    compiler: &'a Compiler,
    name: &'a str,
    options: CompileOptions,
}

impl Request<'_> {
    async fn serve(&self, source: Source<'_>) -> Result<Code, CompileError> {
        let (sha256, bytes) = match source {
            Source::File(file) => {
                // One call, so that a start with everything in the cache goes to another thread once.
                let (compiler, options) = (self.compiler.clone(), self.options);
                let (file, sha256, code) = self
                    .reading(move || {
                        let mut file = File::from(file);
                        let sha256 = hash(&mut file)?;
                        let code = compiler.cached(&sha256, options);
                        Ok((file, sha256, code))
                    })
                    .await?;
                if let Some(code) = code {
                    return Ok(code);
                }
                let bytes = self
                    .reading(move || ModuleBytes::copy_of_file(file))
                    .await?;
                if *bytes.sha256() != sha256 {
                    // Somebody writes to it just now. What was copied is what is compiled.
                    if let Some(code) = self.look_up(bytes.sha256()).await {
                        return Ok(code);
                    }
                }
                (*bytes.sha256(), Bytes::Here(bytes))
            }
            Source::Blob { sha256, bytes } => {
                if let Some(code) = self.look_up(&sha256).await {
                    return Ok(code);
                }
                (sha256, Bytes::Fetch(bytes))
            }
        };
        self.compile(sha256, bytes).await
    }

    /// Makes the code, unless another does while this waits for its turn.
    async fn compile(&self, sha256: [u8; 32], bytes: Bytes<'_>) -> Result<Code, CompileError> {
        let key = self.compiler.key(&sha256, self.options);
        let deadline = Instant::now() + self.settings().waiting;
        let (_lock, waited) = self.lock(&key, deadline).await?;
        if waited && let Some(code) = self.look_up(&sha256).await {
            return Ok(code);
        }
        self.recall(&key).await?;
        let bytes = match bytes {
            Bytes::Here(bytes) => bytes,
            Bytes::Fetch(fetch) => fetch.await.map_err(|source| CompileError::Fetch {
                name: self.name.to_owned(),
                source,
            })?,
        };
        bytes
            .check(&sha256)
            .map_err(|source| self.unreadable(source))?;
        let (bytes, form) = self
            .blocking("look at it", move || (module::sniff(&bytes), bytes))
            .await
            .map(|(form, bytes)| (bytes, form))?;
        let form = form.map_err(|source| CompileError::Refused {
            name: self.name.to_owned(),
            source,
        })?;
        let slot = self.slot(deadline).await?;
        let job = Compilation {
            request: self,
            key,
            bytes,
            form,
            slot,
        };
        let result = job.run().await;
        if let (Err(error), Some(cache)) = (&result, self.compiler.cache())
            && let Some(limit) = limit_of(error)
        {
            let (cache, limits, engine) =
                (cache.clone(), self.limits(), self.settings().engine.clone());
            self.blocking("remember it", move || {
                failure::remember(&cache, &key, &limits, &engine, &sha256, limit);
            })
            .await?;
        }
        result
    }

    fn settings(&self) -> &Settings {
        &self.compiler.0.settings
    }

    /// The limits under which modules are compiled now.
    fn limits(&self) -> String {
        let Settings {
            memory,
            time,
            output,
            threads,
            ..
        } = self.settings();
        format!("{memory} {} {output} {threads}", time.as_millis())
    }

    async fn look_up(&self, sha256: &[u8; 32]) -> Option<Code> {
        let (compiler, sha256, options) = (self.compiler.clone(), *sha256, self.options);
        self.blocking("look into the cache", move || {
            compiler.cached(&sha256, options)
        })
        .await
        .ok()?
    }

    /// Fails if the node remembers that the module failed at a limit just now.
    async fn recall(&self, key: &Key) -> Result<(), CompileError> {
        let Some(cache) = self.compiler.cache().cloned() else {
            return Ok(());
        };
        let (key, limits, lifetime) = (*key, self.limits(), self.settings().remember_failure);
        let before = self
            .blocking("look into the cache", move || {
                failure::recall(&cache, &key, &limits, lifetime)
            })
            .await?;
        match before {
            None => Ok(()),
            Some((limit, ago)) => Err(CompileError::FailedBefore {
                sentence: self.at_limit(limit).to_string(),
                ago,
                again: lifetime.saturating_sub(ago),
            }),
        }
    }

    fn at_limit(&self, limit: Limit) -> CompileError {
        let (name, settings) = (self.name.to_owned(), self.settings());
        match limit {
            Limit::Time => CompileError::Time {
                name,
                limit: settings.time,
            },
            Limit::Memory => CompileError::Memory {
                name,
                limit: settings.memory,
            },
            Limit::Output => CompileError::Output {
                name,
                limit: settings.output,
            },
        }
    }

    /// The right to compile the key, and whether it had to be waited for. `None` where there is no cache, or it
    /// cannot be locked: then each compiles for itself.
    async fn lock(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> Result<(Option<KeyLock>, bool), CompileError> {
        let Some(cache) = self.compiler.cache() else {
            return Ok((None, false));
        };
        let mut attempt = 0;
        loop {
            match cache.try_lock(key) {
                Ok(Some(lock)) => return Ok((Some(lock), attempt > 0)),
                Ok(None) => self.pause(&mut attempt, deadline).await?,
                Err(error) => {
                    log::warn!(
                        "could not keep others from compiling the same module: {}",
                        chain(&error)
                    );
                    return Ok((None, false));
                }
            }
        }
    }

    async fn slot(&self, deadline: Instant) -> Result<Option<SlotLock>, CompileError> {
        let Some(cache) = self.compiler.cache() else {
            return Ok(None);
        };
        let mut attempt = 0;
        loop {
            match cache.try_slot(self.settings().slots) {
                Ok(Some(slot)) => return Ok(Some(slot)),
                Ok(None) => self.pause(&mut attempt, deadline).await?,
                Err(error) => {
                    log::warn!(
                        "could not limit the number of compilations: {}",
                        chain(&error)
                    );
                    return Ok(None);
                }
            }
        }
    }

    async fn pause(&self, attempt: &mut u32, deadline: Instant) -> Result<(), CompileError> {
        if Instant::now() >= deadline {
            return Err(CompileError::Busy {
                name: self.name.to_owned(),
                waited: self.settings().waiting,
            });
        }
        tokio::time::sleep(worker::backoff(*attempt)).await;
        *attempt += 1;
        Ok(())
    }

    fn unreadable(&self, source: SourceError) -> CompileError {
        CompileError::Read {
            name: self.name.to_owned(),
            source,
        }
    }

    fn failed(&self, operation: &'static str, source: impl Into<BoxError>) -> CompileError {
        CompileError::Worker {
            name: self.name.to_owned(),
            operation,
            source: source.into(),
        }
    }

    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, CompileError> {
        self.blocking("read it", work)
            .await?
            .map_err(|source| self.unreadable(source))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CompileError> {
        blocking(work)
            .await
            .map_err(|error| self.failed(operation, error))
    }
}

fn limit_of(error: &CompileError) -> Option<Limit> {
    match error {
        CompileError::Time { .. } => Some(Limit::Time),
        CompileError::Memory { .. } => Some(Limit::Memory),
        CompileError::Output { .. } => Some(Limit::Output),
        _ => None,
    }
}

/// A module that is being compiled, with all the locks for it.
struct Compilation<'a> {
    request: &'a Request<'a>,
    key: Key,
    bytes: ModuleBytes,
    form: Form,
    slot: Option<SlotLock>,
}

impl Compilation<'_> {
    async fn run(self) -> Result<Code, CompileError> {
        let (output, reason) = self.output().await?;
        let (end, output, reason) = match self.work(&output).await? {
            End::Failed(_) if self.is_at_limit(&output) => (End::Output, output, reason),
            End::Failed(sentence) if output.is_stuck() => {
                let reason = "the disk of the cache is full".to_owned();
                log::warn!(
                    "module {} is compiled again, into memory: {reason} ({sentence})",
                    self.request.name
                );
                let output = self.memory()?;
                (self.work(&output).await?, output, reason)
            }
            end => (end, output, reason),
        };
        let compiled = self.compiled(end)?;
        let length = output
            .length()
            .map_err(|error| self.request.failed("look at its code", error))?;
        if length == 0 {
            return Err(self.died("gave no code"));
        }
        if length > self.request.settings().output {
            return Err(self.request.at_limit(Limit::Output));
        }
        self.keep(compiled, output, length, reason).await
    }

    /// The file of the cache that the code goes to; or memory, and why.
    async fn output(&self) -> Result<(Output, String), CompileError> {
        let reason = match &self.request.compiler.0.cache {
            Err(reason) => reason.clone(),
            Ok(cache) => {
                let (cache, key) = (cache.clone(), self.key);
                match self
                    .request
                    .blocking("open the cache", move || cache.begin(&key))
                    .await?
                {
                    Ok(publication) => return Ok((Output::Cache(publication), String::new())),
                    Err(error) => chain(&error),
                }
            }
        };
        log::warn!(
            "module {} is compiled into memory: {reason}",
            self.request.name
        );
        Ok((self.memory()?, reason))
    }

    /// A worker is the first process of its pid namespace and does not get the signal for a file that has become
    /// too large (pid_namespaces(7)): its write ends at the limit, and the next one fails.
    fn is_at_limit(&self, output: &Output) -> bool {
        output
            .length()
            .is_ok_and(|length| length >= self.request.settings().output)
    }

    fn memory(&self) -> Result<Output, CompileError> {
        Output::memory().map_err(|error| {
            self.request
                .failed("make a memory file for its code", error)
        })
    }

    async fn work(&self, output: &Output) -> Result<End, CompileError> {
        let driver = &self.request.compiler.0;
        let for_worker = output
            .for_worker()
            .map_err(|error| self.request.failed("open a file for its code", error))?;
        let input = self
            .bytes
            .reopen()
            .map_err(|error| self.request.failed("open it", error))?;
        let job = Job {
            settings: &driver.settings,
            program: driver.program.as_fd(),
            cgroup: &driver.cgroup_path(self.slot.as_ref()),
            input: input.as_fd(),
            output: for_worker.as_fd(),
            wasi_p3: self.request.options.wasi_p3,
        };
        let begin = Instant::now();
        let end = worker::run(&job)
            .await
            .map_err(|(operation, error)| self.request.failed(operation, error))?;
        log::info!(
            "compiler of {} for module {}: {:?} after {:?}",
            driver.settings.engine,
            self.request.name,
            end,
            begin.elapsed()
        );
        Ok(end)
    }

    fn compiled(&self, end: End) -> Result<Compiled, CompileError> {
        let name = || self.request.name.to_owned();
        let compiled = match end {
            End::Done(compiled) => compiled,
            End::Failed(sentence) => {
                return Err(CompileError::Invalid {
                    name: name(),
                    sentence,
                });
            }
            End::Time => return Err(self.request.at_limit(Limit::Time)),
            End::Memory => return Err(self.request.at_limit(Limit::Memory)),
            End::Output => return Err(self.request.at_limit(Limit::Output)),
            End::Died(how) => return Err(CompileError::Died { name: name(), how }),
        };
        // The worker has read hostile bytes; what can be known without it is not taken from it.
        let expected = match self.form {
            Form::Module => CodeKind::Module,
            Form::Component => CodeKind::Component,
            Form::Text => compiled.kind,
        };
        if compiled.kind != expected {
            return Err(self.died("took a module for a component, or a component for a module"));
        }
        Ok(compiled)
    }

    fn died(&self, how: &str) -> CompileError {
        CompileError::Died {
            name: self.request.name.to_owned(),
            how: how.to_owned(),
        }
    }

    /// Publishes the code, or keeps it in memory when that fails.
    async fn keep(
        &self,
        compiled: Compiled,
        output: Output,
        length: u64,
        reason: String,
    ) -> Result<Code, CompileError> {
        let Compiled { kind, milliseconds } = compiled;
        let module = *self.bytes.sha256();
        let about = About {
            kind: kind_of(kind),
            maker: self.request.settings().engine.clone(),
            source: module,
        };
        let kept = self.request.blocking("publish its code", move || {
            let reason = match &output {
                Output::Memory(_) => reason,
                Output::Cache(publication) => match publication.publish(&about) {
                    Ok(entry) => {
                        return Ok((entry.file, entry.length, Origin::Compiled { milliseconds }));
                    }
                    Err(error) => chain(&error),
                },
            };
            let file = output.into_memory(length)?;
            Ok((
                file,
                length,
                Origin::Uncached {
                    milliseconds,
                    reason,
                },
            ))
        });
        let (file, length, origin) = kept
            .await?
            .map_err(|error: io::Error| self.request.failed("keep its code in memory", error))?;
        if let Origin::Uncached { reason, .. } = &origin {
            log::warn!(
                "module {} is not kept in the cache: {reason}",
                self.request.name
            );
        }
        Ok(Code {
            file,
            kind,
            length,
            module,
            origin,
        })
    }
}

impl Compiler {
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

impl Driver {
    /// A slot's holder is the only one on the node to use its name, so what is found there is a leftover.
    fn cgroup_path(&self, slot: Option<&SlotLock>) -> String {
        static UNSLOTTED: AtomicU64 = AtomicU64::new(0);
        match slot {
            Some(slot) => format!("/skiff-compile/{}-{}", self.identity, slot.number()),
            None => format!(
                "/skiff-compile/p{}-{}",
                std::process::id(),
                UNSLOTTED.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }
}

/// Names the cache's directory on this node, however it is reached.
fn identity(cache: Option<&Cache>) -> String {
    let stat = cache.and_then(|cache| rustix::fs::stat(cache.directory()).ok());
    stat.map_or_else(
        || "none".to_owned(),
        |stat| format!("{:x}-{:x}", stat.st_dev, stat.st_ino),
    )
}

fn hash(file: &mut File) -> Result<[u8; 32], SourceError> {
    let read = |source| SourceError::Io {
        operation: "read it",
        source,
    };
    if file.metadata().map_err(read)?.len() > module::LARGEST {
        return Err(SourceError::TooLarge);
    }
    file.rewind().map_err(read)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    // A file that grows while it is read ends here too.
    let mut rest = file.take(module::LARGEST + 1);
    loop {
        match rest.read(&mut chunk) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read(error)),
        }
    }
}

/// Runs what blocks on one of tokio's threads for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
