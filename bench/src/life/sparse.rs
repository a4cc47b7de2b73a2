//! One life every 200 ms: what a start costs on a machine that has gone to sleep in between.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::alone::{Lives, one, walls, warm_up};
use super::bundle::Program;
use super::shim::Steps;
use super::stage::{self, Stage};
use crate::measurement::{Bound, Outcome, Promise, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Time from one start to the next.
const PERIOD: Duration = Duration::from_millis(200);
/// Lives in a block of either kind.
const BLOCK: usize = 10;

/// Blocks of sparse lives and of lives back to back, in turns.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&Runtime::ALL);
    warm_up(stage, &runtimes)?;
    let empty = || -> Lives {
        runtimes
            .iter()
            .map(|runtime| (*runtime, Vec::new()))
            .collect()
    };
    let (mut sparse, mut dense) = (empty(), empty());
    for _ in 0..if settings.quick { 2 } else { 10 } {
        for (runtime, lives) in &mut sparse {
            block(stage, *runtime, PERIOD, lives)?;
        }
        for (runtime, lives) in &mut dense {
            block(stage, *runtime, Duration::ZERO, lives)?;
        }
    }
    let mut outcome = Outcome::default();
    for ((runtime, sparse), (_, dense)) in sparse.iter().zip(&dense) {
        let sparse = walls("sparse", *runtime, "one every 200 ms", sparse);
        let dense = walls("sparse", *runtime, "back to back", dense);
        if *runtime == Runtime::Skiff {
            outcome.promises.push(Promise {
                text: "one every 200 ms: how many times the time back to back",
                measured: median(&sparse.samples) / median(&dense.samples),
                bound: Bound::AtMost(1.3),
                unit: "x",
            });
        }
        outcome.measurements.extend([sparse, dense]);
    }
    outcome.notes.push(format!(
        "Blocks of {BLOCK} lives of one runtime, one every {} ms or back to back, in turns; nothing else runs.",
        PERIOD.as_millis()
    ));
    Ok(outcome)
}

fn block(stage: &Stage, runtime: Runtime, period: Duration, lives: &mut Vec<Steps>) -> Result<()> {
    for _ in 0..BLOCK {
        let started = Instant::now();
        lives.push(one(stage, runtime, Program::Hello)?);
        std::thread::sleep(period.saturating_sub(started.elapsed()));
    }
    Ok(())
}
