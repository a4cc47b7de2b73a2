//! A process that joins a running container, beside a container of its own for the same program: from the call to the
//! event that tells of the exit, which is when a client that watches events knows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::api::{
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, StartRequest, StartResponse,
    WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde_json::{Value, json};

use super::alone::milliseconds;
use super::bundle::{Bundle, Program, arguments, new_id};
use super::events::Exit;
use super::output::Fifo;
use super::shim::{Shim, kill_request, start_command, wait_request};
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Rounds before those that count.
const WARM_UP: usize = 5;

const EXEC: &str = "exec: from the call to the event of its exit";
const CONTAINER: &str = "container: from Create to the event of its exit";

/// Skiff and runc take turns; runwasi has no exec.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let stage = stage::stage(settings)?;
    let mut targets = Vec::new();
    for runtime in stage.runtimes(&[Runtime::Skiff, Runtime::Runc]) {
        targets.push((Target::start(stage, runtime)?, Vec::new(), Vec::new()));
    }
    for round in 0..settings.rounds + WARM_UP {
        for (target, execs, containers) in &mut targets {
            let name = target.runtime.name();
            let exec = target.exec(stage).with_context(|| name)?;
            let container = container(stage, target.runtime).with_context(|| name)?;
            if round >= WARM_UP {
                execs.push(milliseconds(exec));
                containers.push(milliseconds(container));
            }
        }
    }
    let mut outcome = Outcome::default();
    let mut medians = Vec::new();
    for (target, execs, containers) in targets {
        let runtime = target.runtime;
        target.end()?;
        medians.push((runtime, median(&execs), median(&containers)));
        for (what, samples) in [(EXEC, execs), (CONTAINER, containers)] {
            outcome.measurements.push(Measurement {
                scenario: "exec",
                runtime: runtime.name(),
                what,
                unit: Unit::Milliseconds,
                samples,
            });
        }
    }
    if let [(Runtime::Skiff, ours, container), others @ ..] = medians.as_slice() {
        outcome.promises.push(Promise {
            text: "exec of a cached module: how many times a container of the same module, without its shim's start",
            measured: ours / container,
            bound: Bound::AtMost(1.3),
            unit: "x",
        });
        if let [(_, theirs, _)] = others {
            outcome.promises.push(Promise {
                text: "exec of a cached module: share of runc's exec of a static program",
                measured: ours / theirs,
                bound: Bound::AtMost(0.5),
                unit: "x",
            });
        }
    }
    outcome.notes.push(
        "An exec is Exec, Wait and Start in a container that sleeps, with its own output; a container is Create, Connect, Wait \
         and Start under a shim that has been started before (its start is in no figure). Both say hello, and end where the \
         event of the exit arrives. The same program for both: bench/hello.rs."
            .to_owned(),
    );
    Ok(outcome)
}

/// A container that sleeps.
struct Target<'a> {
    runtime: Runtime,
    bundle: Bundle<'a>,
    shim: Shim,
    /// What its own process is, with other words.
    process: Value,
}

impl<'a> Target<'a> {
    fn start(stage: &'a Stage, runtime: Runtime) -> Result<Self> {
        let bundle = Bundle::new(stage, runtime, Program::Sleep)?;
        let mut shim = Shim::start(&start_command(stage, runtime, &bundle)?, runtime)?;
        shim.create(&bundle).with_context(|| bundle.complaints())?;
        shim.run(&bundle.id).with_context(|| bundle.complaints())?;
        let text = std::fs::read_to_string(bundle.path.join("config.json"))?;
        let mut spec: Value = serde_json::from_str(&text)?;
        let mut process = spec["process"].take();
        process["args"] = json!(arguments(runtime, Program::Hello));
        Ok(Self {
            runtime,
            bundle,
            shim,
            process,
        })
    }

    fn exec(&mut self, stage: &Stage) -> Result<Duration> {
        let exec = new_id(stage);
        let paths = ["out", "err"].map(|name| self.bundle.path.join(format!("{exec}-{name}")));
        let [output, errors] = [Fifo::make(&paths[0])?, Fifo::make(&paths[1])?];
        let request = ExecProcessRequest {
            id: self.bundle.id.clone(),
            exec_id: exec.clone(),
            stdout: paths[0].display().to_string(),
            stderr: paths[1].display().to_string(),
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: self.process.to_string().into_bytes(),
                ..Any::default()
            }),
            ..ExecProcessRequest::default()
        };
        let mut wait = wait_request(&self.bundle.id);
        wait.exec_id.clone_from(&exec);
        let start = StartRequest {
            id: self.bundle.id.clone(),
            exec_id: exec.clone(),
            ..StartRequest::default()
        };
        let exit = Exit::expect(&exec);
        let client = &mut self.shim.client;
        let begun = Instant::now();
        let _: Empty = client.call("Exec", &request)?;
        let answer = client.send("Wait", &wait)?;
        let _: StartResponse = client.call("Start", &start)?;
        let told = exit.wait()?;
        let _: WaitResponse = client.receive(answer)?;
        let delete = DeleteRequest {
            id: self.bundle.id.clone(),
            exec_id: exec,
            ..DeleteRequest::default()
        };
        let _: DeleteResponse = client.call("Delete", &delete)?;
        let written = output.take();
        ensure!(
            told.status == 0 && written == "hello from a container\n",
            "the exec ended with {} and wrote {written:?}, and {:?} to its error output",
            told.status,
            errors.take()
        );
        drop((output, errors));
        for path in paths {
            std::fs::remove_file(path)?;
        }
        Ok(told.at - begun)
    }

    fn end(mut self) -> Result<()> {
        let id = self.bundle.id.clone();
        let exit = self.shim.client.send("Wait", &wait_request(&id))?;
        let _: Empty = self.shim.client.call("Kill", &kill_request(&id))?;
        let _: WaitResponse = self.shim.client.receive(exit)?;
        self.shim.delete(&id)?;
        self.shim.shutdown(&id)
    }
}

/// A container of its own, under a shim that is there already.
fn container(stage: &Stage, runtime: Runtime) -> Result<Duration> {
    let bundle = Bundle::new(stage, runtime, Program::Hello)?;
    let id = bundle.id.as_str();
    let mut shim = Shim::start(&start_command(stage, runtime, &bundle)?, runtime)?;
    let exit = Exit::expect(id);
    let begun = Instant::now();
    shim.create(&bundle).with_context(|| bundle.complaints())?;
    let answer = shim.client.send("Wait", &wait_request(id))?;
    shim.run(id).with_context(|| bundle.complaints())?;
    let told = exit.wait()?;
    let _: WaitResponse = shim.client.receive(answer)?;
    shim.delete(id)?;
    shim.shutdown(id)?;
    bundle.expect_hello()?;
    ensure!(
        told.status == 0,
        "the container ended with {}; {}",
        told.status,
        bundle.complaints()
    );
    Ok(told.at - begun)
}
