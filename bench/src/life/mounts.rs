//! Lives on a node with few and with many mounts: a node with many pods has hundreds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::alone::{Lives, rounds, walls, warm_up};
use super::bundle::Program;
use super::stage;
use crate::measurement::{Bound, Outcome, Promise, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Numbers of extra mounts, and what the lives among them are called.
const NUMBERS: [(usize, &str); 2] = [(20, "with 20 more mounts"), (500, "with 500 more mounts")];

/// Blocks of rounds with either number of mounts, in turns.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&Runtime::ALL);
    warm_up(stage, &runtimes)?;
    let (blocks, block) = if settings.quick { (2, 5) } else { (10, 10) };
    let mut all: Vec<Lives> = NUMBERS
        .iter()
        .map(|_| {
            runtimes
                .iter()
                .map(|runtime| (*runtime, Vec::new()))
                .collect()
        })
        .collect();
    for _ in 0..blocks {
        for ((number, _), lives) in NUMBERS.iter().zip(&mut all) {
            let _mounts = Mounts::make(&settings.place.join("mounts"), *number)?;
            for (sum, (_, new)) in
                lives
                    .iter_mut()
                    .zip(rounds(stage, &runtimes, Program::Hello, block)?)
            {
                sum.1.extend(new);
            }
        }
    }
    let mut outcome = Outcome::default();
    let mut medians = Vec::new();
    for ((_, what), lives) in NUMBERS.iter().zip(&all) {
        for (runtime, lives) in lives {
            let series = walls("mounts", *runtime, what, lives);
            if *runtime == Runtime::Skiff {
                medians.push(median(&series.samples));
            }
            outcome.measurements.push(series);
        }
    }
    if let [few, many] = medians[..] {
        outcome.promises.push(Promise {
            text: "with 500 more mounts: how many times the time with 20",
            measured: many / few,
            bound: Bound::AtMost(1.2),
            unit: "x",
        });
    }
    outcome.notes.push(
        "The mounts (tmpfs, shared, as systemd makes them) are in the bench's own mount namespace, which \
         containerd and all shims have from it."
            .to_owned(),
    );
    Ok(outcome)
}

/// Mounts that are there until the value is dropped.
struct Mounts {
    made: Vec<PathBuf>,
}

impl Mounts {
    fn make(parent: &Path, count: usize) -> Result<Self> {
        let mut mounts = Self { made: Vec::new() };
        for number in 0..count {
            let place = parent.join(number.to_string());
            fs::create_dir_all(&place)?;
            mount("tmpfs", &place, "tmpfs", MountFlags::empty(), c"size=4k")
                .with_context(|| format!("could not mount a tmpfs on {}", place.display()))?;
            mounts.made.push(place);
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in &self.made {
            // What stays goes with the mount namespace.
            unmount(place, UnmountFlags::DETACH).ok();
        }
    }
}
