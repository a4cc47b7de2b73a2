//! What a pod that sleeps takes of the node's memory, with 1, 10 and 100 pods of one image alive.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cri::Pod;
use super::guest;
use super::kubelet::{Kubelet, handler, image_of};
use super::processes::{Memory, Role, memory};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// How long all may come to rest before they are looked at.
const REST: Duration = Duration::from_secs(1);

/// What is measured with a number of pods alive, per pod.
struct Level {
    pods: usize,
    pss: &'static str,
    private_dirty: &'static str,
    kernel: &'static str,
    kernel_of_shim: &'static str,
}

const LEVELS: [Level; 3] = [
    Level {
        pods: 1,
        pss: "PSS of a pod, 1 pod",
        private_dirty: "private dirty of a pod, 1 pod",
        kernel: "kernel memory of the pod's cgroup, 1 pod",
        kernel_of_shim: "kernel memory of the shim's cgroup, 1 pod",
    },
    Level {
        pods: 10,
        pss: "PSS of a pod, 10 pods",
        private_dirty: "private dirty of a pod, 10 pods",
        kernel: "kernel memory of the pod's cgroup, 10 pods",
        kernel_of_shim: "kernel memory of the shim's cgroup, 10 pods",
    },
    Level {
        pods: 100,
        pss: "PSS of a pod, 100 pods",
        private_dirty: "private dirty of a pod, 100 pods",
        kernel: "kernel memory of the pod's cgroup, 100 pods",
        kernel_of_shim: "kernel memory of the shim's cgroup, 100 pods",
    },
];

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let levels = if settings.quick {
        &LEVELS[..2]
    } else {
        &LEVELS[..]
    };
    let mut kubelet = Kubelet::start(settings, false)?;
    let (module, program) = (guest::service_module()?, guest::service_program()?);
    for runtime in Runtime::ALL {
        if settings.wants(runtime) {
            let image = image_of(runtime, "service", &module, &program);
            let reference = kubelet.image(&image, &format!("m{}", runtime as usize))?;
            one(&kubelet, runtime, &reference, levels, &mut outcome)
                .with_context(|| format!("with {}", runtime.name()))?;
        }
    }
    kubelet.finish(&mut outcome.notes)?;
    if let Some(found) = outcome
        .measurements
        .iter()
        .find(|found| found.runtime == Runtime::Skiff.name() && found.what == LEVELS[2].pss)
    {
        outcome.promises = vec![Promise {
            text: "memory of a pod, 100 pods of one image: PSS of shim, pause and host",
            measured: mean(&found.samples),
            bound: Bound::AtMost(1.0),
            unit: "MB",
        }];
    }
    outcome.notes.push("PSS and private dirty are of all the pod's processes (smaps_rollup). The kernel's share is what the memory cgroups charge beside: of the pod's cgroup with pause and container, and what the cgroup of containerd and its shims grew by for each pod, containerd's own share in it".to_owned());
    Ok(outcome)
}

/// All levels for one runtime.
fn one(
    kubelet: &Kubelet,
    runtime: Runtime,
    reference: &str,
    levels: &[Level],
    outcome: &mut Outcome,
) -> Result<()> {
    // Once alone: a module may have to be compiled.
    let pod = kubelet.cri.pod(handler(runtime), "first", false)?;
    pod.start(reference, "app")?;
    pod.remove()?;
    std::thread::sleep(REST);
    let before = kubelet.daemons.kernel_memory().unwrap_or(f64::NAN);

    let mut pods: Vec<Pod<'_>> = Vec::new();
    let mut ids = Vec::new();
    for level in levels {
        while pods.len() < level.pods {
            let name = format!("m{}x{}", runtime as usize, pods.len());
            let pod = kubelet.cri.pod(handler(runtime), &name, false)?;
            let container = pod.start(reference, "app")?;
            ids.push((pod.id.clone(), container.id));
            pods.push(pod);
        }
        std::thread::sleep(REST);
        let roles = memory(&kubelet.node, &ids);
        let grown = kubelet.daemons.kernel_memory().unwrap_or(f64::NAN) - before;
        let kernel: Option<Vec<f64>> = pods
            .iter()
            .map(|pod| pod.group.kernel_memory().map(|bytes| bytes / 1e6))
            .collect();
        let sums = |of: fn(&Memory) -> f64| -> Vec<f64> {
            roles.iter().map(|pod| pod.values().map(of).sum()).collect()
        };
        let mut add = |what, samples| {
            outcome.measurements.push(Measurement {
                scenario: "memory",
                runtime: runtime.name(),
                what,
                unit: Unit::Megabytes,
                samples,
            });
        };
        add(level.pss, sums(|memory| memory.pss));
        add(level.private_dirty, sums(|memory| memory.private_dirty));
        add(level.kernel, kernel.unwrap_or_default());
        add(
            level.kernel_of_shim,
            vec![grown / 1e6 / mean_divisor(level.pods)],
        );
        let shares: Vec<String> = Role::ALL
            .into_iter()
            .map(|role| {
                let mut sum = Memory::default();
                for memory in roles.iter().filter_map(|pod| pod.get(&role)) {
                    sum += *memory;
                }
                let of = mean_divisor(level.pods);
                format!(
                    "{} {:.3} ({:.3})",
                    role.name(),
                    sum.pss / of,
                    sum.private_dirty / of
                )
            })
            .collect();
        outcome.notes.push(format!(
            "{}, PSS (private dirty) in MB by role, pods alive: {}: {}",
            runtime.name(),
            level.pods,
            shares.join(", ")
        ));
    }
    for pod in pods {
        pod.remove()?;
    }
    Ok(())
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / mean_divisor(samples.len())
}

/// A count of pods as a number to divide by.
fn mean_divisor(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}
