//! A shim and the calls that containerd 2.4 makes in the life of a container, in its order.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, KillRequest, ShutdownRequest, StartRequest, StartResponse, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use skiff_test::tools;

use super::bundle::Bundle;
use super::stage::Stage;
use super::starter::Invocation;
use super::ttrpc::Client;
use crate::runtime::Runtime;

/// A shim that does not end is a fault of the run.
const PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// A shim's process, connected.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) client: Client,
    /// Where it listens.
    pub(crate) address: String,
    /// The process; known once it was asked.
    process: Option<OwnedFd>,
}

/// How long each step of a life took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// The shim's start command, until it is connected.
    pub(crate) shim: Duration,
    /// Create, and Connect by which containerd learns the process ids.
    pub(crate) create: Duration,
    /// Start.
    pub(crate) start: Duration,
    /// From Start's answer to Wait's.
    pub(crate) wait: Duration,
    /// Delete.
    pub(crate) delete: Duration,
    /// Shutdown, until the shim's process is gone.
    pub(crate) shutdown: Duration,
}

impl Steps {
    /// The names of the steps, as measurements have them.
    pub(crate) const NAMES: [&'static str; 6] = [
        "step: shim start",
        "step: create",
        "step: start",
        "step: wait",
        "step: delete",
        "step: shutdown",
    ];

    /// In the order of the names.
    pub(crate) fn all(self) -> [Duration; 6] {
        let Self {
            shim,
            create,
            start,
            wait,
            delete,
            shutdown,
        } = self;
        [shim, create, start, wait, delete, shutdown]
    }

    /// From the exec of the start command until the shim is gone.
    pub(crate) fn whole(self) -> Duration {
        self.all().iter().sum()
    }
}

/// The whole life of a container that says hello.
pub(crate) fn live(stage: &Stage, runtime: Runtime, bundle: &Bundle<'_>) -> Result<Steps> {
    let steps = live_silently(stage, runtime, bundle)?;
    bundle.expect_hello()?;
    Ok(steps)
}

/// The whole life of a container, whatever it says.
pub(crate) fn live_silently(stage: &Stage, runtime: Runtime, bundle: &Bundle<'_>) -> Result<Steps> {
    let command = start_command(stage, runtime, bundle)?;
    let mut lap = stopwatch();
    let mut shim = Shim::start(&command, runtime).with_context(|| bundle.complaints())?;
    let shim_time = lap();
    shim.create(bundle).with_context(|| bundle.complaints())?;
    let create = lap();
    // containerd's clients wait before they start.
    let exit = shim.client.send("Wait", &wait_request(&bundle.id))?;
    shim.run(&bundle.id)?;
    let start = lap();
    let exit: WaitResponse = shim.client.receive(exit)?;
    let wait = lap();
    shim.delete(&bundle.id)?;
    let delete = lap();
    shim.shutdown(&bundle.id)?;
    let shutdown = lap();
    ensure!(
        exit.exit_status == 0,
        "the container ended with {}; {}",
        exit.exit_status,
        bundle.complaints()
    );
    Ok(Steps {
        shim: shim_time,
        create,
        start,
        wait,
        delete,
        shutdown,
    })
}

/// Answers at each call the time since the last.
pub(crate) fn stopwatch() -> impl FnMut() -> Duration {
    let mut clock = Instant::now();
    move || {
        let now = Instant::now();
        let time = now - clock;
        clock = now;
        time
    }
}

impl Shim {
    /// Runs the start command and connects to the address that it prints.
    pub(crate) fn start(invocation: &Invocation, runtime: Runtime) -> Result<Self> {
        let answer = invocation.run()?;
        let address = match BootstrapResult::parse_from_bytes(&answer) {
            Ok(result) => result.address,
            Err(_) => String::from_utf8_lossy(&answer).trim().to_owned(),
        };
        Ok(Self {
            client: Client::connect(&address, runtime.service())?,
            address,
            process: None,
        })
    }

