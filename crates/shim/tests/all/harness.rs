//! A containerd of a few lines: it makes bundles, calls the shim, takes events. What it made goes when it
//! is dropped, and nothing else may be left.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest, DeleteResponse, Empty,
    ExecProcessRequest, ForwardRequest, KillRequest, ResizePtyRequest, ShutdownRequest,
    StartRequest, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim_sync::{Client, Events, TaskClient, create_events};
use containerd_shim_protos::ttrpc::{self, Code, Server, TtrpcContext, context};
use tempfile::TempDir;

/// Longer than anything here takes, shorter than a stuck test is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const PREFIX: &str = "skiff-shim-test-";

/// A folder with the shim under the name of the fake engine, and with all that it starts.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let shim = Path::new(env!("CARGO_BIN_EXE_containerd-shim-skiff-v1"));
        let profile = shim.parent().unwrap();
        for arguments in [
            "build --quiet -p skiff-init -p skiff-pause",
            "build --quiet -p skiff-engine --features compile --bin skiff-compile-fake",
            "build --quiet -p skiff-shim --example fake-host",
        ] {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args(arguments.split(' '))
                .arg("--target-dir")
                .arg(profile.ancestors().nth(2).unwrap());
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            let status = cargo
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(status.success(), "cargo {arguments}");
        }
        let folder = profile.join("shim-test-programs");
        fs::create_dir_all(&folder).unwrap();
        for (from, to) in [
            ("containerd-shim-skiff-v1", "containerd-shim-fake-v1"),
            ("skiff-init", "skiff-init"),
            ("skiff-pause", "skiff-pause"),
            ("skiff-compile-fake", "skiff-compile-fake"),
            ("examples/fake-host", "skiff-host-fake"),
            // By which built-in tools are run, whatever the pod's engine is.
            ("skiff-compile-fake", "skiff-compile-wasmtime"),
            ("examples/fake-host", "skiff-host-wasmtime"),
        ] {
            let temporary = folder.join(format!(".{to}-{}", std::process::id()));
            fs::copy(profile.join(from), &temporary).unwrap();
            fs::rename(&temporary, folder.join(to)).unwrap();
        }
        fs::write(folder.join("skiff-toolbox.wasm"), ";; do code\n(module)").unwrap();
        folder
    })
}

/// Takes events as containerd does.
#[derive(Clone, Default)]
pub(crate) struct Taken(Arc<Mutex<Vec<Event>>>);

/// Topic and message.
type Event = (String, Vec<u8>);

impl Events for Taken {
    fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.namespace, "test");
        self.0
            .lock()
            .unwrap()
            .push((envelope.topic, envelope.event.unwrap().value));
        Ok(Empty::new())
    }
}

pub(crate) struct Containerd {
    directory: TempDir,
    cgroup: String,
    events: Taken,
    server: Option<Server>,
    /// Daemons that were seen, which must be gone at the end.
    daemons: Mutex<Vec<u32>>,
}

/// What a container is made of.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) id: String,
    /// `pause` for a pod's sandbox, else what the fake host is to do.
    pub(crate) words: Vec<String>,
    pub(crate) pod: Option<String>,
    /// More of the spec: text that goes into its top level.
    pub(crate) more: String,
    /// The same for its `linux`.
    pub(crate) linux: &'static str,
    /// What the fake compile worker is to do.
    pub(crate) compile: &'static str,
}

impl Spec {
    pub(crate) fn guest(id: &str, words: &str) -> Self {
        let words = words.split(' ').map(str::to_owned).collect();
        Self {
            id: id.to_owned(),
            words,
            pod: None,
            more: String::new(),
            linux: "",
            compile: "code",
        }
    }

    pub(crate) fn pause(id: &str) -> Self {
        Self {
            pod: Some(id.to_owned()),
            ..Self::guest(id, "pause")
        }
    }

    pub(crate) fn in_pod(self, pod: &str) -> Self {
        Self {
            pod: Some(pod.to_owned()),
            ..self
        }
    }
}

impl Containerd {
    pub(crate) fn new() -> Self {
        let containerd = Self::without_events();
        containerd.with_events()
    }

