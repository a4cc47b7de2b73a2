//! A shim without containerd between: the calls of the task API in an order that containerd never sends.

mod exec;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::TaskClient;
use containerd_shim_protos::api::{
    ConnectRequest, CreateTaskRequest, DeleteRequest, KillRequest, PauseRequest, PidsRequest,
    ResumeRequest, ShutdownRequest, StartRequest, StateRequest, StateResponse, StatsRequest,
    UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::context::{self, Context};
use containerd_shim_protos::ttrpc::{self, Client};
use serde_json::{Value, json};

use crate::command;
use crate::node::Node;

pub use exec::Execs;

/// How long a call may take; a shim that does not answer is a fault, not a wait.
const LIMIT: Duration = Duration::from_secs(20);

/// A shim that the test started, and a client of its own.
#[derive(Clone)]
pub struct Shim<'a> {
    node: &'a Node,
    program: PathBuf,
    bundle: PathBuf,
    id: String,
    client: TaskClient,
}

impl std::fmt::Debug for Shim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shim")
            .field("id", &self.id)
            .field("bundle", &self.bundle)
            .finish_non_exhaustive()
    }
}

/// Where a task's input and output go; empty is nowhere.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl<'a> Shim<'a> {
    /// Starts a shim's program as containerd does, in a bundle whose root holds `files`.
    ///
    /// # Errors
    /// If it does not start or answer.
    pub fn start(
        node: &'a Node,
        program: &Path,
        files: &[(&str, &[u8])],
        arguments: &[&str],
    ) -> Result<Self> {
        let id = node.new_id("raw");
        let bundle = node.directory().join("tmp").join(&id);
        // As containerd makes it; the shim's socket and log lie beside.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(bundle.join("rootfs"))?;
        for (name, bytes) in files {
            let path = bundle.join("rootfs").join(name);
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        fs::write(
            bundle.join("config.json"),
            spec(node, &id, arguments).to_string(),
        )?;
        // The shim writes its log here, and may wait until somebody reads it.
        let log = bundle.join("log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &log,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )?;
        let kept = node.directory().join(format!("logs/{id}.shim"));
        std::thread::spawn(move || {
            std::io::copy(&mut fs::File::open(log)?, &mut fs::File::create(kept)?)
        });
        let started = command::run(invocation(node, program, &bundle, &id).arg("start"))?.ok()?;
        let answer = started.trim();
        let address = match serde_json::from_str::<Value>(answer) {
            Ok(answer) => answer["address"].as_str().unwrap_or_default().to_owned(),
            Err(_) => answer.to_owned(),
        };
        ensure!(
            address.starts_with("unix://"),
            "the shim answered `start` with: {started}"
        );
        let mut addresses = fs::File::options()
            .create(true)
            .append(true)
            .open(node.directory().join("logs/addresses"))?;
        writeln!(addresses, "{address}")?;
        let client = TaskClient::new(
            Client::connect(&address)
                .map_err(|error| anyhow::anyhow!("could not connect to {address}: {error}"))?,
        );
        Ok(Self {
            node,
            program: program.to_owned(),
            bundle,
            id,
            client,
        })
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Changes the container's spec, which is read by `Create`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn change_spec(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.bundle.join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut spec);
        Ok(fs::write(&path, spec.to_string())?)
    }

    /// A FIFO in the bundle.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn fifo(&self, name: &str) -> Result<String> {
        fifo(&self.bundle.join(name))
    }

    /// `Create`; answers the process id.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn create(&self, stdio: &Stdio) -> ttrpc::Result<u32> {
        let mut request = CreateTaskRequest::new();
        request.id.clone_from(&self.id);
        request.bundle = self.bundle.display().to_string();
        request.stdin.clone_from(&stdio.stdin);
        request.stdout.clone_from(&stdio.stdout);
        request.stderr.clone_from(&stdio.stderr);
        Ok(self.client.create(limit(), &request)?.pid)
    }

    /// `Start`.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn run(&self) -> ttrpc::Result<u32> {
        Ok(self
            .client
            .start(
                limit(),
                &StartRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )?
            .pid)
    }

    /// `State`.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn state(&self) -> ttrpc::Result<StateResponse> {
        self.client.state(
            limit(),
            &StateRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )
    }

    /// `Kill`.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn kill(&self, signal: u32) -> ttrpc::Result<()> {
        self.client
            .kill(
                limit(),
                &KillRequest {
                    id: self.id.clone(),
                    signal,
                    ..Default::default()
                },
            )
            .map(drop)
    }

    /// `Wait`; answers the exit code.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn wait(&self) -> ttrpc::Result<u32> {
        Ok(self
            .client
            .wait(
                limit(),
                &WaitRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )?
            .exit_status)
    }

    /// `Delete`; answers the exit code.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn delete(&self) -> ttrpc::Result<u32> {
        Ok(self
            .client
            .delete(
                limit(),
                &DeleteRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )?
            .exit_status)
    }

    /// `Connect`; answers the process id of the shim.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn connect(&self) -> ttrpc::Result<u32> {
        Ok(self
            .client
            .connect(
                limit(),
                &ConnectRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )?
            .shim_pid)
    }

    /// `Pids`; answers how many processes the container has.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn pids(&self) -> ttrpc::Result<usize> {
        Ok(self
            .client
            .pids(
                limit(),
                &PidsRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )?
            .processes
            .len())
    }

    /// `Stats`; answers the bytes of the metrics.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn stats(&self) -> ttrpc::Result<Vec<u8>> {
        let answer = self.client.stats(
            limit(),
            &StatsRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )?;
        Ok(answer.stats.unwrap_or_default().value)
    }

    /// `Update`, with `linux.resources` of a spec.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn update(&self, resources: &Value) -> ttrpc::Result<()> {
        let mut request = UpdateTaskRequest::new();
        request.id.clone_from(&self.id);
        request.resources = MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: resources.to_string().into_bytes(),
            ..Any::default()
        });
        self.client.update(limit(), &request).map(drop)
    }

    /// `Pause`.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn pause(&self) -> ttrpc::Result<()> {
        let mut request = PauseRequest::new();
        request.id.clone_from(&self.id);
        self.client.pause(limit(), &request).map(drop)
    }

    /// `Resume`.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn resume(&self) -> ttrpc::Result<()> {
        let mut request = ResumeRequest::new();
        request.id.clone_from(&self.id);
        self.client.resume(limit(), &request).map(drop)
    }

    /// `Shutdown`. A shim without tasks ends.
    ///
    /// # Errors
    /// What the shim answers; a connection that it closes by ending is a success.
    pub fn shutdown(&self) -> ttrpc::Result<()> {
        let answer = self.client.shutdown(
            limit(),
            &ShutdownRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        );
        match answer {
            Err(error @ ttrpc::Error::RpcStatus(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// The `delete` subcommand, as containerd runs it when a shim is gone; answers the exit code that it reports.
    ///
    /// # Errors
    /// If it fails or answers no message.
    pub fn delete_by_command(&self) -> Result<u32> {
        let mut command = invocation(self.node, &self.program, &self.bundle, &self.id);
        let output = command
            .arg("-bundle")
            .arg(&self.bundle)
            .arg("delete")
            .output()
            .context("could not run the shim's delete")?;
        ensure!(
            output.status.success(),
            "delete ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let answer = <containerd_shim_protos::api::DeleteResponse as containerd_shim_protos::protobuf::Message>::parse_from_bytes(&output.stdout)?;
        Ok(answer.exit_status)
    }

    /// Kills what there is, shuts the shim down and removes the bundle, whatever state it is in.
    ///
    /// # Errors
    /// If the bundle cannot be removed.
    pub fn clean(self) -> Result<()> {
        // Each may be done already; what remains is the residue probe's to find.
        self.kill(9).ok();
        self.wait().ok();
        self.delete().ok();
        self.shutdown().ok();
        fs::remove_dir_all(&self.bundle)
            .with_context(|| format!("could not remove {}", self.bundle.display()))
    }
}

/// The code of an answer that is an error, as gRPC names it; `OK` if it is none.
pub fn code<T>(answer: &ttrpc::Result<T>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(ttrpc::Error::RpcStatus(status)) => format!("{:?}", status.code()),
        Err(error) => format!("no answer: {error}"),
    }
}

/// The sentence of an answer that is an error.
pub fn sentence<T>(answer: &ttrpc::Result<T>) -> String {
    match answer {
        Ok(_) => String::new(),
        Err(ttrpc::Error::RpcStatus(status)) => status.message.clone(),
        Err(error) => error.to_string(),
    }
}

fn limit() -> Context {
    context::with_duration(command::patience(LIMIT))
}

fn base(node: &Node, id: &str) -> [String; 8] {
    let socket = node.directory().join("c.sock").display().to_string();
    [
        "-namespace",
        node.namespace(),
        "-id",
        id,
        "-address",
        &socket,
        "-publish-binary",
        "containerd",
    ]
    .map(str::to_owned)
}

fn invocation(node: &Node, program: &Path, bundle: &Path, id: &str) -> Command {
    // The environment of `ctr` is that of containerd, and so of its shims.
    let model = node.ctr_command::<&str>(&[]);
    let mut command = Command::new(program);
    command.env_clear().envs(
        model
            .get_envs()
            .filter_map(|(name, value)| value.map(|value| (name, value))),
    );
    command
        .env("TTRPC_ADDRESS", node.directory().join("t.sock"))
        .env("GRPC_ADDRESS", node.directory().join("c.sock"))
        .env("MAX_SHIM_VERSION", "3");
    command
        .env("NAMESPACE", node.namespace())
        .current_dir(bundle)
        .args(base(node, id));
    command
}

fn spec(node: &Node, id: &str, arguments: &[&str]) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL"];
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }],
        "linux": {
            "cgroupsPath": format!("/{}/{id}", node.namespace()),
            "namespaces": namespaces,
        },
    })
}

/// A FIFO; answers its path as requests name it.
///
/// # Errors
/// If it cannot be made.
pub fn fifo(path: &Path) -> Result<String> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    Ok(path.display().to_string())
}
