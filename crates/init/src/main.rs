//! A process of a container that is a Linux program: executes the plan on itself, waits for the shim's word, becomes
//! the program. The pod's pause process is started by it, and what is executed in a container of a Wasm guest.
//!
//! Nothing is allocated, read or opened here that the program would inherit: all descriptors but the
//! standard streams close on exec.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use skiff_engine::order::{Command, ProgramOrder};
use skiff_sandbox::control::{self, ChildControl, Report};
use skiff_sandbox::execute::execute;
use skiff_sandbox::sentence::chain;
use skiff_sandbox::sys::exec::{execute_fd, execute_path};

mod home;

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
    let own = match order.program {
        Command::Slot(slot) => Some(control::adopt_slot(slot).map_err(|error| tell(&error))?),
        Command::Path(_) | Command::Nothing => None,
    };
    let args = strings(&order.args)?;
    let mut environment = strings(&order.env)?;
    execute(&order.plan).map_err(|error| tell(&error))?;
    control.report(&Report::Ready).map_err(|_| None)?;
    if !control.wait_for_go().map_err(|error| tell(&error))? {
        return Err(None);
    }
    if let Command::Path(_) = order.program {
        environment.extend(home::missing(&order.env, order.plan.identity.uid));
    }
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    let (name, error) = match (&order.program, own) {
        (_, Some(program)) => {
            let error = execute_fd(program.as_fd(), &args, &environment);
            (order.args.first().cloned().unwrap_or_default(), error)
        }
        (Command::Path(path), None) => {
            let program = strings(std::slice::from_ref(path))?;
            let [program] = program.as_slice() else {
                return Err(None);
            };
            (path.clone(), execute_path(program, &args, &environment))
        }
        _ => return Err(None),
    };
    Err(Some(why(&name, &error)))
}

/// A sentence, with the words that clients look for.
fn why(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "could not execute {name}: no such file or directory: if the file is there, the interpreter or loader \
             that it names is not"
        ),
        Some(libc::EACCES) => format!("could not execute {name}: permission denied"),
        Some(libc::ENOEXEC) => format!(
            "could not execute {name}: exec format error: it is made for another processor, or damaged"
        ),
        _ => format!("could not execute {name}: {error}"),
    }
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
