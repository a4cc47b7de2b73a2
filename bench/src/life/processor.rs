//! The processor time of a life: of a cgroup around the bench, without what the driver itself took.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use super::alone::warm_up;
use super::bundle::{Bundle, Program};
use super::shim;
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median, precise};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Lives of a block, whose time is divided by their number.
const BLOCK: usize = 10;

/// Blocks of lives; the runtimes take turns.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let runtimes = stage.runtimes(&Runtime::ALL);
    warm_up(stage, &runtimes)?;
    let meter = Meter::new(settings)?;
    let mut series: Vec<(Runtime, Vec<f64>)> = runtimes
        .iter()
        .map(|runtime| (*runtime, Vec::new()))
        .collect();
    let mut drivers = Vec::new();
    for _ in 0..if settings.quick { 3 } else { 20 } {
        for (runtime, times) in &mut series {
            let (time, driver) = block(stage, &meter, *runtime)?;
            times.push(time);
            drivers.push(driver);
        }
    }
    let time = |wanted: Runtime| {
        let found = series.iter().find(|(runtime, _)| *runtime == wanted);
        found.map(|(_, times)| median(times))
    };
    let mut outcome = Outcome::default();
    if let (Some(ours), Some(theirs)) = (time(Runtime::Skiff), time(Runtime::Runc)) {
        outcome.promises.push(Promise {
            text: "processor time of a life, as a share of runc's",
            measured: ours / theirs,
            bound: Bound::AtMost(1.0 / 8.0),
            unit: "",
        });
    }
    outcome.measurements = series
        .into_iter()
        .map(|(runtime, samples)| Measurement {
            scenario: "cpu",
            runtime: runtime.name(),
            what: "processor time of a life",
            unit: Unit::Milliseconds,
            samples,
        })
        .collect();
    outcome.notes.push(format!(
        "Processor time of a cgroup around the bench, its containerd, the shims and the containers, without the \
         driver's own (getrusage: {:.2} ms a life, by the median of all); a sample is the mean of a block of {BLOCK} \
         lives. What the kernel does later in its own threads is in nobody's figure.",
        median(&drivers)
    ));
    Ok(outcome)
}

/// The means of a block, in milliseconds: of all but the driver, and of the driver. Bundles are made before and
/// removed after.
fn block(stage: &Stage, meter: &Meter, runtime: Runtime) -> Result<(f64, f64)> {
    let bundles = (0..BLOCK)
        .map(|_| Bundle::new(stage, runtime, Program::Hello))
        .collect::<Result<Vec<_>>>()?;
    let before = meter.read()?;
    for bundle in &bundles {
        shim::live(stage, runtime, bundle).with_context(|| runtime.name())?;
    }
    let after = meter.read()?;
    let mean = |before: f64, after: f64| (after - before) * 1e3 / precise(BLOCK);
    Ok((mean(before.0, after.0), mean(before.1, after.1)))
}

/// Reads the processor time of the bench's cgroup.
struct Meter {
    file: PathBuf,
    unified: bool,
}

impl Meter {
    fn new(settings: &Settings) -> Result<Self> {
        let directory = crate::supervisor::accounting()?.join(&settings.name);
        let (v1, v2) = (directory.join("cpuacct.usage"), directory.join("cpu.stat"));
        let unified = !v1.exists();
        Ok(Self {
            file: if unified { v2 } else { v1 },
            unified,
        })
    }

    /// Seconds of all but this process, and of this process.
    fn read(&self) -> Result<(f64, f64)> {
        let text = fs::read_to_string(&self.file)
            .with_context(|| format!("could not read {}", self.file.display()))?;
        let all = if self.unified {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "));
            line.context("cpu.stat has no usage_usec")?.parse::<f64>()? / 1e6
        } else {
            text.trim().parse::<f64>()? / 1e9
        };
        let own = getrusage(UsageWho::RUSAGE_SELF)?;
        let own = own.user_time().num_microseconds() + own.system_time().num_microseconds();
        let own =
            f64::from(u32::try_from(own).context("the bench ran for an hour of processor time")?)
                / 1e6;
        Ok((all - own, own))
    }
}
