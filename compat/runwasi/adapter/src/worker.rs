//! The compile worker: a module in, what the engine is given out, nothing else in reach.
//!
//! Launched by a shim with a [`CompileOrder`] for one module, as every engine's worker is. An engine with a `Compiler`
//! compiles here, once for the node; for one without, the module itself is what the cache keeps. Bytes of an image are
//! never taken for compiled code, whatever the engine would make of them: [`sniff`] refuses all but WebAssembly.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use containerd_shim_wasm::sandbox::context::WasmLayer;
use containerd_shim_wasm::shim::{Compiler, Shim};
use sha2::{Digest as _, Sha256};
use skiff_engine::module::{Form, sniff};
use skiff_engine::options::{CodeOptions, OptLevel};
use skiff_engine::order::{CodeKind, CompileOrder, Compiled};
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order, say_last_words};
use skiff_sandbox::execute::execute;
use skiff_sandbox::sentence::chain;

use crate::entry::Entry;
use crate::failure::Failure;
use crate::{calls, context, engine};

pub(crate) fn main<S: Shim>(name: &str) -> ExitCode {
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            say_last_words(&format!(
                "{name} is started by a Skiff shim, not by hand: {}",
                chain(&error)
            ));
            return ExitCode::FAILURE;
        }
    };
    let report = match work::<S>() {
        Ok(report) => report,
        Err(failure) => {
            control.fail(&chain(&failure));
            return ExitCode::FAILURE;
        }
    };
    match control.report(&report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_last_words(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn work<S: Shim>() -> Result<Report, Failure> {
    let order: CompileOrder = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let input = adopt_slot(order.input).map_err(slot("the module"))?;
    let output = adopt_slot(order.output).map_err(slot("the code"))?;
    execute(&order.plan)?;
    calls::confine_worker().map_err(Failure::ConfineWorker)?;
    check::<S>(&order.code, order.opt_level)?;

    let start = Instant::now();
    let unreadable = |source| Failure::Read {
        what: "the module".to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let mut input = File::from(input);
    input.rewind().map_err(unreadable)?;
    input.read_to_end(&mut bytes).map_err(unreadable)?;
    let (module, kind) = binary(&bytes)?;
    let entry = compile::<S>(Entry {
        sha256: Sha256::digest(&bytes).into(),
        size: bytes.len() as u64,
        is_compiled: false,
        code: module.into_owned(),
    })?;
    let mut output = File::from(output);
    output.write_all(&entry.header()).map_err(Failure::Write)?;
    output.write_all(&entry.code).map_err(Failure::Write)?;
    let compiled = Compiled {
        kind,
        milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Report::Done(
        postcard::to_stdvec(&compiled).map_err(Failure::Encode)?,
    ))
}

/// Options that change code are not the engine's to know, and must not be promised.
fn check<S: Shim>(code: &CodeOptions, level: OptLevel) -> Result<(), Failure> {
    let option = if code.proposals != CodeOptions::default().proposals {
        "Proposals"
    } else if level != OptLevel::default() {
        "OptLevel"
    } else {
        return Ok(());
    };
    Err(Failure::Option {
        option: option.to_owned(),
        engine: S::name(),
        advice: "leave it out",
    })
}

/// The module in its binary format, and what it is.
fn binary(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, CodeKind), Failure> {
    let binary = match sniff(bytes)? {
        Form::Text => Cow::Owned(wat::parse_bytes(bytes).map_err(Failure::Text)?.into_owned()),
        Form::Module | Form::Component => Cow::Borrowed(bytes),
    };
    // Text can say any bytes.
    let kind = match sniff(&*binary)? {
        Form::Module | Form::Text => CodeKind::Module,
        Form::Component => CodeKind::Component,
    };
    Ok((binary, kind))
}

/// What the engine's compiler makes of it, if there is one, and if it takes the module.
fn compile<S: Shim>(entry: Entry) -> Result<Entry, Failure> {
    let (sha256, size) = (entry.sha256, entry.size);
    let runtime = engine::runtime::<S>()?;
    let made = engine::call(|| {
        let layers = [context::layer(entry)?];
        let compiled = runtime.block_on(async {
            match S::compiler().await {
                Some(compiler) => one(compiler.compile(&layers).await?),
                None => Ok(None),
            }
        })?;
        Ok((compiled, layers))
    });
    // Its threads may be in the middle of something; nobody waits for them.
    runtime.shutdown_background();
    let (compiled, [WasmLayer { layer, .. }]) = made.map_err(|error| Failure::Engine {
        engine: S::name(),
        could_not: "does not compile it".to_owned(),
        words: format!("{error:#}"),
    })?;
    Ok(Entry {
        sha256,
        size,
        is_compiled: compiled.is_some(),
        code: compiled.unwrap_or(layer),
    })
}

/// One layer was given, so there is one answer.
fn one(mut answers: Vec<Option<Vec<u8>>>) -> anyhow::Result<Option<Vec<u8>>> {
    let count = answers.len();
    ensure!(count == 1, "it was given one layer and answered {count}");
    answers.pop().context("there is no answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_for_each_layer() {
        assert_eq!(one(vec![None]).unwrap(), None);
        assert_eq!(one(vec![Some(vec![1])]).unwrap(), Some(vec![1]));
        one(Vec::new()).unwrap_err();
        one(vec![None, None]).unwrap_err();
    }

    #[test]
    fn what_is_given_to_an_engine_is_webassembly() {
        let (module, kind) = binary(b"(module)").unwrap();
        assert_eq!(
            (&*module, kind),
            (&b"\0asm\x01\0\0\0"[..], CodeKind::Module)
        );
        let (_, kind) = binary(b"(component)").unwrap();
        assert_eq!(kind, CodeKind::Component);
        for native in [&b"\x7fELF\x02\x01\x01"[..], b"#!/bin/sh\n", b"", b"(module"] {
            assert!(binary(native).is_err(), "{native:?}");
        }
    }
}
