//! The first start of a module on a node: what it costs beyond the compilation itself, and who is charged for that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use skiff_test::Node;

use super::guest;
use super::kubelet::{Kubelet, handler, image_of};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Size of the module.
const BYTES: usize = 2_000_000;

/// What the shim logs when a compilation is over, before and behind the milliseconds that the worker reports.
const LOGGED: [&str; 2] = [" was compiled in ", " ms"];

/// The samples of one start: columns of [`WHAT`].
type Columns = [Vec<f64>; 9];

const WHAT: [(&str, Unit); 9] = [
    ("first start", Unit::Milliseconds),
    ("compilation, as the worker reports it", Unit::Milliseconds),
    ("first start without the compilation", Unit::Milliseconds),
    ("warm start", Unit::Milliseconds),
    ("what is above 2 warm starts", Unit::Milliseconds),
    ("processor time of the pod, first start", Unit::Milliseconds),
    ("processor time of the pod, warm start", Unit::Milliseconds),
    ("most memory of the pod, first start", Unit::Megabytes),
    ("most memory of the pod, warm start", Unit::Megabytes),
];

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let mut kubelet = Kubelet::start(settings, false)?;
    let module = guest::large_module(BYTES, "_start", false);
    let rounds = if settings.quick { 5 } else { 20 };
    let mut runtimes = Vec::new();
    for runtime in [Runtime::Skiff, Runtime::SkiffLayer] {
        if settings.wants(runtime) {
            let image = image_of(runtime, "large", &module, &[]);
            let name = format!("large{}", runtime as usize);
            runtimes.push((runtime, kubelet.image(&image, &name)?, Columns::default()));
        }
    }
    // The first round brings the programs into memory and is not counted.
    for round in 0..=rounds {
        for (runtime, image, columns) in &mut runtimes {
            let name = format!("c{}x{round}", *runtime as usize);
            empty(&kubelet.node.cache())?;
            let reported = compilations(&kubelet.node);
            let first = start(&kubelet, *runtime, image, &format!("{name}f"))?;
            let compiled = compiled(&kubelet.node, reported)?;
            let warm = start(&kubelet, *runtime, image, &format!("{name}w"))?;
            let rest = first.time - compiled;
            let row = [
                first.time,
                compiled,
                rest,
                warm.time,
                rest - 2.0 * warm.time,
                first.processor,
                warm.processor,
                first.memory,
                warm.memory,
            ];
            if round > 0 {
                for (samples, figure) in columns.iter_mut().zip(row) {
                    samples.push(figure);
                }
            }
        }
    }
    let mut outcome = outcome(runtimes);
    kubelet.finish(&mut outcome.notes)?;
    Ok(outcome)
}

fn outcome(runtimes: Vec<(Runtime, String, Columns)>) -> Outcome {
    // The worse of the layouts is what is promised.
    let worst = |figure: &dyn Fn(&Columns) -> f64| {
        runtimes
            .iter()
            .map(|(.., columns)| figure(columns))
            .fold(f64::NAN, f64::max)
    };
    let difference = |first: usize, warm: usize| {
        worst(&|columns| median(&columns[first]) - median(&columns[warm]))
    };
    let promises = vec![
        Promise {
            text: "first start of a 2 MB module, without compile time: above 2 warm starts",
            measured: worst(&|columns| median(&columns[2]) - 2.0 * median(&columns[3])),
            bound: Bound::AtMost(20.0),
            unit: "ms",
        },
        Promise {
            text: "processor time charged to the pod by the first start, above a warm one",
            measured: difference(5, 6),
            bound: Bound::AtMost(2.0),
            unit: "ms",
        },
        Promise {
            text: "most memory charged to the pod in the first start, above a warm one",
            measured: difference(7, 8),
            bound: Bound::AtMost(0.5),
            unit: "MB",
        },
    ];
    let measurements = runtimes
        .into_iter()
        .flat_map(|(runtime, _, columns)| {
            WHAT.into_iter()
                .zip(columns)
                .map(move |((what, unit), samples)| Measurement {
                    scenario: "compile",
                    runtime: runtime.name(),
                    what,
                    unit,
                    samples,
                })
        })
        .collect();
    Outcome {
        measurements,
        promises,
        notes: vec![
            "a start is CRI's StartContainer, in a new pod each time; before each first start the node's cache of compiled code is emptied. The cache lies on the bench's tmpfs, the compile worker's program is in the page cache".to_owned(),
            "processor time and memory are what the pod's own cgroup was charged with from its making to the answer of StartContainer (cpuacct.usage, memory.max_usage_in_bytes; cpu.stat, memory.peak)".to_owned(),
        ],
        skipped: None,
    }
}

/// One start in a pod of its own.
struct Start {
    /// Milliseconds.
    time: f64,
    /// Milliseconds of processor time of the pod.
    processor: f64,
    /// The most memory of the pod, in megabytes.
    memory: f64,
}

fn start(kubelet: &Kubelet, runtime: Runtime, image: &str, name: &str) -> Result<Start> {
    let pod = kubelet.cri.pod(handler(runtime), name, false)?;
    let (id, _) = pod.create(image, "app")?;
    let time = pod.run(&id)?.as_secs_f64() * 1e3;
    let start = Start {
        time,
        processor: pod.group.processor_time().unwrap_or(f64::NAN) * 1e3,
        memory: pod.group.peak_memory().unwrap_or(f64::NAN) / 1e6,
    };
    pod.remove()?;
    Ok(start)
}

/// Removes every entry. No shim runs, and what the next one finds is a cache that was never used.
fn empty(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache).with_context(|| format!("no cache at {}", cache.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn compilations(node: &Node) -> usize {
    node.log().matches(LOGGED[0]).count()
}

/// The time of the compilation that was logged after so many others. containerd copies the shim's log to its own.
fn compiled(node: &Node, before: usize) -> Result<f64> {
    skiff_test::command::wait_for(
        "the shim logs no compilation",
        Duration::from_secs(5),
        || {
            let log = node.log();
            let text = log.split(LOGGED[0]).nth(before + 1);
            Ok(text
                .and_then(|text| text.split_once(LOGGED[1]))
                .and_then(|(number, _)| number.parse().ok()))
        },
    )
}
