//! Tables on the terminal.

use crate::measurement::{Outcome, median};

use super::{Run, figure, groups, judge};

/// A scenario's figures and notes, as soon as it is through.
pub(crate) fn print_scenario(outcome: &Outcome) {
    if let Some(reason) = &outcome.skipped {
        println!("  skipped: {reason}");
    }
    for (what, series) in groups(outcome) {
        println!("  {what}");
        println!(
            "    {:<30} {:>10} {:>19} {:>9} {:>7} {:>6}",
            "", "median", "quartiles", "p99", "x first", "n"
        );
        let first = series
            .first()
            .map_or(f64::NAN, |series| median(&series.samples));
        for measurement in series {
            let Some(found) = measurement.summary() else {
                continue;
            };
            println!(
                "    {:<30} {:>10} {:>19} {:>9} {:>7} {:>6}",
                measurement.runtime,
                format!("{} {}", figure(found.median), measurement.unit.name()),
                format!("{} - {}", figure(found.lower), figure(found.upper)),
                figure(found.p99),
                figure(found.median / first),
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
