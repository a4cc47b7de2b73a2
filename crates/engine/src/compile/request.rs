//! One request for a module's code: the way from its bytes through the cache, the locks and what the node
//! remembers, to a compilation if there must be one.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

use skiff_cache::{Cache, Key, KeyLock, SlotLock};

use super::compilation::Compilation;
use super::failure::{self, Limit};
use super::{
    BoxError, CachePolicy, Code, CompileError, CompileOptions, Compiler, FetchModule, ModuleBytes,
    Origin, Settings, Source, SourceError, blocking, chain, fingerprint, worker,
};
use crate::module;

/// Bytes that are not here yet, or are.
enum Bytes<'a> {
    Here(ModuleBytes),
    Fetch(FetchModule<'a>),
}

/// One call of [`Compiler::code_for`].
pub(super) struct Request<'a> {
    pub(super) compiler: &'a Compiler,
    pub(super) name: &'a str,
    pub(super) options: CompileOptions,
}

impl Request<'_> {
    pub(super) async fn serve(&self, source: Source<'_>) -> Result<Code, CompileError> {
        match source {
            Source::File(file) => self.serve_file(file).await,
            Source::Blob { sha256, bytes } => match self.look_up(&sha256).await {
                Some(code) => Ok(code),
                None => self.compile(sha256, Bytes::Fetch(bytes)).await,
            },
        }
    }

    async fn serve_file(&self, file: OwnedFd) -> Result<Code, CompileError> {
        let (compiler, cache, options) =
            (self.compiler.clone(), self.cache().cloned(), self.options);
        let quick = is_quick(&file);
        let find = move || {
            let mut file = File::from(file);
            let Some(cache) = cache else {
                return Ok((file, None));
            };
            let sha256 = fingerprint::resolve(&cache, &fingerprint::of(&mut file)?);
            Ok((
                file,
                sha256.and_then(|sha256| compiler.cached(&sha256, options)),
            ))
        };
        // The way of most starts. A thread, once used, costs the shim more memory than all else here.
        let (file, code) = if quick {
            find().map_err(|source| self.unreadable(source))?
        } else {
            self.reading(find).await?
        };
        if let Some(code) = code {
            return Ok(code);
        }
        // Others may write to the file just now: what was copied is what is hashed, and what is compiled.
        let (bytes, fingerprint) = self.reading(move || fingerprint::copy(file)).await?;
        let sha256 = *bytes.sha256();
        let code = match self.look_up(&sha256).await {
            Some(code) => code,
            None => self.compile(sha256, Bytes::Here(bytes)).await?,
        };
        if let (Some(cache), Origin::Cached | Origin::Compiled { .. }) =
            (self.cache(), &code.origin)
        {
            let (cache, engine) = (cache.clone(), self.settings().engine.clone());
            self.blocking("note its digest", move || {
                fingerprint::note(&cache, &engine, &fingerprint, &sha256);
            })
            .await?;
        }
        Ok(code)
    }

    /// Makes the code, unless another does while this waits for its turn.
    async fn compile(&self, sha256: [u8; 32], bytes: Bytes<'_>) -> Result<Code, CompileError> {
        if self.options.cache == CachePolicy::Only {
            return Err(CompileError::NotCached {
                name: self.name.to_owned(),
            });
        }
        let key = self.compiler.key(&sha256, self.options);
        let deadline = Instant::now() + self.settings().waiting;
        let _lock = self.lock(&key, deadline).await?;
        // Whoever had the lock until now has made it.
        if let Some(code) = self.look_up(&sha256).await {
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
        if let (Err(error), Some(cache)) = (&result, self.cache())
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

    /// The cache, where it is to be used.
    fn cache(&self) -> Option<&Cache> {
        self.compiler
            .cache()
            .filter(|_| self.options.cache != CachePolicy::Off)
    }

    pub(super) fn settings(&self) -> &Settings {
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
        let size = self.cache()?.size(&compiler.key(&sha256, options))?;
        if size <= QUICK_CODE {
            return compiler.cached(&sha256, options);
        }
        self.blocking("look into the cache", move || {
            compiler.cached(&sha256, options)
        })
        .await
        .ok()?
    }

    /// Fails if the node remembers that the module failed at a limit just now.
    async fn recall(&self, key: &Key) -> Result<(), CompileError> {
        let Some(cache) = self.cache().cloned() else {
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

    pub(super) fn at_limit(&self, limit: Limit) -> CompileError {
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

    /// The right to compile the key. `None` where there is no cache, or it cannot be locked: then each compiles
    /// for itself.
    async fn lock(&self, key: &Key, deadline: Instant) -> Result<Option<KeyLock>, CompileError> {
        let Some(cache) = self.cache() else {
            return Ok(None);
        };
        let mut attempt = 0;
        loop {
            match cache.try_lock(key) {
                Ok(Some(lock)) => return Ok(Some(lock)),
                Ok(None) => self.pause(&mut attempt, deadline).await?,
                Err(error) => {
                    log::warn!(
                        "could not keep others from compiling the same module: {}",
                        chain(&error)
                    );
                    return Ok(None);
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

    pub(super) fn failed(
        &self,
        operation: &'static str,
        source: impl Into<BoxError>,
    ) -> CompileError {
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

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CompileError> {
        blocking(work)
            .await
            .map_err(|error| self.failed(operation, error))
    }
}

/// Code up to this size is verified without a thread of its own: in some milliseconds.
const QUICK_CODE: u64 = 32 << 20;
/// Modules up to this size are hashed without a thread of their own, on file systems that answer at once.
const QUICK_MODULE: u64 = 8 << 20;

/// File systems whose files are at hand: none of the kinds that another process or machine serves, and may
/// not serve for a while. (statfs(2); ext4, xfs, btrfs, f2fs, overlay, tmpfs, erofs, squashfs.)
const LOCAL: [u64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x794c_7630,
    0x0102_1994,
    0xe0f5_e1e2,
    0x7371_7368,
];

fn is_quick(file: &OwnedFd) -> bool {
    let small = rustix::fs::fstat(file)
        .is_ok_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size <= QUICK_MODULE));
    small
        && rustix::fs::fstatfs(file).is_ok_and(|system| {
            u64::try_from(system.f_type).is_ok_and(|kind| LOCAL.contains(&kind))
        })
}

fn limit_of(error: &CompileError) -> Option<Limit> {
    match error {
        CompileError::Time { .. } => Some(Limit::Time),
        CompileError::Memory { .. } => Some(Limit::Memory),
        CompileError::Output { .. } => Some(Limit::Output),
        _ => None,
    }
}
