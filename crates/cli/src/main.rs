//! The command `skiff`. Reads its arguments, hands them to one of [`commands`], and turns the outcome into
//! an exit code. What it prints is made in the commands; what it knows comes from the libraries.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's answers go to stdout, its progress and complaints to stderr"
)]

mod arguments;
mod commands;
mod compiled;
mod ctr;
mod output;
mod progress;
mod quantity;
mod target;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, CacheCommand, Command, ConfigCommand};
use output::Output;

/// How a command ended that could do its work.
enum Outcome {
    /// All is well.
    Well,
    /// It found something broken, and has said so.
    Broken,
    /// A container ended with this code.
    Ended(u8),
}

/// The work could not be done. 1 is for what was found broken, 2 (clap's) for arguments not understood.
const COULD_NOT: u8 = 3;
/// The same of `run`, whose other codes are the container's.
const COULD_NOT_RUN: u8 = 125;

fn main() -> ExitCode {
    if let Some(outcome) = commands::run::keep(std::env::args_os()) {
        return outcome;
    }
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match run(&arguments.command, &output) {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::Broken) => ExitCode::FAILURE,
        Ok(Outcome::Ended(code)) => code.into(),
        Err(error) => {
            output.failure(&error);
            ExitCode::from(match arguments.command {
                Command::Run(_) => COULD_NOT_RUN,
                _ => COULD_NOT,
            })
        }
    }
}

fn run(command: &Command, output: &Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Build(arguments) => commands::build::run(arguments, output),
        Command::Run(arguments) => commands::run::run(arguments),
        Command::Inspect(arguments) => commands::inspect::run(arguments, output),
        Command::Cache(CacheCommand::Ls) => commands::cache::list(output),
        Command::Cache(CacheCommand::Verify) => commands::cache::verify(output),
        Command::Cache(CacheCommand::Prune(arguments)) => commands::cache::prune(arguments, output),
        Command::Cache(CacheCommand::Warm(arguments)) => commands::warm::run(arguments, output),
        Command::Config(ConfigCommand::Show(arguments)) => {
            commands::config::show(arguments, output)
        }
        Command::Doctor(arguments) => commands::doctor::run(arguments, output),
        Command::Completions { shell } => commands::completions::run(*shell, output),
    }
}
