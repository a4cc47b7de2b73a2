//! The first process of a container that is a Linux program: executes the plan on itself, waits for the
//! shim's word, becomes the program. The pod's pause process is started by it.
//!
//! Nothing is allocated, read or opened here that the program would inherit: all descriptors but the
//! standard streams close on exec.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::process::ExitCode;

use skiff_engine::order::ProgramOrder;
use skiff_sandbox::control::{self, ChildControl, Report};
use skiff_sandbox::execute::execute;
use skiff_sandbox::sentence::chain;
use skiff_sandbox::sys::exec::execute_fd;

/// What a shell answers for a program that it could not execute.
const CANNOT_EXECUTE: u8 = 126;

fn main() -> ExitCode {
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            control::say_last_words(&format!(
                "skiff-init is started by a Skiff shim only: {}",
                chain(&error)
            ));
            return ExitCode::FAILURE;
        }
    };
    match run(&control) {
        Ok(never) => never,
        // The shim is gone, there is nobody to tell.
        Err(None) => ExitCode::FAILURE,
        Err(Some(sentence)) => {
            control.fail(&sentence);
            ExitCode::from(CANNOT_EXECUTE)
        }
    }
}

/// Does not return when all goes well. The error is a sentence, or nothing when nobody waits for it.
fn run(control: &ChildControl) -> Result<ExitCode, Option<String>> {
    let tell = |error: &dyn std::error::Error| Some(chain(error));
    let order: ProgramOrder = control::read_order().map_err(|error| tell(&error))?;
    let program = control::adopt_slot(order.program).map_err(|error| tell(&error))?;
    let args = strings(&order.args)?;
    let environment = strings(&order.env)?;
    execute(&order.plan).map_err(|error| tell(&error))?;
    control.report(&Report::Ready).map_err(|_| None)?;
    if !control.wait_for_go().map_err(|error| tell(&error))? {
        return Err(None);
    }
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    let error = execute_fd(program.as_fd(), &args, &environment);
    let name = order.args.first().map_or("the program", String::as_str);
    Err(Some(format!("could not execute {name}: {error}")))
}

fn strings(strings: &[String]) -> Result<Vec<CString>, Option<String>> {
    let nul = |string: &String| {
        Some(format!(
            "an argument or environment variable has a NUL byte in it: {string:?}"
        ))
    };
    strings
        .iter()
        .map(|string| CString::new(string.as_str()).map_err(|_| nul(string)))
        .collect()
}
