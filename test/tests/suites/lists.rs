//! What a suite said of two runtimes, printed and compared.
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

use std::collections::BTreeMap;
use std::time::Duration;

/// What became of one test.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Passed,
    /// It did not run, and why.
    Skipped(String),
    /// What it said.
    Failed(String),
}

/// What a suite said of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    tests: BTreeMap<String, Outcome>,
    time: Duration,
}

/// As much of a message as one line of a list holds.
const MOST_LETTERS: usize = 300;

impl Results {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            tests: BTreeMap::new(),
            time,
        }
    }

    /// Notes a test that was asked for.
    pub(crate) fn add(&mut self, name: String, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.tests.insert(name, outcome);
        }
    }

    pub(crate) fn passed(&self) -> usize {
        let tests = self.tests.values();
        tests
            .filter(|outcome| matches!(outcome, Outcome::Passed))
            .count()
    }

    pub(crate) fn failed(&self) -> usize {
        let tests = self.tests.values();
        tests
            .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
            .count()
    }

    fn skipped(&self) -> usize {
        self.tests.len() - self.passed() - self.failed()
    }

    /// Prints the list.
    pub(crate) fn print(&self, runtime: &str) {
        println!("\n=== {runtime}");
        for (name, outcome) in &self.tests {
            match outcome {
                Outcome::Passed => println!("passed   {name}"),
                Outcome::Skipped(why) => println!("skipped  {name}: {}", line(why)),
                Outcome::Failed(why) => println!("FAILED   {name}: {}", line(why)),
            }
        }
        println!(
            "=== {runtime}: {} passed, {} failed, {} skipped, in {} s",
            self.passed(),
            self.failed(),
            self.skipped(),
            self.time.as_secs()
        );
    }
}

/// Prints what differs; answers whether no test is lost: one that passes under theirs and not under ours.
/// What the reference does not pass on this machine is counted as skipped, with the reason.
pub(crate) fn compare(suite: &str, theirs: &Results, ours: &Results) -> bool {
    let (mut kept, mut lost) = (0, 0);
    println!("\n=== the difference");
    for (name, reference) in &theirs.tests {
        let result = ours.tests.get(name);
        match (reference, result) {
            (Outcome::Passed, Some(Outcome::Passed)) => kept += 1,
            (Outcome::Passed, result) => {
                lost += 1;
                let why = match result {
                    Some(Outcome::Skipped(why)) => format!("skipped: {}", line(why)),
                    Some(Outcome::Failed(why)) => line(why),
                    _ => "it did not run".to_owned(),
                };
                println!("LOST     {name}: {why}");
            }
            (_, Some(Outcome::Passed)) => println!("gained   {name}"),
            _ => {}
        }
    }
    println!();
    let mut skipped = 0;
    for (name, outcome) in &theirs.tests {
        if let Outcome::Skipped(why) | Outcome::Failed(why) = outcome {
            skipped += 1;
            println!(
                "SKIPPED {suite}/{name}: not under the reference either: {}",
                line(why)
            );
        }
    }
    // In the words that `make test` reads out of every suite's output.
    println!(
        "test result: {}. {kept} passed; {lost} failed; {skipped} ignored",
        if lost == 0 { "ok" } else { "FAILED" }
    );
    println!("{kept} passed, {lost} failed, {skipped} skipped");
    lost == 0
}

/// A message in one line.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MOST_LETTERS).collect()
}
