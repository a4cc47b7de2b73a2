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

mod compile_groups;
mod life;
mod machine;
mod measurement;
mod node;
mod report;
mod runtime;
mod settings;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::report::Run;
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
    /// Rounds of the scenarios that start one container after the other [200; 20 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the report goes [docs/bench; target/bench for a run that is quick or not of all].
    #[arg(long)]
    out: Option<PathBuf>,
    /// The name that the supervisor chose.
    #[arg(long, hide = true)]
    inside: Option<String>,
    /// Be the native server that the scenario of HTTP compares with.
    #[arg(long, hide = true)]
    native_server: Option<std::net::SocketAddr>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.native_server {
        return match node::serve_natively(address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
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
    let rounds = if arguments.quick { 20 } else { 200 };
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
    let mut run = Run {
        command: command_line(),
        machine: machine::describe(&settings),
        scenarios: Vec::new(),
    };
    for (what, value) in &run.machine {
        println!("{what:<12} {value}");
    }
    if machine::busy() > 0.5 {
        eprintln!(
            "bench: this machine is busy with something else; times will be too long, and ratios vague"
        );
    }
    let mut good = true;
    for (scenario, measure) in scenarios(&arguments.only) {
        if node::SCENARIOS.iter().any(|(name, _)| name == scenario) {
            // What drove the shims has nothing to do beside a containerd that is measured.
            good &= finished();
        }
        println!("\n{scenario}");
        let started = Instant::now();
        match measure(&settings) {
            Ok(outcome) => {
                report::print_scenario(&outcome);
                let seconds = started.elapsed().as_secs_f64();
                run.scenarios.push((scenario, outcome, seconds));
            }
            Err(error) => {
                good = false;
                eprintln!("bench: {scenario} failed: {error:#}");
            }
        }
    }
    good &= finished();
    report::print_promises(&run);
    let full = !arguments.quick && arguments.only.is_empty() && arguments.runtime.is_empty();
    let directory = arguments
        .out
        .clone()
        .unwrap_or_else(|| report::directory(full && good));
    report::write(&run, &directory)?;
    println!("\nthe report is {}", directory.join("README.md").display());
    Ok(good)
}

/// Ends what the scenarios without a containerd share; answers whether nothing was left.
fn finished() -> bool {
    match life::finish() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("bench: {error:#}");
            false
        }
    }
}

/// What the user typed, as `make` says it where it can.
fn command_line() -> String {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--inside" && !word.starts_with(supervisor::PREFIX))
        .collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "make bench".to_owned(),
        ["--quick"] => "make bench-quick".to_owned(),
        _ => format!("skiff-bench {}", words.join(" ")),
    }
}

/// Those that a word names, or if there is none of that name, those that hold it.
fn scenarios(words: &[String]) -> impl Iterator<Item = &'static Scenario> {
    let all = || life::SCENARIOS.iter().chain(node::SCENARIOS);
    let meant = move |name: &str, word: &String| {
        name == word || (name.contains(word) && !all().any(|(name, _)| name == word))
    };
    all().filter(move |(name, _)| words.is_empty() || words.iter().any(|word| meant(name, word)))
}
