//! The shim of a run, called as containerd calls it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use containerd_shim_protos::api::{
    CloseIORequest, CreateTaskRequest, DeleteRequest, Empty, ForwardRequest, KillRequest,
    ResizePtyRequest, ShutdownRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim_async::{Client, Events, TaskClient, create_events};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use ttrpc::asynchronous::{Server, TtrpcContext};
use ttrpc::context::{self, Context as Limit};

use super::NAMESPACE;
use super::keeper::events_address;
use super::streams::{Raw, Streams};
use crate::arguments::Run;

/// How long a call may take that waits for nothing.
const PROMPT: Duration = Duration::from_secs(20);
/// How long a container may take to be created: its module may have to be compiled.
const CREATION: Duration = Duration::from_secs(600);
/// How long the shim may take to be gone, when it has nothing to do any more.
const GOODBYE: Duration = Duration::from_secs(2);

/// Which shim, and for what.
#[derive(Clone, Copy)]
pub(super) struct Shim<'a> {
    pub(super) program: &'a Path,
    pub(super) containerd: &'a Path,
    pub(super) bundle: &'a Path,
    pub(super) id: &'a str,
}

/// Nobody wants to know: the shim sends events, and keeps them until somebody has taken them.
struct Nobody;

#[async_trait::async_trait]
impl Events for Nobody {
    async fn forward(&self, _: &TtrpcContext, _: ForwardRequest) -> ttrpc::Result<Empty> {
        Ok(Empty::new())
    }
}

