//! `results.json`: every sample, for those who want to reckon themselves.

use serde_json::{Map, Value, json};

use super::{Run, judge};

/// The text of the file.
pub(super) fn text(run: &Run) -> String {
    let machine: Map<String, Value> = run
        .machine
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let scenarios: Vec<Value> = run
        .scenarios
        .iter()
        .map(|(name, outcome, seconds)| {
            let measurements: Vec<Value> = outcome
                .measurements
                .iter()
                .map(|series| {
                    let found = series.summary();
                    json!({
                        "runtime": series.runtime,
                        "scenario": series.scenario,
                        "what": series.what,
                        "unit": series.unit.name(),
                        "median": found.map(|found| round(found.median)),
                        "quartiles": found.map(|found| [round(found.lower), round(found.upper)]),
                        "p99": found.map(|found| round(found.p99)),
                        "least": found.map(|found| round(found.least)),
                        "samples": series.samples.iter().map(|sample| round(*sample)).collect::<Vec<_>>(),
                    })
                })
                .collect();
            let promises: Vec<Value> = outcome
                .promises
                .iter()
                .map(|promise| {
                    let (bound, _, held) = judge(promise);
                    json!({
                        "text": promise.text, "bound": bound, "measured": round(promise.measured), "held": held,
                    })
                })
                .collect();
            json!({
                "name": name, "seconds": round(*seconds), "skipped": outcome.skipped, "notes": outcome.notes,
                "promises": promises, "measurements": measurements,
            })
        })
        .collect();
    let all = json!({ "command": run.command, "machine": machine, "scenarios": scenarios });
    // One line for each scenario keeps differences between runs readable, and the file small.
    all.to_string()
        .replace("{\"measurements\"", "\n{\"measurements\"")
        + "\n"
}

/// More digits than a microsecond say nothing.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
