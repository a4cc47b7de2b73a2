//! A thousand pods alive at once: how their starts, their answers and their memory grow.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::alone::{milliseconds, warm_up};
use super::pod::Pod;
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median, p99, precise};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Starts of pods, in their order: the report draws them as a curve.
pub(crate) const START: &str = "start of a pod";
/// How often every pod is asked.
const QUESTIONS: usize = 3;
/// The peers are measured with fewer: they would need the memory of a larger machine.
const PEERS: usize = 100;

/// Skiff with a thousand (a hundred in a quick run); the others, in a full run, with a hundred.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let mut outcome = Outcome::default();
    let number = if settings.quick { PEERS } else { 1000 };
    for runtime in stage.runtimes(&[Runtime::Skiff, Runtime::Runwasi, Runtime::Runc]) {
        let number = if runtime == Runtime::Skiff {
            number
        } else if settings.quick && settings.runtimes.is_empty() {
            continue;
        } else {
            PEERS
        };
        warm_up(stage, &[runtime])?;
        let found = alive(stage, runtime, number)?;
        if runtime == Runtime::Skiff {
            outcome.promises = promises(&found, number);
        }
        outcome.notes.push(format!(
            "{}: {number} pods were there after {:.0} s and gone in {:.0} s. Steps of a start, medians of the first \
             and of the last tenth: {}.",
            runtime.name(),
            found.starting,
            found.ending,
            found.growth()
        ));
        outcome.measurements.extend(found.measurements(runtime));
    }
    outcome.notes.push(format!(
        "A pod is a shim, a sandbox and a container that sleeps, in the node's network, driven over the task API. \
         Its start goes from the exec of the start command to the answer to Start of the container. With all \
         alive, each is asked {QUESTIONS} times for State and Stats, one after the other. Memory is \
         the sum of the PSS of shim, pause and container; the kernel's is what the memory cgroup around the bench is \
         charged, which includes the driver's sockets and FIFOs for the pod."
    ));
    Ok(outcome)
}

/// What was seen with all pods alive.
struct Found {
    starts: Vec<f64>,
    steps: Vec<[Duration; 5]>,
    states: Vec<f64>,
    stats: Vec<f64>,
    running: usize,
    /// Megabytes for each pod: the sum of PSS, and what the kernel has for it.
    pss: f64,
    kernel: f64,
    /// Seconds until all were there, and until all were gone.
    starting: f64,
    ending: f64,
}

fn alive(stage: &Stage, runtime: Runtime, number: usize) -> Result<Found> {
    let memory = KernelMemory::new(stage.settings())?;
    let before = (memory.read()?, pss()?);
    let began = Instant::now();
    let mut pods = Vec::with_capacity(number);
    let mut starts = Vec::with_capacity(number);
    let mut steps = Vec::with_capacity(number);
    for done in 0..number {
        let (pod, times) =
            Pod::start(stage, runtime).with_context(|| format!("pod {} of {number}", done + 1))?;
        pods.push(pod);
        starts.push(milliseconds(times.iter().sum()));
        steps.push(times);
    }
    let starting = began.elapsed().as_secs_f64();
    let (mut states, mut stats, mut running) = (Vec::new(), Vec::new(), 0);
    for question in 0..QUESTIONS {
        for pod in &mut pods {
            let (runs, time) = pod.state()?;
            running += usize::from(runs && question == 0);
            states.push(milliseconds(time));
        }
        for pod in &mut pods {
            stats.push(milliseconds(pod.stats()?));
        }
    }
    let share = 1.0 / precise(number);
    let (kernel, pss) = (memory.read()? - before.0, pss()? - before.1);
    let began = Instant::now();
    for pod in pods {
        pod.end()?;
    }
    Ok(Found {
        starts,
        steps,
        states,
        stats,
        running,
        kernel: kernel * share,
        pss: pss * share,
        starting,
        ending: began.elapsed().as_secs_f64(),
    })
}