    /// One whose socket for events is not there yet.
    pub(crate) fn without_events() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::getuid().is_root(), "these tests need root");
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("{PREFIX}{}-{number}", std::process::id());
        Self {
            directory,
            cgroup,
            events: Taken::default(),
            server: None,
            daemons: Mutex::default(),
        }
    }

    pub(crate) fn with_events(mut self) -> Self {
        let service = create_events(Arc::new(self.events.clone()) as Arc<dyn Events + Send + Sync>);
        let address = format!("unix://{}", self.path("t.sock").display());
        let mut server = Server::new()
            .bind(&address)
            .unwrap()
            .register_service(service);
        server.start().unwrap();
        self.server = Some(server);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.path("bundles").join(id)
    }

    /// Makes the bundle of a container.
    pub(crate) fn make(&self, spec: &Spec) {
        let bundle = self.bundle(&spec.id);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(
            bundle.join("rootfs/app.wat"),
            format!(";; do {}\n(module)", spec.compile),
        )
        .unwrap();
        let mut annotations = Vec::new();
        if let Some(pod) = &spec.pod {
            let kind = if *pod == spec.id {
                "sandbox"
            } else {
                "container"
            };
            annotations.push(format!(r#""io.kubernetes.cri.container-type":"{kind}""#));
            annotations.push(format!(r#""io.kubernetes.cri.sandbox-id":"{pod}""#));
        }
        let args: Vec<_> = std::iter::once("/app.wat".to_owned())
            .chain(spec.words.clone())
            .collect();
        let config = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},
            "process":{{"user":{{"uid":0,"gid":0}},"args":{},"env":["A=b"],"cwd":"/"}},
            "annotations":{{{}}},{}
            "linux":{{{}"cgroupsPath":"/{}/{}","namespaces":[
              {{"type":"pid"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"mount"}},{{"type":"network"}}]}}}}"#,
            serde_json::to_string(&args).unwrap(),
            annotations.join(","),
            spec.more,
            spec.linux,
            self.cgroup,
            spec.id,
        );
        fs::write(bundle.join("config.json"), config).unwrap();
        for fifo in ["log", "in", "out", "err"] {
            let path = bundle.join(fifo);
            if !path.exists() {
                let kind = rustix::fs::FileType::Fifo;
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
            }
        }
    }

    fn command(&self, id: &str, action: &str) -> Command {
        let mut command = Command::new(programs().join("containerd-shim-fake-v1"));
        let address = self.path("c.sock");
        command.args([
            "-namespace",
            "test",
            "-publish-binary",
            "/bin/true",
            "-id",
            id,
            "-address",
        ]);
        command.arg(address).current_dir(self.bundle(id));
        if action == "delete" {
            command.arg("-bundle").arg(self.bundle(id));
        }
        command
            .args(["-debug", action])
            .env("TTRPC_ADDRESS", self.path("t.sock"));
        command
            .env("SKIFF_CACHE_DIR", self.path("cache"))
            .env("SKIFF_RUN_DIR", self.path("run"));
        command
    }

    /// Calls `start` with something on standard input; gives what it printed.
    pub(crate) fn call_start(&self, id: &str, input: &[u8]) -> Output {
        let mut command = self.command(id, "start");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        // Ends only when nobody has the pipes any more: a daemon that kept them would hang this.
        child.wait_with_output().unwrap()
    }

    /// Starts a shim and connects to it.
    pub(crate) fn shim(&self, id: &str) -> Shim {
        let output = self.call_start(id, b"");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.connect(&String::from_utf8(output.stdout).unwrap())
    }

    pub(crate) fn connect(&self, address: &str) -> Shim {
        let client = Client::connect(address).unwrap();
        let shim = Shim {
            tasks: TaskClient::new(client.clone()),
            client,
            address: address.to_owned(),
        };
        let daemon = shim.pid();
        let mut daemons = self.daemons.lock().unwrap();
        if !daemons.contains(&daemon) {
            daemons.push(daemon);
        }
        shim
    }

    /// Calls `delete`.
    pub(crate) fn call_delete(&self, id: &str) -> DeleteResponse {
        let output = self
            .command(id, "delete")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        DeleteResponse::parse_from_bytes(&output.stdout).unwrap()
    }

    /// A request to create the container, with its streams.
    pub(crate) fn request(&self, id: &str) -> CreateTaskRequest {
        let bundle = self.bundle(id);
        let fifo = |name: &str| bundle.join(name).display().to_string();
        CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            stdin: fifo("in"),
            stdout: fifo("out"),
            stderr: fifo("err"),
            ..CreateTaskRequest::default()
        }
    }

    /// A request to execute `words` in container `id`, with no streams. `more` goes into the process.
    pub(crate) fn exec_request(
        id: &str,
        exec: &str,
        words: &str,
        more: &str,
    ) -> ExecProcessRequest {
        let args: Vec<_> = words.split(' ').collect();
        let process = format!(
            r#"{{"user":{{"uid":0,"gid":0}},"args":{},"env":["PATH=/bin:/usr/bin"],"cwd":"/"{more}}}"#,
            serde_json::to_string(&args).unwrap()
        );
        ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.into_bytes(),
                ..Any::default()
            }),
            ..ExecProcessRequest::default()
        }
    }

    /// A new FIFO beside the bundle's own.
    pub(crate) fn fifo(&self, id: &str, name: &str) -> PathBuf {
        let path = self.bundle(id).join(name);
        let kind = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        path
    }

    /// What the shim has written to its log, which nobody has read so far.
    pub(crate) fn log(&self, id: &str) -> String {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        let path = self.bundle(id).join("log");
        let fifo = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
        let mut bytes = vec![0; 1 << 16];
        let length = rustix::io::read(&fifo, &mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Topics of the events so far.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.events
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(topic, _)| topic.clone())
            .collect()
    }

    pub(crate) fn wait_for_topics(&self, expected: &[&str]) {
        eventually(
            || self.topics().len() >= expected.len(),
            || format!("events {:?}", self.topics()),
        );
        assert_eq!(self.topics(), expected);
    }

    /// What exit events say: the process's id, which is its container's or its exec's, and its code.
    pub(crate) fn ends(&self) -> Vec<(String, u32)> {
        let taken = self.events.0.lock().unwrap();
        let exits = taken.iter().filter(|(topic, _)| topic == "/tasks/exit");
        exits
            .map(|(_, bytes)| TaskExit::parse_from_bytes(bytes).unwrap())
            .map(|exit| (exit.id, exit.exit_status))
            .collect()
    }

    /// Exit codes by container, from the events.
    pub(crate) fn exits(&self) -> Vec<(String, u32)> {
        let taken = self.events.0.lock().unwrap();
        let exits = taken.iter().filter(|(topic, _)| topic == "/tasks/exit");
        exits
            .map(|(_, bytes)| TaskExit::parse_from_bytes(bytes).unwrap())
            .map(|exit| (exit.container_id, exit.exit_status))
            .collect()
    }

    /// Cgroups of this containerd's containers.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mount = PathBuf::from("/sys/fs/cgroup");
        let below = fs::read_dir(&mount).unwrap().flatten();
        // Of v2 alone, the mount is the only hierarchy.
        std::iter::once(mount)
            .chain(below.map(|entry| entry.path()))
            .map(|hierarchy| hierarchy.join(&self.cgroup))
            .filter(|path| path.exists())
            .collect()
    }

    /// Everything that the containers had on the node is gone.
    pub(crate) fn assert_clean(&self) {
        for daemon in self.daemons.lock().unwrap().iter() {
            eventually(|| !is_alive(*daemon), || format!("daemon {daemon} is left"));
        }
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = self.directory.path().to_str().unwrap();
        assert!(!mounts.contains(place), "mounts are left");
        let sockets = fs::read_dir(self.path("s")).into_iter().flatten();
        let sockets: Vec<_> = sockets.flatten().map(|entry| entry.path()).collect();
        assert_eq!(sockets, Vec::<PathBuf>::new(), "sockets are left");
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if thread::panicking() {
            let daemons = self
                .daemons
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for daemon in daemons.iter().filter(|daemon| is_alive(**daemon)) {
                kill(*daemon, 9);
            }
            for cgroup in self.cgroups() {
                drop(
                    Command::new("find")
                        .arg(cgroup)
                        .args("-depth -type d -exec rmdir {} +".split(' '))
                        .status(),
                );
            }
            return;
        }
        self.assert_clean();
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}

