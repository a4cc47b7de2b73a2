//! Cases for WASI 0.1: `cases.wasm NAME` runs one and exits with its code, `cases.wasm list` names all.
//!
//! A case that fails exits with 1 and says in a sentence what it saw. Each works in a folder of its own below `/data/scratch`.

mod api;
mod bad;
mod files;
mod folders;
mod limits;
mod paths;
mod process;
mod streams;
mod sys;

use api::Outcome;
use std::process::ExitCode;

/// How a case that is as it should be ends.
#[derive(Clone, Copy)]
pub enum Ends {
    /// With 0.
    Well,
    /// With this code.
    With(u8),
    /// With 0, or in a trap. Engines differ in what they do about a place that is in no memory, and about a number that means
    /// nothing, such as that of a clock that there is not: some answer with an error, others end the guest.
    WellOrTrapped,
}

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub ends: Ends,
    pub run: fn(&Place) -> Outcome,
}

/// Names the functions of a module that are cases; behind the semicolon those that may trap.
#[macro_export]
macro_rules! cases {
    ($($function:ident),* $(,)? $(; or trapped: $($other:ident),* $(,)?)?) => {
        pub const CASES: &[$crate::Case] = &[
            $($crate::Case { name: stringify!($function), ends: $crate::Ends::Well, run: $function },)*
            $($($crate::Case { name: stringify!($other), ends: $crate::Ends::WellOrTrapped, run: $other },)*)?
        ];
    };
}

/// What a case has.
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// A folder, empty and its own.
    pub folder: u32,
}

fn all() -> impl Iterator<Item = &'static Case> {
    [
        process::CASES,
        process::ENDS,
        streams::CASES,
        files::CASES,
        folders::CASES,
        paths::CASES,
        limits::CASES,
        bad::CASES,
        bad::FAULTS,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "list" {
        for case in all() {
            match case.ends {
                Ends::Well => println!("{} 0", case.name),
                Ends::With(code) => println!("{} {code}", case.name),
                Ends::WellOrTrapped => println!("{} 0 134", case.name),
            }
        }
        return ExitCode::SUCCESS;
    }
    if name == "wait" {
        println!("waiting");
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
    }
    let Some(case) = all().find(|case| case.name == name) else {
        eprintln!("there is no case \"{name}\"");
        return ExitCode::from(2);
    };
    match place(case.name).and_then(|place| (case.run)(&place)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{name}: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn place(name: &'static str) -> Result<Place, String> {
    let path = format!("data/scratch/{name}");
    api::done(
        "making the case's folder",
        api::make_folder(api::ROOT, &path),
    )?;
    let folder = api::done(
        "opening the case's folder",
        api::open_folder(api::ROOT, &path),
    )?;
    Ok(Place { name, folder })
}
