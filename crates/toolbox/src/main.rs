//! The toolbox: a shell and small tools as one component, which a shim runs for `exec` in a container that has no
//! such programs. The last part of `argv[0]` names the tool.
//!
//! It is a guest. What it can reach is what the container's own module can reach, and no more.

use std::process::ExitCode;

mod failure;
mod options;
mod shell;
mod streams;
#[cfg(target_env = "p2")]
mod sys;
mod text;
mod time;
mod tools;

use streams::Io;

fn main() -> ExitCode {
    #[cfg(target_env = "p2")]
    enter_working_directory();
    let mut io = Io::of_process();
    let mut args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if args.is_empty() {
        args.push(String::new());
    }
    // `skiff-toolbox ls -l` is for those who try it out.
    if text::base_name(&args[0]).starts_with("skiff-toolbox") && args.len() > 1 {
        args.remove(0);
    }
    let name = text::base_name(&args[0]).to_owned();
    let code = match tools::find(&name) {
        Some(tool) => tools::run(tool, &args[1..], &mut io),
        None => {
            io.complain(&format!(
                "{name}: not found: the toolbox has {}",
                tools::names().collect::<Vec<_>>().join(" ")
            ));
            shell::NOT_FOUND
        }
    };
    // Who does not read it any more does not read a complaint, either.
    let code = if io.output.finish().is_err() && code == 0 {
        1
    } else {
        code
    };
    end(code)
}

#[cfg(target_env = "p2")]
fn enter_working_directory() {
    if let Some(directory) = sys::initial_cwd() {
        // One that is not there is told by the first tool that needs it.
        drop(std::env::set_current_dir(directory));
    }
}

#[cfg(target_env = "p2")]
fn end(code: u8) -> ExitCode {
    sys::exit_with_code(code);
    ExitCode::FAILURE
}

#[cfg(not(target_env = "p2"))]
fn end(code: u8) -> ExitCode {
    code.into()
}