/// A connection to a shim.
pub(crate) struct Shim {
    pub(crate) tasks: TaskClient,
    pub(crate) client: Client,
    pub(crate) address: String,
}

fn time() -> context::Context {
    context::with_duration(PATIENCE)
}

impl Shim {
    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.tasks
            .connect(time(), &ConnectRequest::new())
            .unwrap()
            .shim_pid
    }

    pub(crate) fn create(&self, request: &CreateTaskRequest) -> ttrpc::Result<u32> {
        self.tasks
            .create(time(), request)
            .map(|response| response.pid)
    }

    pub(crate) fn start(&self, id: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: id.to_owned(),
            ..StartRequest::default()
        };
        self.tasks
            .start(time(), &request)
            .map(|response| response.pid)
    }

    pub(crate) fn state(&self, id: &str) -> ttrpc::Result<StateResponse> {
        self.tasks.state(
            time(),
            &StateRequest {
                id: id.to_owned(),
                ..StateRequest::default()
            },
        )
    }

    pub(crate) fn wait(&self, id: &str) -> ttrpc::Result<WaitResponse> {
        self.tasks.wait(
            time(),
            &WaitRequest {
                id: id.to_owned(),
                ..WaitRequest::default()
            },
        )
    }

    pub(crate) fn kill(&self, id: &str, signal: u32, all: bool) -> ttrpc::Result<()> {
        let request = KillRequest {
            id: id.to_owned(),
            signal,
            all,
            ..KillRequest::default()
        };
        self.tasks.kill(time(), &request).map(|_| ())
    }

    pub(crate) fn delete(&self, id: &str) -> ttrpc::Result<DeleteResponse> {
        self.tasks.delete(
            time(),
            &DeleteRequest {
                id: id.to_owned(),
                ..DeleteRequest::default()
            },
        )
    }

    /// `Exec` of `args` in container `id`, as `exec`.
    pub(crate) fn exec(&self, request: &ExecProcessRequest) -> ttrpc::Result<()> {
        self.tasks.exec(time(), request).map(|_| ())
    }

    pub(crate) fn start_exec(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            ..StartRequest::default()
        };
        self.tasks
            .start(time(), &request)
            .map(|response| response.pid)
    }

    pub(crate) fn state_of(&self, id: &str, exec: &str) -> ttrpc::Result<StateResponse> {
        let request = StateRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            ..StateRequest::default()
        };
        self.tasks.state(time(), &request)
    }

    pub(crate) fn wait_exec(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = WaitRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            ..WaitRequest::default()
        };
        self.tasks
            .wait(time(), &request)
            .map(|response| response.exit_status)
    }

    pub(crate) fn kill_exec(&self, id: &str, exec: &str, signal: u32) -> ttrpc::Result<()> {
        let request = KillRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            signal,
            ..KillRequest::default()
        };
        self.tasks.kill(time(), &request).map(|_| ())
    }

    pub(crate) fn delete_exec(&self, id: &str, exec: &str) -> ttrpc::Result<DeleteResponse> {
        let request = DeleteRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            ..DeleteRequest::default()
        };
        self.tasks.delete(time(), &request)
    }

    pub(crate) fn resize_exec(&self, id: &str, exec: &str) -> ttrpc::Result<()> {
        let request = ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            width: 91,
            height: 33,
            ..ResizePtyRequest::default()
        };
        self.tasks.resize_pty(time(), &request).map(|_| ())
    }

    pub(crate) fn close_input(&self, id: &str, exec: &str) -> ttrpc::Result<()> {
        let request = CloseIORequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdin: true,
            ..CloseIORequest::default()
        };
        self.tasks.close_io(time(), &request).map(|_| ())
    }

    pub(crate) fn shutdown(&self) {
        self.tasks
            .shutdown(time(), &ShutdownRequest::new())
            .unwrap();
    }

    /// Whether the daemon answers.
    pub(crate) fn is_alive(&self) -> bool {
        self.tasks.connect(time(), &ConnectRequest::new()).is_ok()
    }

    /// Kills the daemon as a crash would.
    pub(crate) fn crash(self) {
        let pid = self.pid();
        kill(pid, 9);
        eventually(
            || !is_alive(pid),
            || "the daemon survives SIGKILL".to_owned(),
        );
    }
}

