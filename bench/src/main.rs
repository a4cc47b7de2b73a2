//! `skiff-bench`: Skiff beside runwasi and runc on this machine, in one run, taking turns.
//!
//! `make bench` runs it. The process that the user starts only watches (`supervisor`); the scenarios run in a
//! child of it that has a mount namespace and a process namespace of its own, so that nothing can be left.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod life;
mod measurement;
mod node;
mod runtime;
mod settings;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::runtime::Runtime;
use crate::settings::{Scenario, Settings};

/// Measures Skiff beside runwasi and runc.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer rounds: under 5 minutes, a first impression.
    #[arg(long)]
    quick: bool,
    /// Only the scenarios whose names hold this word; may be repeated.
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Only these runtimes; may be repeated.
    #[arg(long, value_enum)]
    runtime: Vec<Runtime>,
    /// Rounds of the scenarios that start one container after the other [200; 30 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the report goes.
    #[arg(long, default_value = "docs/bench")]
    out: PathBuf,
    /// The name that the supervisor chose.
    #[arg(long, hide = true)]
    inside: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.inside {
        Some(name) => run(&arguments, name),
        None => supervisor::watch(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every scenario, in order; answers whether all went through.
fn run(arguments: &Arguments, name: &str) -> Result<bool> {
    let rounds = if arguments.quick { 30 } else { 200 };
    let settings = Settings {
        quick: arguments.quick,
        rounds: arguments.rounds.unwrap_or(rounds),
        skiff: skiff_test::tools::skiff_dir()
            .canonicalize()
            .context("Skiff was not built; `make build` does it")?,
        place: supervisor::make_place(name)?,
        name: name.to_owned(),
        runtimes: arguments.runtime.clone(),
    };
    let mut good = true;
    for (scenario, measure) in scenarios(&arguments.only) {
        if node::SCENARIOS.iter().any(|(name, _)| name == scenario) {
            // What drove the shims has nothing to do beside a containerd that is measured.
            life::finish()?;
        }
        println!("\n{scenario}");
        match measure(&settings) {
            Ok(outcome) => {
                for measurement in &outcome.measurements {
                    if let Some(found) = measurement.summary() {
                        println!(
                            "  {:<30} {:<34} {:>9.2} {:<2} ({:.2}-{:.2}, p99 {:.2}, n={})",
                            measurement.runtime,
                            measurement.what,
                            found.median,
                            measurement.unit.name(),
                            found.lower,
                            found.upper,
                            found.p99,
                            found.count
                        );
                    }
                }
            }
            Err(error) => {
                good = false;
                eprintln!("bench: {scenario} failed: {error:#}");
            }
        }
    }
    life::finish()?;
    Ok(good)
}

/// Those that a word names, or if there is none of that name, those that hold it.
fn scenarios(words: &[String]) -> impl Iterator<Item = &'static Scenario> {
    let all = || life::SCENARIOS.iter().chain(node::SCENARIOS);
    let meant = move |name: &str, word: &String| {
        name == word || (name.contains(word) && !all().any(|(name, _)| name == word))
    };
    all().filter(move |(name, _)| words.is_empty() || words.iter().any(|word| meant(name, word)))
}
