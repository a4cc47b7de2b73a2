//! `docs/bench/README.md`, written by the run itself.

use std::fmt::Write as _;

use crate::life::STEPS;
use crate::measurement::{Outcome, median};

use super::{Run, figure, groups, judge, plot, ratio, title};

/// The text of the file.
pub(super) fn text(run: &Run) -> String {
    let mut page = String::from(
        "# Skiff beside runwasi and runc\n\n\
         Written by the bench itself; do not edit. All runtimes of a table were measured in one run, taking turns.\n\
         Medians; quartiles and the 99th percentile show the spread, also of the ratios, which are then those of\n\
         single rounds. Every sample is in [results.json](results.json). `make bench` repeats the run,\n\
         `make bench-quick` a short one. How it is measured is said [below](#how).\n\n",
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
        "\n## How\n\n\
         * All runs in a mount namespace and a process namespace of the bench's own. State of containerd, shims and\n\
         runc lies on a tmpfs, as on a node, and all are in a cgroup, as containerd's service is on one. Nothing is\n\
         left, however a run ends.\n\
         * Without a containerd between (life, four at a time, pods, ...), the bench is what containerd 2.4 is to\n\
         its shims: it makes bundle, snapshot and FIFOs, reads output and logs, takes events, and makes the same\n\
         calls in the same order on one ttrpc connection. None of what it makes beforehand is in a figure. A\n\
         containerd beside it holds the image and the container record of every Wasm container.\n\
         * Every runtime gets the `config.json` that containerd's CRI wrote for a pod's container with limits of\n\
         memory, processor and processes, the default seccomp profile, masked and read-only paths, and a kubelet's\n\
         mounts (bench/src/life/container.json); only the arguments differ. The root is an overlay, or for a module\n\
         in a layer an empty directory, as containerd's snapshotter hands them out.\n\
         * What runs is one Rust program (bench/hello.rs), compiled to WASI for the Wasm runtimes and to a static\n\
         program for runc.\n\
         * The runwasi shim is made with runwasi's adapter and the wasmtime that Skiff has (bench/peers), built as\n\
         its users build it; runc and containerd's shim are the pinned releases of test/node/tools. `wasmtime serve` is of the version\n\
         that Skiff has, wrk and nginx are the distribution's (bench/peers/http.sh).\n\n\
         ## A closer look\n\n\
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
    steps(page, outcome)?;
    writeln!(
        page,
        "| what | runtime | median | quartiles | p99 | x the first | n |\n|--|--|--|--|--|--|--|"
    )?;
    for (what, series) in groups(outcome) {
        if STEPS.contains(&what) {
            continue;
        }
        let first = series.first().copied();
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
                ratio(first.as_ref(), measurement),
                found.count
            )?;
        }
    }
    writeln!(
        page,
        "\n`--only {scenario}` repeats this part; it took {seconds:.0} s."
    )
}

/// The steps of a life, a row for each runtime.
fn steps(page: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let steps: Vec<_> = groups(outcome)
        .into_iter()
        .filter(|(what, _)| STEPS.contains(what))
        .collect();
    let Some((_, runtimes)) = steps.first() else {
        return Ok(());
    };
    page.write_str("| medians, ms |")?;
    for (what, _) in &steps {
        write!(page, " {} |", what.trim_start_matches("step: "))?;
    }
    writeln!(page, "\n|--|{}", "--|".repeat(steps.len()))?;
    for runtime in runtimes {
        write!(page, "| {} |", runtime.runtime)?;
        for (_, series) in &steps {
            let same = series
                .iter()
                .find(|series| series.runtime == runtime.runtime);
            let time = same.map_or(f64::NAN, |series| median(&series.samples));
            write!(page, " {} |", figure(time))?;
        }
        writeln!(page)?;
    }
    writeln!(page)
}
