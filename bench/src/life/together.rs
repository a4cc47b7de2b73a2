//! Four lives at a time: how many containers a second a node of this size carries through.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::alone::warm_up;
use super::bundle::{Bundle, Program};
use super::shim;
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median, precise};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Lives at a time.
const AT_A_TIME: usize = 4;

/// Blocks of lives; the runtimes take turns, block by block.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&Runtime::ALL);
    warm_up(stage, &runtimes)?;
    let (blocks, lives) = if settings.quick { (3, 12) } else { (12, 40) };
    let mut series: Vec<(Runtime, Vec<f64>)> = runtimes
        .iter()
        .map(|runtime| (*runtime, Vec::new()))
        .collect();
    for _ in 0..blocks {
        for (runtime, rates) in &mut series {
            rates.push(block(stage, *runtime, lives)?);
        }
    }
    let mut outcome = Outcome::default();
    let rate = |wanted: Runtime| {
        let found = series.iter().find(|(runtime, _)| *runtime == wanted);
        found.map(|(_, rates)| median(rates))
    };
    if let (Some(ours), Some(theirs)) = (rate(Runtime::Skiff), rate(Runtime::Runwasi)) {
        outcome.promises.push(Promise {
            text: "four at a time: how many times the tasks a second of runwasi, module in the root",
            measured: ours / theirs,
            bound: Bound::AtLeast(6.0),
            unit: "x",
        });
    }
    outcome.measurements = series
        .into_iter()
        .map(|(runtime, samples)| Measurement {
            scenario: "four",
            runtime: runtime.name(),
            what: "tasks a second",
            unit: Unit::PerSecond,
            samples,
        })
        .collect();
    outcome.notes.push(format!(
        "{AT_A_TIME} lives at a time, each as in \"life\"; a sample is a block of {lives} lives, and the runtimes \
         take turns block by block."
    ));
    Ok(outcome)
}

/// Carries through so many lives; answers how many there were a second. Bundles are made before.
fn block(stage: &Stage, runtime: Runtime, count: usize) -> Result<f64> {
    let bundles = (0..count)
        .map(|_| Bundle::new(stage, runtime, Program::Hello))
        .collect::<Result<Vec<_>>>()?;
    let next = Mutex::new(bundles.iter());
    let take = || next.lock().ok()?.next();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(bundle) = take() {
                        shim::live(stage, runtime, bundle).with_context(|| runtime.name())?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        anyhow::Ok(())
    })?;
    Ok(precise(count) / started.elapsed().as_secs_f64())
}
