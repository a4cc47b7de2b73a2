//! Runs tests one after the other: prints each with its time, counts what passed, failed and was skipped.
//!
//! One after the other, because the probe of what a test left behind looks at every descendant of this
//! process. What libtest lacks and we need: a test that cannot run here says why and is counted as such.
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `module::function`.
    pub name: &'static str,
    /// What it does.
    pub function: fn() -> Result<()>,
}

/// Names the test functions of a module.
#[macro_export]
macro_rules! cases {
    ($($function:ident),* $(,)?) => {
        /// The tests of this module.
        pub(crate) const CASES: &[$crate::runner::Case] = &[$($crate::runner::Case {
            name: concat!(module_path!(), "::", stringify!($function)),
            function: $function,
        }),*];
    };
}

/// Ends a test that cannot run here, with the reason.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        return Err($crate::runner::Skipped(format!($($reason)*)).into())
    };
}

/// Why a test cannot run here.
#[derive(Debug)]
pub struct Skipped(pub String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::new(Notes::default());
}

#[derive(Default)]
struct Notes {
    faults: Vec<String>,
    logs: Vec<(String, String)>,
}

/// Prints a line among those of the tests.
pub fn say(text: &str) {
    println!("{text}");
}

/// Fails the running test from where no error can be returned: a `Drop`.
pub fn fault(sentence: String) {
    NOTES.with_borrow_mut(|notes| notes.faults.push(sentence));
}

/// The faults so far, which are forgotten; for programs that are no test but use a node.
pub fn take_faults() -> Vec<String> {
    NOTES.with_borrow_mut(|notes| std::mem::take(&mut notes.faults))
}

/// Keeps a log, which is printed if the running test fails.
pub fn keep_log(name: &str, text: String) {
    NOTES.with_borrow_mut(|notes| notes.logs.push((name.to_owned(), text)));
}

/// Runs the tests that the command line asks for: `[--list] [--repeat N] [WORD…]`. A test runs if its name
/// holds one of the words, or if there is none and its module is not among `on_request`.
pub fn main(cases: &[&[Case]], on_request: &[&str]) -> ExitCode {
    let Some((chosen, repeat)) = choose(cases, on_request) else {
        return ExitCode::SUCCESS;
    };
    if let Some(swept) = crate::sweep::dead_runs() {
        println!("{swept}");
    }
    // Shims are started by a helper that ends at once. Being their next parent, this process sees all that is left.
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        println!("could not become the parent of orphans: {error}");
        return ExitCode::FAILURE;
    }
    run_all(&chosen, repeat)
}

/// The same in a process namespace of the suite's own, from where other runs cannot be seen, nor swept. `last` looks at what
/// all of them have left: it is run at the end, whatever is asked for.
pub fn main_inside(cases: &[&[Case]], on_request: &[&str], last: Case) -> ExitCode {
    let Some((mut chosen, repeat)) = choose(cases, on_request) else {
        return ExitCode::SUCCESS;
    };
    chosen = std::iter::repeat_n(chosen, repeat).flatten().collect();
    chosen.push(last);
    run_all(&chosen, 1)
}

/// Which tests the command line asks for, and how often; nothing if it asks for their names.
fn choose(cases: &[&[Case]], on_request: &[&str]) -> Option<(Vec<Case>, usize)> {
    let mut words = Vec::new();
    let (mut list, mut repeat) = (false, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--repeat" => repeat = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            // Options of libtest, which cargo's users pass out of habit.
            other if other.starts_with('-') => {}
            _ => words.push(argument),
        }
    }
    let chosen: Vec<Case> = cases
        .iter()
        .flat_map(|cases| cases.iter().copied())
        .filter(|case| {
            if words.is_empty() {
                !on_request
                    .iter()
                    .any(|module| short(case.name).starts_with(&format!("{module}::")))
            } else {
                words
                    .iter()
                    .any(|word| short(case.name).contains(word.as_str()))
            }
        })
        .collect();
    if list {
        for case in &chosen {
            println!("{}", short(case.name));
        }
        return None;
    }
    Some((chosen, repeat))
}

fn run_all(cases: &[Case], repeat: usize) -> ExitCode {
    // The place and the message: a backtrace leads through this file only.
    std::panic::set_hook(Box::new(|panic| fault(panic.to_string())));
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), Vec::new());
    let width = cases
        .iter()
        .map(|case| short(case.name).len())
        .max()
        .unwrap_or(0);
    for case in cases.iter().cycle().take(cases.len() * repeat) {
        let name = short(case.name);
        NOTES.with_borrow_mut(|notes| *notes = Notes::default());
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(case.function));
        let seconds = started.elapsed().as_secs_f64();
        let notes = NOTES.take();
        let mut sentences = Vec::new();
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => match error.downcast_ref::<Skipped>() {
                Some(reason) if notes.faults.is_empty() => {
                    println!("{name:width$}  skipped  {reason}");
                    skipped.push((name, reason.0.clone()));
                    continue;
                }
                _ => sentences.push(format!("{error:#}")),
            },
            // The message is among the notes already.
            Err(_) => {}
        }
        sentences.extend(notes.faults);
        if sentences.is_empty() {
            println!("{name:width$}  ok       {seconds:6.2} s");
            passed += 1;
        } else {
            println!("{name:width$}  FAILED   {seconds:6.2} s");
            for sentence in &sentences {
                println!("    {}", sentence.trim_end().replace('\n', "\n    "));
            }
            for (log, text) in notes.logs {
                println!("    ---- {log}, last lines");
                println!("    {}", tail(&text, 40).replace('\n', "\n    "));
            }
            failed.push(name);
        }
    }
    crate::node::remove_shared();
    println!();
    for name in &failed {
        println!("failed: {name}");
    }
    // In the words that `make test` reads out of every suite's output.
    for (name, reason) in &skipped {
        println!("SKIPPED {}: {reason}", name.replace("::", "/"));
    }
    println!(
        "test result: {}. {passed} passed; {} failed; {} ignored",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        skipped.len()
    );
    println!(
        "{passed} passed, {} failed, {} skipped",
        failed.len(),
        skipped.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The name without the test binary's own.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