impl Found {
    /// How the steps grow.
    fn growth(&self) -> String {
        let tenth = self.steps.len() / 10;
        let middle = |step: usize, pods: &[[Duration; 5]]| {
            let times: Vec<f64> = pods
                .iter()
                .filter_map(|steps| steps.get(step).copied().map(milliseconds))
                .collect();
            median(&times)
        };
        let (first, last) = (
            self.steps.get(..tenth).unwrap_or_default(),
            self.steps
                .get(self.steps.len() - tenth..)
                .unwrap_or_default(),
        );
        let steps = Pod::STEPS.iter().enumerate().map(|(number, name)| {
            format!(
                "{name} {:.2} and {:.2} ms",
                middle(number, first),
                middle(number, last)
            )
        });
        steps.collect::<Vec<_>>().join(", ")
    }

    fn measurements(self, runtime: Runtime) -> Vec<Measurement> {
        let tenth = self.starts.len() / 10;
        let first = self.starts.get(..tenth).unwrap_or_default().to_vec();
        let last = self
            .starts
            .get(self.starts.len() - tenth..)
            .unwrap_or_default()
            .to_vec();
        let one = |what, unit, samples| Measurement {
            scenario: "pods",
            runtime: runtime.name(),
            what,
            unit,
            samples,
        };
        vec![
            one(START, Unit::Milliseconds, self.starts),
            one("start of the first tenth", Unit::Milliseconds, first),
            one("start of the last tenth", Unit::Milliseconds, last),
            one("State", Unit::Milliseconds, self.states),
            one("Stats", Unit::Milliseconds, self.stats),
            one("pods that run", Unit::Count, vec![precise(self.running)]),
            one("memory of a pod, PSS", Unit::Megabytes, vec![self.pss]),
            one(
                "memory of a pod, kernel",
                Unit::Megabytes,
                vec![self.kernel],
            ),
        ]
    }
}

fn promises(found: &Found, number: usize) -> Vec<Promise> {
    let tenth = number / 10;
    let (starts, all) = (&found.starts, found.starts.len());
    let first = median(starts.get(..tenth).unwrap_or_default());
    let last = median(starts.get(all - tenth..).unwrap_or_default());
    vec![
        Promise {
            text: "pods alive at once by the task API, all of which run (a quick run starts 100)",
            measured: precise(found.running),
            bound: Bound::AtLeast(precise(number)),
            unit: "",
        },
        Promise {
            text: "pods: how many times the start of the first tenth the last tenth takes",
            measured: last / first,
            bound: Bound::AtMost(1.3),
            unit: "x",
        },
        Promise {
            text: "pods: p99 of State with all alive",
            measured: p99(&found.states),
            bound: Bound::AtMost(20.0),
            unit: "ms",
        },
    ]
}

/// What of these pods, alive at once, each takes: the sum of the PSS of shim, pause and container, in megabytes.
pub(super) fn memory_of_a_pod(stage: &Stage, runtime: Runtime, number: usize) -> Result<f64> {
    Ok(alive(stage, runtime, number)?.pss)
}

/// Reads the kernel memory of the bench's cgroup, in megabytes.
struct KernelMemory {
    directory: PathBuf,
}

impl KernelMemory {
    fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            directory: crate::supervisor::memory_accounting()?.join(&settings.name),
        })
    }

    fn read(&self) -> Result<f64> {
        let v1 = self.directory.join("memory.kmem.usage_in_bytes");
        let bytes: f64 = if v1.exists() {
            fs::read_to_string(v1)?.trim().parse()?
        } else {
            let text = fs::read_to_string(self.directory.join("memory.stat"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("kernel "));
            line.context("memory.stat has no line for the kernel")?
                .parse()?
        };
        Ok(bytes / 1e6)
    }
}

/// The sum of all processes but this one: containerd's is the same before and after.
fn pss() -> Result<f64> {
    let mut sum = 0.0;
    let mut seen = 0_u32;
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if process == std::process::id() {
            continue;
        }
        // It may have ended meanwhile.
        if let Ok(text) = fs::read_to_string(entry.path().join("smaps_rollup")) {
            sum += kilobytes(&text, "Pss:").unwrap_or(0.0);
            seen += 1;
        }
    }
    ensure!(seen > 0, "/proc shows no process");
    Ok(sum)
}

fn kilobytes(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let figure: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(figure * 1024.0 / 1e6)
}
