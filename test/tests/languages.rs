//! Guests in many languages, each in a container on each engine that can run it: `test/languages` has their sources.
//! `make test-languages`, or `test/run.sh languages [WORD…]`.
//!
//! What works is in the table of docs/languages.md, with figures: `make languages-table` writes it.

#[path = "languages/figures.rs"]
mod figures;
#[path = "languages/guests.rs"]
mod guests;
#[path = "languages/steps.rs"]
mod steps;
#[path = "languages/table.rs"]
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_test::runner::main(&[guests::CASES, table::CASES], &[])
}
