//! The life of a container, one at a time: the runtimes take turns.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::bundle::{Bundle, Program};
use super::shim::{self, Steps};
use super::stage::{self, Stage};
use crate::measurement::{Measurement, Outcome, Unit};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Lives before those that count: the first of each compiles, fills caches, makes directories.
const WARM_UP: usize = 5;

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let lives = rounds(stage, settings.rounds)?;
    let mut outcome = Outcome::default();
    for (runtime, lives) in &lives {
        outcome.measurements.push(Measurement {
            scenario: "life",
            runtime: runtime.name(),
            what: "life",
            unit: Unit::Milliseconds,
            samples: lives
                .iter()
                .map(|steps| milliseconds(steps.whole()))
                .collect(),
        });
    }
    for (runtime, lives) in &lives {
        for (number, what) in Steps::NAMES.into_iter().enumerate() {
            outcome.measurements.push(Measurement {
                scenario: "life",
                runtime: runtime.name(),
                what,
                unit: Unit::Milliseconds,
                samples: lives
                    .iter()
                    .filter_map(|steps| steps.all().get(number).copied().map(milliseconds))
                    .collect(),
            });
        }
    }
    Ok(outcome)
}

/// Rounds in which every wanted runtime has one turn.
fn rounds(stage: &Stage, count: usize) -> Result<Vec<(Runtime, Vec<Steps>)>> {
    let mut lives: Vec<(Runtime, Vec<Steps>)> = Runtime::ALL
        .into_iter()
        .filter(|runtime| stage.settings().wants(*runtime) && !runtime.in_layer())
        .map(|runtime| (runtime, Vec::with_capacity(count)))
        .collect();
    for round in 0..WARM_UP + count {
        for (runtime, lives) in &mut lives {
            let steps = one(stage, *runtime)?;
            if round >= WARM_UP {
                lives.push(steps);
            }
        }
    }
    Ok(lives)
}

/// One life, with its bundle made before and removed after.
pub(crate) fn one(stage: &Stage, runtime: Runtime) -> Result<Steps> {
    let bundle = Bundle::new(stage, runtime, Program::Hello)?;
    shim::live(stage, runtime, &bundle).with_context(|| runtime.name())
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
