//! Tables on the terminal.

use crate::measurement::Outcome;

use super::{Run, figure, groups, judge, ratio};

/// A scenario's figures and notes, as soon as it is through.
pub(crate) fn print_scenario(outcome: &Outcome) {
    if let Some(reason) = &outcome.skipped {
        println!("  skipped: {reason}");
    }
    for (what, series) in groups(outcome) {
        println!("  {what}");
        println!(
            "    {:<30} {:>10} {:>19} {:>9} {:>22} {:>5}",
            "", "median", "quartiles", "p99", "x the first", "n"
        );
        let first = series.first().copied();
        for measurement in series {
            let Some(found) = measurement.summary() else {
                continue;
            };
            println!(
                "    {:<30} {:>10} {:>19} {:>9} {:>22} {:>5}",
                measurement.runtime,
                format!("{} {}", figure(found.median), measurement.unit.name()),
                format!("{} - {}", figure(found.lower), figure(found.upper)),
                figure(found.p99),
                ratio(first.as_ref(), measurement),
                found.count
            );
        }
    }
    for note in &outcome.notes {
        println!("  {note}");
    }
}

/// All promises of a run, at its end.
pub(crate) fn print_promises(run: &Run) {
    let promises: Vec<_> = run
        .scenarios
        .iter()
        .flat_map(|(_, outcome, _)| &outcome.promises)
        .collect();
    if promises.is_empty() {
        return;
    }
    println!("\npromises");
    for promise in promises {
        let (bound, measured, held) = judge(promise);
        let verdict = if held { "held" } else { "NOT HELD" };
        println!(
            "  {verdict:<8} {measured:>10}  {bound:<16} {}",
            promise.text
        );
    }
}
