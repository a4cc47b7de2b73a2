//! What a run leaves: tables on the terminal, and in a directory `results.json`, one plot (SVG) a scenario and a
//! `README.md` that shows them.

mod json;
mod plot;
mod readme;
mod svg;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::machine::Description;
use crate::measurement::{Measurement, Outcome, Promise, median, ratios};

pub(crate) use table::{print_promises, print_scenario};

/// Everything that a run found.
#[derive(Debug)]
pub(crate) struct Run {
    /// As the user typed it.
    pub(crate) command: String,
    /// The machine and the programs.
    pub(crate) machine: Description,
    /// The scenarios that went through, in their order, with the seconds that they took.
    pub(crate) scenarios: Vec<(&'static str, Outcome, f64)>,
}

/// Writes the files.
pub(crate) fn write(run: &Run, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let put = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
    };
    remove_plots(directory)?;
    put("results.json", &json::text(run))?;
    for (scenario, outcome, _) in &run.scenarios {
        for (name, text) in plot::of(scenario, outcome) {
            put(&name, &text)?;
        }
    }
    put("README.md", &readme::text(run))
}

/// What an earlier run has drawn and this one may not.
fn remove_plots(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Where the files go when nobody says: a full run is for the documentation.
pub(crate) fn directory(full: bool) -> PathBuf {
    let place = if full { "docs/bench" } else { "target/bench" };
    skiff_test::tools::checkout().join(place)
}

/// A scenario in a few words.
fn title(scenario: &str) -> &str {
    match scenario {
        "life" => "The life of a container",
        "life-small" => "The life of the smallest module",
        "four" => "Four at a time",
        "sparse" => "One every 200 ms",
        "cpu" => "Processor time of a life",
        "exec" => "A process that joins a container",
        "mounts" => "A node with many mounts",
        "pods" => "A thousand pods alive at once",
        "engines" => "WasmEdge beside wasmtime",
        "ctr" => "`ctr run --rm`",
        "pod" => "A pod by CRI, in the node's network",
        "pod-bridge" => "A pod by CRI, with a bridge network",
        "memory" => "Memory of pods",
        "http-start" => "From nothing to the first byte of an answer",
        "http-serving" => "Serving HTTP",
        "compile" | "first-start" => "First starts and large modules",
        other => other,
    }
}

/// What was measured, each thing once, in order, with the series of the runtimes.
fn groups(outcome: &Outcome) -> Vec<(&'static str, Vec<&Measurement>)> {
    let mut groups: Vec<(&'static str, Vec<&Measurement>)> = Vec::new();
    for measurement in &outcome.measurements {
        match groups
            .iter_mut()
            .find(|(what, _)| *what == measurement.what)
        {
            Some((_, series)) => series.push(measurement),
            None => groups.push((measurement.what, vec![measurement])),
        }
    }
    groups
}

/// How many times the first series' figure this one's is, and between which quartiles.
fn ratio(first: Option<&&Measurement>, series: &Measurement) -> String {
    let Some(first) = first else {
        return String::new();
    };
    let whole = median(&series.samples) / median(&first.samples);
    match ratios(&first.samples, &series.samples) {
        Some(found) if first.runtime != series.runtime => format!(
            "{} ({} - {})",
            figure(whole),
            figure(found.lower),
            figure(found.upper)
        ),
        _ => figure(whole),
    }
}

/// A figure with as many digits as are worth reading.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// What a promise demands, what was measured, and whether it is held.
fn judge(promise: &Promise) -> (String, String, bool) {
    use crate::measurement::Bound;
    let space = if matches!(promise.unit, "" | "x") {
        ""
    } else {
        " "
    };
    let with_unit = |value: f64| format!("{}{space}{}", figure(value), promise.unit);
    let bound = match promise.bound {
        Bound::AtLeast(bound) => format!("at least {}", with_unit(bound)),
        Bound::AtMost(bound) => format!("at most {}", with_unit(bound)),
    };
    (
        bound,
        with_unit(promise.measured),
        promise.bound.held(promise.measured),
    )
}