/// The code and the sentence of an answer that is an error.
pub(crate) fn refusal<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> (Code, String) {
    match result.unwrap_err() {
        ttrpc::Error::RpcStatus(status) => (status.code(), status.message),
        other => panic!("not an answer: {other}"),
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> Code {
    refusal(result).0
}

pub(crate) fn eventually(mut condition: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{}", otherwise());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a thread of the process is there and no zombie: with the last of them its files are closed.
pub(crate) fn is_alive(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
        .any(|stat| {
            let state = stat
                .rsplit_once(')')
                .map(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
            state == Some(false)
        })
}

pub(crate) fn kill(pid: u32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Reads a FIFO to its end, in a thread, as containerd does.
pub(crate) fn reader(path: &Path) -> thread::JoinHandle<String> {
    let path = path.to_owned();
    thread::spawn(move || {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    })
}

/// Calls a method under the name of another service.
pub(crate) fn raw_call(
    shim: &Shim,
    service: &str,
    method: &str,
    payload: Vec<u8>,
) -> ttrpc::Result<Vec<u8>> {
    let request = ttrpc::Request {
        service: service.to_owned(),
        method: method.to_owned(),
        timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap(),
        payload,
        ..ttrpc::Request::default()
    };
    shim.client
        .request(request)
        .map(|response| response.payload)
}
