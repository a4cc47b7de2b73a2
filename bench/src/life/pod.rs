//! A pod by the task API: one shim, a sandbox and a container that sleeps, in the node's network.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::api::{
    CreateTaskResponse, DeleteResponse, Empty, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, Status, WaitResponse,
};

use super::bundle::{Bundle, Program, arguments, new_id};
use super::shim::{
    Shim, create_request, delete_request, kill_request, start_command, start_request, stopwatch,
    wait_request,
};
use super::spec::{self, Identity, Namespaces};
use super::stage::Stage;
use super::ttrpc::{Client, Pending};
use crate::node::cgroup::PodGroup;
use crate::runtime::Runtime;

/// A pod that runs. It is ended by [`Pod::end`].
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    sandbox: Bundle<'a>,
    app: Bundle<'a>,
    shim: Shim,
    /// containerd has a connection for each container.
    client: Client,
    sandbox_exit: Pending,
    app_exit: Pending,
    cgroup: PodGroup,
}

impl<'a> Pod<'a> {
    /// What the steps of a start are called.
    pub(crate) const STEPS: [&'static str; 5] = [
        "shim start",
        "sandbox create",
        "sandbox start",
        "container create",
        "container start",
    ];

    /// Starts a pod; answers also how long the shim took for each step of it. What containerd and the kubelet do
    /// before and between (bundles, the pod's cgroup) is in no step.
    pub(crate) fn start(stage: &'a Stage, runtime: Runtime) -> Result<(Self, [Duration; 5])> {
        let (id, app) = (new_id(stage), new_id(stage));
        let path = format!("/{}/burstable/{id}", stage.settings().name);
        let cgroup = PodGroup::create(path.trim_start_matches('/'))?;
        let identity = |container| Identity {
            id: container,
            pod: id.as_str(),
            cgroup: &path,
        };
        let text = spec::sandbox(stage, identity(&id), arguments(runtime, Program::Pause))?;
        let sandbox = Bundle::with_spec(stage, runtime, &id, &text)?;
        let command = start_command(stage, runtime, &sandbox)?;

        let mut lap = stopwatch();
        let mut shim = Shim::start(&command, runtime).with_context(|| sandbox.complaints())?;
        let shim_time = lap();
        shim.create(&sandbox)
            .with_context(|| sandbox.complaints())?;
        let sandbox_create = lap();
        let sandbox_exit = shim.client.send("Wait", &wait_request(&id))?;
        let process = shim.run(&id).with_context(|| sandbox.complaints())?;
        let sandbox_start = lap();

        let program = arguments(runtime, Program::Sleep);
        let text = spec::container(stage, identity(&app), program, Namespaces::Of(process))?;
        let app = Bundle::with_spec(stage, runtime, &app, &text)?;

        let mut lap = stopwatch();
        // runwasi's answer to the start command is of the older version, for which containerd runs the command
        // for every container.
        let mut client = if runtime.service().contains(".v2.") {
            Shim::start(&start_command(stage, runtime, &app)?, runtime)?.client
        } else {
            Client::connect(&shim.address, runtime.service())?
        };
        let _: CreateTaskResponse = client
            .call("Create", &create_request(&app))
            .with_context(|| app.complaints())?;
        let create = lap();
        let app_exit = client.send("Wait", &wait_request(&app.id))?;
        let _: StartResponse = client
            .call("Start", &start_request(&app.id))
            .with_context(|| app.complaints())?;
        let start = lap();
        let pod = Self {
            sandbox,
            app,
            shim,
            client,
            sandbox_exit,
            app_exit,
            cgroup,
        };
        let times = [shim_time, sandbox_create, sandbox_start, create, start];
        Ok((pod, times))
    }

    /// `State` of the container: whether it runs, and how long the answer took.
    pub(crate) fn state(&mut self) -> Result<(bool, Duration)> {
        let mut request = StateRequest::new();
        request.id.clone_from(&self.app.id);
        let started = Instant::now();
        let state: StateResponse = self.client.call("State", &request)?;
        let runs = state.status.enum_value() == Ok(Status::RUNNING);
        Ok((runs, started.elapsed()))
    }

    /// How long `Stats` of the container took.
    pub(crate) fn stats(&mut self) -> Result<Duration> {
        let mut request = StatsRequest::new();
        request.id.clone_from(&self.app.id);
        let started = Instant::now();
        let stats: StatsResponse = self.client.call("Stats", &request)?;
        let time = started.elapsed();
        ensure!(stats.stats.is_some(), "the answer to Stats is empty");
        Ok(time)
    }

    /// Kills and deletes all of it.
    pub(crate) fn end(mut self) -> Result<()> {
        let id = &self.app.id;
        let _: Empty = self.client.call("Kill", &kill_request(id))?;
        let _: WaitResponse = self.client.receive(self.app_exit)?;
        let _: DeleteResponse = self.client.call("Delete", &delete_request(id))?;
        drop(self.client);
        let id = &self.sandbox.id;
        let _: Empty = self.shim.client.call("Kill", &kill_request(id))?;
        let _: WaitResponse = self.shim.client.receive(self.sandbox_exit)?;
        self.shim.delete(id)?;
        self.shim.shutdown(id)?;
        self.cgroup.remove();
        Ok(())
    }
}
