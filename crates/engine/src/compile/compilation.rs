//! One compilation: a worker's run, judged, and its code published or kept in memory.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use skiff_cache::{About, Key, SlotLock};

use super::failure::Limit;
use super::output::Output;
use super::request::Request;
use super::worker::{self, End, Job, Worker};
use super::{CachePolicy, Code, CompileError, ModuleBytes, Origin, chain, kind_of, leftover};
use crate::module::Form;
use crate::order::{CodeKind, Compiled};

/// Why code is not kept where that is as it should be.
const UNKEPT: &str = "the handler's option CachePolicy is \"off\"";

/// A module that is being compiled, with all the locks for it.
pub(super) struct Compilation<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) key: Key,
    pub(super) bytes: ModuleBytes,
    pub(super) form: Form,
    pub(super) slot: Option<SlotLock>,
}

impl Compilation<'_> {
    pub(super) async fn run(mut self) -> Result<Code, CompileError> {
        let (output, reason) = self.output().await?;
        let (end, mut remains) = self.work(&output).await?;
        let (end, output, reason) = match end {
            End::Failed(_) if self.is_at_limit(&output) => (End::Output, output, reason),
            End::Failed(sentence) if output.is_stuck() => {
                let reason = "the disk of the cache is full".to_owned();
                log::warn!(
                    "module {} is compiled again, into memory: {reason} ({sentence})",
                    self.request.name
                );
                let output = self.memory()?;
                let end;
                (end, remains) = self.work(&output).await?;
                (end, output, reason)
            }
            end => (end, output, reason),
        };
        // The cgroup has its name from the slot: nobody else uses it before the slot is free.
        let slot = self.slot.take();
        self.request.compiler.later(move || {
            drop(remains);
            drop(slot);
        });
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
            _ if self.is_unkept() => return Ok((self.memory()?, UNKEPT.to_owned())),
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

    /// Code that is not kept is what was asked for.
    fn is_unkept(&self) -> bool {
        self.request.options.cache == CachePolicy::Off
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

    async fn work(&self, output: &Output) -> Result<(End, Option<Worker>), CompileError> {
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
            program: &driver.program,
            cgroup: &leftover::path(driver.identity.as_deref(), self.slot.as_ref()),
            input: input.as_fd(),
            output: for_worker.as_fd(),
            options: self.request.options,
        };
        let begin = Instant::now();
        let (end, remains) = worker::run(&job)
            .await
            .map_err(|(operation, error)| self.request.failed(operation, error))?;
        log::info!(
            "compiler of {} for module {}: {:?} after {:?}",
            driver.settings.engine,
            self.request.name,
            end,
            begin.elapsed()
        );
        Ok((end, remains))
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
        let possible = match (self.form, compiled.kind) {
            (Form::Module, kind) => kind == CodeKind::Module,
            // Whether a component is a service, its exports say, which only the worker has parsed. A wrong answer gets
            // a host that finds out.
            (Form::Component, kind) => kind != CodeKind::Module,
            (Form::Text, _) => true,
        };
        if !possible {
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
        if let Origin::Uncached { reason, .. } = &origin
            && !self.is_unkept()
        {
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
