//! What the size of a cached entry costs at a start: every entry is verified on the very file that the host maps.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::guest;
use super::kubelet::{Kubelet, handler, image_of};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

const MIB: u32 = 1 << 20;

/// The two components, by size of their code.
const SIZES: [(&str, usize); 2] = [
    ("start of a component of one function", 0),
    ("start of a component of 10 MiB", 10 << 20),
];

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let mut kubelet = Kubelet::start(settings, false)?;
    let rounds = settings.rounds.min(if settings.quick { 10 } else { 50 });
    let components = SIZES.map(|(_, bytes)| guest::large_component(bytes));
    let mut outcome = Outcome::default();
    for runtime in [Runtime::Skiff, Runtime::SkiffLayer] {
        if !settings.wants(runtime) {
            continue;
        }
        let mut images = Vec::new();
        for (number, component) in components.iter().enumerate() {
            // CRI knows images by their configs, and those of Wasm layers say nothing of the layer.
            let image = image_of(runtime, "component", component, &[])
                .environment(&[&format!("SIZE={number}")]);
            let name = format!("component{}x{number}", runtime as usize);
            images.push((kubelet.image(&image, &name)?, Vec::new()));
        }
        let pod = kubelet
            .cri
            .pod(handler(runtime), &format!("v{}", runtime as usize), false)?;
        // The first round compiles and is not counted.
        for round in 0..=rounds {
            for (number, (image, samples)) in images.iter_mut().enumerate() {
                let (id, _) = pod.create(image, &format!("a{number}x{round}"))?;
                let time = pod.run(&id)?;
                pod.remove_container(&id)?;
                if round > 0 {
                    samples.push(time.as_secs_f64() * 1e3);
                }
            }
        }
        pod.remove()?;
        let entry = f64::from(u32::try_from(largest(&kubelet.node.cache())?)?);
        outcome.measurements.push(Measurement {
            scenario: "component",
            runtime: runtime.name(),
            what: "size of the entry of the component of 10 MiB",
            unit: Unit::Megabytes,
            samples: vec![entry / 1e6],
        });
        let mebibytes = entry / f64::from(MIB);
        outcome.promises.push(Promise {
            text: if runtime.in_layer() {
                "start of a cached 10 MiB component in a layer, above one of one function: per MiB of entry"
            } else {
                "start of a cached 10 MiB component in the root, above one of one function: per MiB of entry"
            },
            measured: (median(&images[1].1) - median(&images[0].1)) / mebibytes,
            bound: Bound::AtMost(1.0),
            unit: "ms",
        });
        for ((_, samples), (what, _)) in images.into_iter().zip(SIZES) {
            outcome.measurements.push(Measurement {
                scenario: "component",
                runtime: runtime.name(),
                what,
                unit: Unit::Milliseconds,
                samples,
            });
        }
    }
    kubelet.finish(&mut outcome.notes)?;
    outcome.notes.push("a start is CRI's StartContainer in a pod that runs, with code in the cache; a component in the root is read and hashed at each start too, one in a layer is known by its digest".to_owned());
    Ok(outcome)
}

/// Size of the largest file at and below a directory.
fn largest(directory: &Path) -> Result<u64> {
    let mut most = 0;
    for entry in fs::read_dir(directory)
        .with_context(|| format!("could not list {}", directory.display()))?
    {
        let entry = entry?;
        let facts = entry.metadata()?;
        most = most.max(if facts.is_dir() {
            largest(&entry.path())?
        } else {
            facts.len()
        });
    }
    Ok(most)
}
