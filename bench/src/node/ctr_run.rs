//! `ctr run --rm` as one types it, from the start of `ctr` to its end.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::guest;
use super::kubelet::{Kubelet, image_of};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let kubelet = Kubelet::start(settings, false)?;
    let node = &kubelet.node;
    let (module, program) = (guest::hello_module()?, guest::hello_program()?);
    let mut runtimes = Vec::new();
    for runtime in Runtime::ALL {
        if settings.wants(runtime) {
            let image = image_of(runtime, "hello", &module, &program);
            node.import(&image)?;
            runtimes.push((runtime, image, Vec::new()));
        }
    }
    let rounds = settings.rounds.min(if settings.quick { 15 } else { 100 });
    // The first round compiles, is looked at and not counted.
    for round in 0..=rounds {
        for (runtime, image, samples) in &mut runtimes {
            let id = node.new_id("r");
            let mut arguments = vec!["run", "--rm", "--runtime", runtime.kind()];
            let platform = image.platform();
            if let Some(platform) = &platform {
                arguments.extend(["--platform", platform]);
            }
            arguments.extend([image.name(), &id]);
            let mut command = node.ctr_command(&arguments);
            if round == 0 {
                let output = skiff_test::command::run(&mut command)?.ok()?;
                ensure!(output == "hello\n", "{} wrote {output:?}", runtime.name());
                continue;
            }
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let begin = Instant::now();
            let status = command.spawn()?.wait()?;
            samples.push(begin.elapsed().as_secs_f64() * 1e3);
            ensure!(
                status.success(),
                "{}: ctr ended with {status}",
                runtime.name()
            );
        }
    }
    let mut notes = vec!["the time of `ctr` itself is in all figures alike: a program of 40 MB that starts, makes a snapshot and a container record, and takes them away".to_owned()];
    kubelet.finish(&mut notes)?;
    let of = |wanted: Runtime| {
        runtimes
            .iter()
            .find(|(runtime, ..)| *runtime == wanted)
            .map_or(f64::NAN, |(.., samples)| median(samples))
    };
    let share = of(Runtime::Skiff) / of(Runtime::Runc);
    Ok(Outcome {
        measurements: runtimes
            .into_iter()
            .map(|(runtime, _, samples)| Measurement {
                scenario: "ctr",
                runtime: runtime.name(),
                what: "ctr run --rm, whole",
                unit: Unit::Milliseconds,
                samples,
            })
            .collect(),
        promises: vec![Promise {
            text: "`ctr run --rm` whole: share of runc's time",
            measured: share,
            bound: Bound::AtMost(0.5),
            unit: "x",
        }],
        notes,
        skipped: None,
    })
}