    /// `Create`, and `Connect`, which tells the shim's process; answers the task's.
    pub(crate) fn create(&mut self, bundle: &Bundle<'_>) -> Result<u32> {
        let created: CreateTaskResponse = self.client.call("Create", &create_request(bundle))?;
        let mut request = ConnectRequest::new();
        request.id.clone_from(&bundle.id);
        let connected: ConnectResponse = self.client.call("Connect", &request)?;
        let id = i32::try_from(connected.shim_pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("the shim has no process id")?;
        self.process = Some(pidfd_open(id, PidfdFlags::empty())?);
        Ok(created.pid)
    }

    /// `Start`; answers the task's process.
    pub(crate) fn run(&mut self, id: &str) -> Result<u32> {
        let started: StartResponse = self.client.call("Start", &start_request(id))?;
        Ok(started.pid)
    }

    /// `Delete`.
    pub(crate) fn delete(&mut self, id: &str) -> Result<()> {
        let _: DeleteResponse = self.client.call("Delete", &delete_request(id))?;
        Ok(())
    }

    /// `Shutdown`; comes back when the shim's process is gone.
    pub(crate) fn shutdown(mut self, id: &str) -> Result<()> {
        let mut request = ShutdownRequest::new();
        id.clone_into(&mut request.id);
        let pending = self.client.send("Shutdown", &request)?;
        // A shim may end before it has answered; that it ends is what counts.
        self.client.receive::<Empty>(pending).ok();
        // containerd closes its connection now.
        drop(self.client);
        let process = self.process.take().context("the shim was never asked")?;
        let mut ends = [PollFd::new(&process, PollFlags::IN)];
        let ended = poll(&mut ends, Some(&PATIENCE))?;
        ensure!(ended == 1, "the shim has not ended after Shutdown");
        // This process is the parent of all orphans here.
        waitid(
            WaitId::PidFd(std::os::fd::AsFd::as_fd(&process)),
            WaitIdOptions::EXITED,
        )
        .context("could not collect the shim's exit")?;
        Ok(())
    }
}

/// `Create` of a task.
pub(crate) fn create_request(bundle: &Bundle<'_>) -> CreateTaskRequest {
    let mut request = CreateTaskRequest::new();
    request.id.clone_from(&bundle.id);
    request.bundle = bundle.path.display().to_string();
    request.rootfs = bundle.rootfs();
    [request.stdout, request.stderr] = bundle.outputs();
    request.options = bundle.options().into();
    request
}

/// `Start` of a task.
pub(crate) fn start_request(id: &str) -> StartRequest {
    let mut request = StartRequest::new();
    id.clone_into(&mut request.id);
    request
}

/// `Kill` of a task, by SIGKILL.
pub(crate) fn kill_request(id: &str) -> KillRequest {
    let mut request = KillRequest::new();
    id.clone_into(&mut request.id);
    request.signal = 9;
    request
}

/// `Delete` of a task.
pub(crate) fn delete_request(id: &str) -> DeleteRequest {
    let mut request = DeleteRequest::new();
    id.clone_into(&mut request.id);
    request
}

/// `Wait` of a task.
pub(crate) fn wait_request(id: &str) -> WaitRequest {
    let mut request = WaitRequest::new();
    id.clone_into(&mut request.id);
    request
}

/// The start command, as containerd 2.4 runs it.
pub(crate) fn start_command(
    stage: &Stage,
    runtime: Runtime,
    bundle: &Bundle<'_>,
) -> Result<Invocation> {
    let settings = stage.settings();
    let containerd = tools::component("containerd-2.4")?.join("containerd");
    let address = stage.records().socket().display().to_string();
    let events = stage.events().display().to_string();
    let mut parameters = BootstrapParams::new();
    parameters.instance_id.clone_from(&bundle.id);
    parameters.namespace.clone_from(&settings.name);
    parameters.log_level = EnumOrUnknown::new(LogLevel::LOG_LEVEL_INFO);
    parameters.containerd_version = "v2.4.2".to_owned();
    parameters.containerd_grpc_address.clone_from(&address);
    parameters.containerd_ttrpc_address.clone_from(&events);
    parameters.containerd_binary = containerd.display().to_string();
    parameters.socket_dir = Some("/run/containerd/s".to_owned());
    let mut environment = stage.environment()?;
    environment.extend(
        [
            ("GOMAXPROCS", "2"),
            ("MAX_SHIM_VERSION", "2"),
            ("TTRPC_ADDRESS", &events),
            ("GRPC_ADDRESS", &address),
            ("NAMESPACE", &settings.name),
        ]
        .map(|(name, value)| (name, OsString::from(value))),
    );
    let arguments = [
        "-namespace",
        &settings.name,
        "-address",
        &address,
        "-publish-binary",
        &parameters.containerd_binary,
        "-id",
        &bundle.id,
        "start",
    ];
    Ok(Invocation {
        program: runtime.shim(settings)?,
        arguments: arguments.map(OsString::from).to_vec(),
        environment,
        directory: bundle.path.clone(),
        input: parameters.write_to_bytes()?,
    })
}
