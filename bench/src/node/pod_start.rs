//! From the call that makes a pod to the first line in its container's log, as a kubelet would see it.

use anyhow::Result;

use super::guest;
use super::kubelet::{Kubelet, handler, image_of};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// The steps of a start, in order, as columns of [`Times`].
const STEPS: [&str; 5] = [
    "pod start to the first line",
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StartContainer's begin to the line",
];

/// Each step's samples of one runtime, in milliseconds.
type Times = [Vec<f64>; 5];

/// In the network of the node.
pub(crate) fn on_node_network(settings: &Settings) -> Result<Outcome> {
    let mut outcome = measure(settings, "pod", false)?;
    let total = |runtime: Runtime| {
        outcome
            .measurements
            .iter()
            .find(|found| found.runtime == runtime.name() && found.what == STEPS[0])
            .map_or(f64::NAN, |found| median(&found.samples))
    };
    outcome.promises = vec![Promise {
        text: "CRI pod start to the first log line, network of the node: share of runc's time",
        measured: total(Runtime::Skiff) / total(Runtime::Runc),
        bound: Bound::AtMost(0.6),
        unit: "x",
    }];
    Ok(outcome)
}

/// With a network of the pod's own, by a bridge.
pub(crate) fn on_bridge(settings: &Settings) -> Result<Outcome> {
    let mut outcome = measure(settings, "pod-bridge", true)?;
    outcome.notes.push(
        "with a bridge, most of RunPodSandbox is the network plugins (loopback, bridge, host-local: programs of their own), the same for all runtimes".to_owned(),
    );
    Ok(outcome)
}

fn measure(settings: &Settings, scenario: &'static str, bridge: bool) -> Result<Outcome> {
    let mut kubelet = Kubelet::start(settings, bridge)?;
    let (module, program) = (guest::service_module()?, guest::service_program()?);
    let mut runtimes = Vec::new();
    for runtime in Runtime::ALL {
        if settings.wants(runtime) {
            let image = image_of(runtime, "service", &module, &program);
            let name = format!("service{}", runtimes.len());
            runtimes.push((runtime, kubelet.image(&image, &name)?, Times::default()));
        }
    }
    let rounds = settings.rounds.min(if settings.quick { 10 } else { 50 });
    // The first round compiles, and is not counted.
    for round in 0..=rounds {
        for (number, (runtime, image, times)) in runtimes.iter_mut().enumerate() {
            let name = format!("p{number}x{round}");
            let pod = kubelet.cri.pod(handler(*runtime), &name, bridge)?;
            let started = pod.start(image, "app")?;
            let steps = [
                started.line.duration_since(pod.begun),
                pod.time,
                started.create,
                started.start,
                started.to_line,
            ];
            pod.remove()?;
            if round > 0 {
                for (samples, step) in times.iter_mut().zip(steps) {
                    samples.push(step.as_secs_f64() * 1e3);
                }
            }
        }
    }
    let mut notes = vec![
        "one container in one pod, started over CRI's socket as a kubelet does (no crictl); the container has a kubelet's mounts, masks, limits and the default seccomp filter; it says one line and sleeps".to_owned(),
        "StartContainer may answer after the first line; the pod's pause program is the same (skiff-pause) for all".to_owned(),
    ];
    kubelet.finish(&mut notes)?;
    let measurements = runtimes
        .into_iter()
        .flat_map(|(runtime, _, times)| {
            STEPS
                .into_iter()
                .zip(times)
                .map(move |(what, samples)| Measurement {
                    scenario,
                    runtime: runtime.name(),
                    what,
                    unit: Unit::Milliseconds,
                    samples,
                })
        })
        .collect();
    Ok(Outcome {
        measurements,
        notes,
        ..Outcome::default()
    })
}
