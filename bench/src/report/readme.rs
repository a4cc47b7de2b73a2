//! `docs/bench/README.md`, written by the run itself.

use std::fmt::Write as _;

use crate::measurement::{Outcome, median};

use super::{Run, figure, groups, judge, plot, title};

/// The text of the file.
pub(super) fn text(run: &Run) -> String {
    let mut page = String::from(
        "# Skiff beside runwasi and runc\n\n\
         Written by the bench itself; do not edit. All runtimes of a table were measured in one run, taking turns.\n\
         Medians; quartiles and the 99th percentile show the spread. Every sample is in\n\
         [results.json](results.json). `make bench` repeats the run, `make bench-quick` a short one.\n\n",
    );
    write(&mut page, run).expect("a string takes all that is written to it");
    page
}

fn write(page: &mut String, run: &Run) -> std::fmt::Result {
    writeln!(page, "| | |\n|--|--|\n| command | `{}` |", run.command)?;
    for (name, value) in &run.machine {
        writeln!(page, "| {name} | {value} |")?;
    }
    let promises: Vec<_> = run
        .scenarios
        .iter()
        .flat_map(|(_, outcome, _)| &outcome.promises)
        .collect();
    if !promises.is_empty() {
        writeln!(
            page,
            "\n## What Skiff promises\n\n| promise | bound | measured | |\n|--|--|--|--|"
        )?;
        for promise in promises {
            let (bound, measured, held) = judge(promise);
            let verdict = if held { "held" } else { "**not held**" };
            writeln!(
                page,
                "| {} | {bound} | {measured} | {verdict} |",
                promise.text
            )?;
        }
    }
    for (scenario, outcome, seconds) in &run.scenarios {
        section(page, scenario, outcome, *seconds)?;
    }
    page.write_str(
        "\n## A closer look\n\n\
         One runtime alone, many times, for a profiler (`make bench-tools` builds all that is needed):\n\n\
         ```\n\
         bench=target/$(uname -m)-unknown-linux-gnu/release/skiff-bench\n\
         perf record -a -g $bench --only life --runtime skiff --rounds 1000\n\
         strace -f -c $bench --only life --runtime skiff --rounds 20\n\
         ```\n",
    )
}

fn section(page: &mut String, scenario: &str, outcome: &Outcome, seconds: f64) -> std::fmt::Result {
    writeln!(page, "\n## {}\n", title(scenario))?;
    if let Some(reason) = &outcome.skipped {
        return writeln!(page, "Skipped: {reason}");
    }
    for note in &outcome.notes {
        writeln!(page, "{note}\n")?;
    }
    for (name, _) in plot::of(scenario, outcome) {
        writeln!(page, "![{}]({name})\n", title(scenario).replace('`', ""))?;
    }
    writeln!(
        page,
        "| what | runtime | median | quartiles | p99 | x | n |\n|--|--|--|--|--|--|--|"
    )?;
    for (what, series) in groups(outcome) {
        let first = series
            .first()
            .map_or(f64::NAN, |series| median(&series.samples));
        for measurement in series {
            let Some(found) = measurement.summary() else {
                continue;
            };
            writeln!(
                page,
                "| {what} | {} | {} {} | {} - {} | {} | {} | {} |",
                measurement.runtime,
                figure(found.median),
                measurement.unit.name(),
                figure(found.lower),
                figure(found.upper),
                figure(found.p99),
                figure(found.median / first),
                found.count
            )?;
        }
    }
    writeln!(
        page,
        "\n`--only {scenario}` repeats this part; it took {seconds:.0} s."
    )
}
