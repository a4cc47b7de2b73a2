//! The WasmEdge compile worker: Wasm in, native code out, nothing else in reach.
//!
//! Launched by a shim with a [`CompileOrder`] for one module, as every engine's worker is. WasmEdge's compiler writes
//! its output to a path: this worker's root is an empty file system of its own, in memory and bounded, and the result is
//! copied from there to the output's descriptor.
//!
//! A module that the compiler does not take, and that is valid all the same, goes to the output itself, and is
//! interpreted: the log says so.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use skiff_engine::module::{Form, Refusal, sniff};
use skiff_engine::order::{CodeKind, CompileOrder, Compiled};
use skiff_sandbox::control::{
    ChildControl, OrderError, Report, adopt_slot, read_order, say_last_words,
};
use skiff_sandbox::execute::{ExecuteError, execute};
use skiff_sandbox::sentence::chain;
use wasmedge_sdk::error::WasmEdgeError;
use wasmedge_sdk::{Compiler, Module};

mod confine;

/// What the bundle around this executable was made from. In it, so that its build id, which is part of the key of
/// compiled code, changes with the library that compiles.
#[used]
static BUNDLE: Option<&str> = option_env!("SKIFF_BUNDLE");

/// The worker's root, which nobody else sees.
const SCRATCH: &str = "/";

/// Why there is no compiled code. The caller adds the module's name.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("could not take over the descriptor of {what}")]
    Slot {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    #[error("could not load the compiler's seccomp filter")]
    Confine(#[source] io::Error),
    #[error("could not read the module")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("this is not valid WebAssembly text")]
    Text(#[source] wat::Error),
    #[error("it is a component, and WasmEdge runs core modules only: run it with wasmtime")]
    Component,
    #[error("this is not valid WebAssembly, or uses what is not allowed")]
    Invalid(#[source] Box<WasmEdgeError>),
    #[error("could not start WasmEdge's compiler")]
    Engine(#[source] Box<WasmEdgeError>),
    #[error("could not write compiled code")]
    Write(#[source] io::Error),
    #[error("could not encode the result")]
    Encode(#[source] postcard::Error),
}

fn main() -> ExitCode {
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            say_last_words(&format!(
                "skiff-compile-wasmedge is started by a Skiff shim, not by hand: {}",
                chain(&error)
            ));
            return ExitCode::FAILURE;
        }
    };
    let report = match work() {
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

fn work() -> Result<Report, Failure> {
    let order: CompileOrder = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let input = adopt_slot(order.input).map_err(slot("the module"))?;
    let output = adopt_slot(order.output).map_err(slot("the compiled code"))?;
    execute(&order.plan)?;
    confine::confine().map_err(Failure::Confine)?;

    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut input = File::from(input);
    input.rewind().map_err(Failure::Read)?;
    input.read_to_end(&mut bytes).map_err(Failure::Read)?;
    let code = compile(&core_module(&bytes)?, &order)?;
    let mut output = File::from(output);
    output.write_all(&code).map_err(Failure::Write)?;
    let compiled = Compiled {
        kind: CodeKind::Module,
        milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Report::Done(
        postcard::to_stdvec(&compiled).map_err(Failure::Encode)?,
    ))
}

/// The module in its binary format.
fn core_module(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Failure> {
    match sniff(bytes)? {
        Form::Module => Ok(Cow::Borrowed(bytes)),
        Form::Component => Err(Failure::Component),
        Form::Text => {
            let wasm = wat::parse_bytes(bytes).map_err(Failure::Text)?.into_owned();
            match sniff(wasm.as_slice())? {
                Form::Module => Ok(Cow::Owned(wasm)),
                Form::Component | Form::Text => Err(Failure::Component),
            }
        }
    }
}

fn compile(wasm: &[u8], order: &CompileOrder) -> Result<Vec<u8>, Failure> {
    let config = skiff_engine_wasmedge::config(&order.code, order.opt_level, None)
        .map_err(Failure::Engine)?;
    // Loading checks it too, and what is wrong with a module is said better here.
    Module::from_bytes(Some(&config), wasm).map_err(Failure::Invalid)?;
    if order.code.interpreted {
        return Ok(skiff_engine_wasmedge::interpreted(wasm));
    }
    let compiler = Compiler::new(Some(&config)).map_err(Failure::Engine)?;
    match compiler.compile_from_bytes(wasm, "code", SCRATCH) {
        Ok(path) => std::fs::read(path).map_err(Failure::Read),
        Err(error) => {
            say_last_words(&format!(
                "the module is interpreted, since WasmEdge's compiler does not take it: {}",
                chain(&error)
            ));
            Ok(skiff_engine_wasmedge::interpreted(wasm))
        }
    }
}
