//! The life of a container, one at a time: the runtimes take turns.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::bundle::{Bundle, Program};
use super::shim::{self, Steps};
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Lives before those that count: the first of each compiles, fills caches, makes directories.
const WARM_UP: usize = 5;

/// A Rust program: `bench/hello.rs`.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&Runtime::ALL);
    warm_up(stage, &runtimes)?;
    let lives = rounds(stage, &runtimes, Program::Hello, settings.rounds)?;
    let mut outcome = Outcome::default();
    for (runtime, lives) in &lives {
        outcome
            .measurements
            .push(walls("life", *runtime, LIFE, lives));
    }
    for (runtime, lives) in &lives {
        for (number, what) in Steps::NAMES.into_iter().enumerate() {
            let step = |steps: &Steps| steps.all().get(number).copied().map(milliseconds);
            outcome.measurements.push(Measurement {
                scenario: "life",
                runtime: runtime.name(),
                what,
                unit: Unit::Milliseconds,
                samples: lives.iter().filter_map(step).collect(),
            });
        }
    }
    let against = [
        (
            Runtime::Skiff,
            Runtime::Runwasi,
            6.0,
            "life: how many times faster than runwasi, module in the root",
        ),
        (
            Runtime::SkiffLayer,
            Runtime::RunwasiLayer,
            4.0,
            "life: how many times faster than runwasi, precompiled layer",
        ),
        (
            Runtime::Skiff,
            Runtime::Runc,
            8.0,
            "life: how many times faster than runc",
        ),
    ];
    for (ours, other, bound, text) in against {
        if let (Some(ours), Some(other)) = (wall(&lives, ours), wall(&lives, other)) {
            outcome.promises.push(Promise {
                text,
                measured: other / ours,
                bound: Bound::AtLeast(bound),
                unit: "x",
            });
        }
    }
    outcome.notes.push(
        "From the exec of the shim's start command to the end of the shim's process: start, Create, Connect, \
         Wait, Start, Delete, Shutdown, as containerd 2.4 calls them. Every runtime has the same config.json, \
         which containerd's CRI wrote; the steps sum up to the whole."
            .to_owned(),
    );
    Ok(outcome)
}

/// The smallest module: `bench/hello.wat`.
pub(crate) fn measure_small(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&[Runtime::Skiff, Runtime::Runwasi]);
    let count = settings.rounds.div_ceil(4);
    let lives = rounds(stage, &runtimes, Program::Small, count + WARM_UP)?;
    Ok(Outcome {
        measurements: lives
            .iter()
            .map(|(runtime, lives)| {
                let counted = lives.get(WARM_UP..).unwrap_or_default();
                walls("life-small", *runtime, LIFE, counted)
            })
            .collect(),
        notes: vec![
            "The same with the smallest module that writes a line (bench/hello.wat, 150 bytes): a shim that \
             compiles at every start has next to nothing to compile."
                .to_owned(),
        ],
        ..Outcome::default()
    })
}

/// What the whole time of a life is called.
pub(super) const LIFE: &str = "life";

/// A few lives that do not count. The shim that compiles layers must have stored them by then.
pub(super) fn warm_up(stage: &Stage, runtimes: &[Runtime]) -> Result<()> {
    rounds(stage, runtimes, Program::Hello, WARM_UP)?;
    if runtimes.contains(&Runtime::RunwasiLayer) {
        stage.records().expect_precompiled()?;
    }
    Ok(())
}

/// The lives of each runtime.
pub(super) type Lives = Vec<(Runtime, Vec<Steps>)>;

/// Rounds in which every runtime has one turn.
pub(super) fn rounds(
    stage: &Stage,
    runtimes: &[Runtime],
    program: Program,
    count: usize,
) -> Result<Lives> {
    let mut lives: Lives = runtimes
        .iter()
        .map(|runtime| (*runtime, Vec::with_capacity(count)))
        .collect();
    for _ in 0..count {
        for (runtime, lives) in &mut lives {
            lives.push(one(stage, *runtime, program)?);
        }
    }
    Ok(lives)
}

/// One life, with its bundle made before and removed after.
pub(super) fn one(stage: &Stage, runtime: Runtime, program: Program) -> Result<Steps> {
    let bundle = Bundle::new(stage, runtime, program)?;
    shim::live(stage, runtime, &bundle).with_context(|| runtime.name())
}

/// The whole times as a series.
pub(super) fn walls(
    scenario: &'static str,
    runtime: Runtime,
    what: &'static str,
    lives: &[Steps],
) -> Measurement {
    Measurement {
        scenario,
        runtime: runtime.name(),
        what,
        unit: Unit::Milliseconds,
        samples: lives
            .iter()
            .map(|steps| milliseconds(steps.whole()))
            .collect(),
    }
}

fn wall(lives: &Lives, wanted: Runtime) -> Option<f64> {
    let (_, lives) = lives.iter().find(|(runtime, _)| *runtime == wanted)?;
    Some(median(&walls("life", wanted, LIFE, lives).samples))
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
