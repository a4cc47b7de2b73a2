//! The wasmtime compile worker: Wasm in, native code out, nothing else in reach.
//!
//! Launched by a shim with a [`CompileOrder`] for one module. It gives up everything but its two descriptors and some
//! thirty system calls *before* it looks at the module, since a module may be made to attack the compiler. Whoever launched it bounds its
//! time and memory, and decides from what it wrote what becomes of it. It never runs what it makes.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use skiff_engine::order::{CompileOrder, Compiled};
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order, say_last_words};
use skiff_sandbox::execute::execute;
use skiff_sandbox::sentence::chain;

use crate::failure::Failure;

mod compile;
mod confine;
mod failure;
mod files;
mod input;

fn main() -> ExitCode {
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            say_last_words(&format!(
                "skiff-compile-wasmtime is started by a Skiff shim, not by hand: {}",
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

    // All that is done for this module, and more the larger it is.
    let start = Instant::now();
    let bytes = files::read(&input)?;
    drop(input);
    let module = input::parse(&bytes)?;
    let code = compile::compile(&module, order.threads, order.opt_level, &order.code)?;
    files::write(&output, &code)?;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let compiled = Compiled {
        kind: module.kind,
        milliseconds,
    };
    Ok(Report::Done(
        postcard::to_stdvec(&compiled).map_err(Failure::Encode)?,
    ))
}