impl Shim<'_> {
    /// Runs the container from its creation to its end; its exit code.
    pub(super) async fn run(self, arguments: &Run, streams: Streams) -> anyhow::Result<u8> {
        let mut signals = Signals::watch()?;
        let service = create_events(Arc::new(Nobody) as Arc<dyn Events + Send + Sync>);
        let events = format!("unix://{}", events_address(self.bundle).display());
        let mut server = Server::new()
            .bind(&events)
            .context("could not listen for events")?
            .register_service(service);
        server
            .start()
            .await
            .context("could not listen for events")?;
        let address = self.start(&events)?;
        let client = Client::connect(&address).await;
        let client = client
            .map_err(|error| anyhow!("could not connect to the shim at {address}: {error}"))?;
        let tasks = TaskClient::new(client);
        let ended = self.live(&tasks, arguments, &streams, &mut signals).await;
        self.shut_down(&tasks, &address).await;
        drop(server.shutdown().await);
        ended
    }

    /// `start`; the shim's address.
    fn start(self, events: &str) -> anyhow::Result<String> {
        let output = Command::new(self.program)
            .args(["-namespace", NAMESPACE, "-id", self.id, "-address"])
            .arg(self.containerd)
            .arg("start")
            .current_dir(self.bundle)
            .env("TTRPC_ADDRESS", events)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("could not start {}", self.program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{} did not start: {said}", self.program.display());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    async fn live(
        self,
        tasks: &TaskClient,
        arguments: &Run,
        streams: &Streams,
        signals: &mut Signals,
    ) -> anyhow::Result<u8> {
        let request = self.creation(arguments, streams)?;
        tokio::select! {
            created = tasks.create(limit(CREATION), &request) => created.map_err(|error| said(&error))?,
            // The keeper undoes what was begun.
            number = signals.next() => return Ok(after(number)),
        };
        let (closed, mut input_ended) = oneshot::channel();
        // The container has its ends by now: opening waits for nobody.
        let outputs = streams.begin(closed)?;
        let raw = arguments.tty.then(Raw::begin).flatten();
        let id = self.id.to_owned();
        let request = StartRequest {
            id: id.clone(),
            ..Default::default()
        };
        tasks
            .start(limit(PROMPT), &request)
            .await
            .map_err(|error| said(&error))?;

        let request = WaitRequest {
            id: id.clone(),
            ..Default::default()
        };
        // Without an end: a container may run for as long as it likes.
        let wait = tasks.wait(context::with_timeout(0), &request);
        tokio::pin!(wait);
        let mut input_open = true;
        let ended = loop {
            tokio::select! {
                ended = &mut wait => break ended,
                _ = &mut input_ended, if input_open => {
                    input_open = false;
                    let request = CloseIORequest { id: id.clone(), stdin: true, ..Default::default() };
                    drop(tasks.close_io(limit(PROMPT), &request).await);
                }
                number = signals.next() => {
                    if number == SIGWINCH {
                        self.resize(tasks, streams).await;
                    } else {
                        let request = KillRequest { id: id.clone(), signal: number, ..Default::default() };
                        // It may have ended just now.
                        drop(tasks.kill(limit(PROMPT), &request).await);
                    }
                }
            }
        };
        let ended = ended.map_err(|error| said(&error))?;
        let request = DeleteRequest {
            id,
            ..Default::default()
        };
        // With it the shim lets go of the output: the end of it.
        drop(tasks.delete(limit(PROMPT), &request).await);
        drop(tokio::task::spawn_blocking(move || outputs.finish()).await);
        drop(raw);
        Ok(u8::try_from(ended.exit_status).unwrap_or(u8::MAX))
    }

    fn creation(self, arguments: &Run, streams: &Streams) -> anyhow::Result<CreateTaskRequest> {
        let path = |path: &Path| path.display().to_string();
        let mut request = CreateTaskRequest::new();
        request.id = self.id.to_owned();
        request.bundle = path(self.bundle);
        request.terminal = arguments.tty;
        request.stdin = path(&streams.stdin);
        request.stdout = path(&streams.stdout);
        request.stderr = streams.stderr.as_deref().map(path).unwrap_or_default();
        if !arguments.engine_options.is_empty() {
            request.options = MessageField::some(options(&arguments.engine_options)?);
        }
        Ok(request)
    }

    async fn resize(self, tasks: &TaskClient, streams: &Streams) {
        if let Some((rows, columns)) = streams.size() {
            let request = ResizePtyRequest {
                id: self.id.to_owned(),
                height: rows.into(),
                width: columns.into(),
                ..Default::default()
            };
            drop(tasks.resize_pty(limit(PROMPT), &request).await);
        }
    }

    async fn shut_down(self, tasks: &TaskClient, address: &str) {
        let request = ShutdownRequest {
            id: self.id.to_owned(),
            ..Default::default()
        };
        drop(tasks.shutdown(limit(PROMPT), &request).await);
        // It removes its socket as the last thing. The keeper ends one that does not go.
        let socket = Path::new(address.strip_prefix("unix://").unwrap_or(address));
        let gone = async {
            while socket.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        drop(tokio::time::timeout(GOODBYE, gone).await);
    }
}

fn limit(time: Duration) -> Limit {
    context::with_duration(time)
}

/// The shim's own sentence.
fn said(error: &ttrpc::Error) -> anyhow::Error {
    match error {
        ttrpc::Error::RpcStatus(status) => anyhow!("{}", status.message()),
        other => anyhow!("{other}"),
    }
}

/// `runtimeoptions.v1.Options { 3: config_body }`, as containerd sends the options of a handler.
fn options(pairs: &[(String, String)]) -> anyhow::Result<Any> {
    let body: String = pairs
        .iter()
        .map(|(key, value)| {
            let is_bare = value == "true" || value == "false" || value.parse::<f64>().is_ok();
            let value = if is_bare {
                value.clone()
            } else {
                format!("{value:?}")
            };
            format!("{key} = {value}\n")
        })
        .collect();
    let mut bytes = Vec::new();
    let mut output = CodedOutputStream::vec(&mut bytes);
    output
        .write_string(3, &body)
        .and_then(|()| output.flush())
        .context("could not write the options")?;
    drop(output);
    let mut any = Any::new();
    any.type_url = "runtimeoptions.v1.Options".to_owned();
    any.value = bytes;
    Ok(any)
}

/// The exit code of one who was ended by a signal.
fn after(number: u32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// A terminal has another size.
const SIGWINCH: u32 = 28;

/// Signals for this command, which are meant for the container.
struct Signals(Vec<(u32, Signal)>);

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        // SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGWINCH.
        let numbers = [1, 2, 3, 10, 12, 14, 15, SIGWINCH];
        let watch = |number: u32| {
            let kind = SignalKind::from_raw(i32::try_from(number).unwrap_or_default());
            Ok((number, signal(kind).context("could not watch for signals")?))
        };
        numbers
            .into_iter()
            .map(watch)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// The next signal's number.
    async fn next(&mut self) -> u32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if let std::task::Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
