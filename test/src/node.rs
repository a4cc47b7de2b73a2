//! A containerd of a test's own: root, state, sockets, namespace and cgroups are nobody else's.

mod config;
mod cri;
mod run;

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, Ran, wait_for};
use crate::image::Image;
use crate::registry::Registry;
use crate::residue::{Probe, Snapshot};
use crate::{runner, tools};

pub use config::PAUSE_IMAGE;
pub(crate) use cri::pause_image;
pub use cri::{Cri, CriContainer, Pod};
pub use run::{Run, Task};

/// The runtime type of our shim under its own name.
pub const SKIFF: &str = "io.containerd.skiff.v1";
/// The runtime type that RuntimeClasses made for runwasi name.
pub const WASMTIME: &str = "io.containerd.wasmtime.v1";
/// The same for WasmEdge.
pub const WASMEDGE: &str = "io.containerd.wasmedge.v1";
/// The peer that is compared with: a shim made with runwasi's adapter.
pub const RUNWASI: &str = "io.containerd.runwasi.v1";
/// The reference: containerd's own shim with runc.
pub const RUNC: &str = "io.containerd.runc.v2";

/// The engine that the tests of engines run against: `SKIFF_TEST_ENGINE`, else wasmtime.
pub fn engine() -> &'static str {
    static ENGINE: OnceLock<String> = OnceLock::new();
    ENGINE.get_or_init(|| {
        std::env::var("SKIFF_TEST_ENGINE").unwrap_or_else(|_| "wasmtime".to_owned())
    })
}

/// The runtime type of [`engine`]: the shim's own name where the engine is the one that it takes anyway.
pub fn runtime() -> &'static str {
    if engine() == "wasmedge" {
        WASMEDGE
    } else {
        SKIFF
    }
}

/// A pinned containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The last of the 1.x line: version 2 of the task API, shims started with flags.
    V1_7,
    /// Shims started with flags, transfer service.
    V2_1,
    /// Shims started with a protobuf on standard input.
    V2_4,
}

impl Version {
    /// All of them, the newest first.
    pub const ALL: [Self; 3] = [Self::V2_4, Self::V2_1, Self::V1_7];

    /// As suites are told it by `--containerd=`.
    pub fn number(self) -> &'static str {
        self.folder().trim_start_matches("containerd-")
    }

    /// Its folder in `test/node/tools`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::V1_7 => "containerd-1.7",
            Self::V2_1 => "containerd-2.1",
            Self::V2_4 => "containerd-2.4",
        }
    }
}

/// How a node differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Variables of containerd's environment, which shims inherit.
    pub environment: Vec<(String, String)>,
    /// A cache that is kept by the caller; else the node has one of its own.
    pub cache: Option<PathBuf>,
    /// Directory of the node; else one is made under `/tmp`.
    pub directory: Option<PathBuf>,
    /// The containerd namespace, also the parent of its cgroups; else one that no other node of this machine has.
    pub namespace: Option<String>,
    /// containerd and its shims log as they do on a node, not all that they can.
    pub quiet: bool,
    /// containerd has a `/proc` that others than root may enter, which not every machine has: to make network namespaces
    /// for pods with user namespaces it starts itself by that path as another user.
    pub open_proc: bool,
}

/// A running containerd. Dropping it probes for residue, stops it and removes all it owns.
#[derive(Debug)]
pub struct Node {
    version: Version,
    directory: PathBuf,
    namespace: String,
    programs: PathBuf,
    options: Options,
    daemon: Child,
    registry: Option<Registry>,
    before: Snapshot,
    probe: Probe,
    names: Cell<u32>,
}

/// The cache of all nodes of this run that ask for none of their own.
fn shared_cache() -> PathBuf {
    Path::new("/tmp").join(format!("skt{}-cache", std::process::id()))
}

/// Removes what the nodes of this run shared.
pub(crate) fn remove_shared() {
    let cache = shared_cache();
    if cache.exists()
        && let Err(error) = fs::remove_dir_all(&cache)
    {
        runner::fault(format!("could not remove {}: {error}", cache.display()));
    }
}

/// So many lines of residue are enough to see what it is.
const MOST_LINES: usize = 12;

static NODES: AtomicU32 = AtomicU32::new(0);

impl Node {
    /// Starts a containerd of this version. Code that an earlier test's node compiled is in its cache.
    ///
    /// # Errors
    /// If it does not answer within seconds; its log is part of the message.
    pub fn start(version: Version) -> Result<Self> {
        Self::with(
            version,
            Options {
                cache: Some(shared_cache()),
                ..Options::default()
            },
        )
    }

    /// Starts one whose cache is its own, and empty.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn cold(version: Version) -> Result<Self> {
        Self::with(version, Options::default())
    }

    /// Starts one that differs from the usual.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn with(version: Version, options: Options) -> Result<Self> {
        let namespace = options.namespace.clone().unwrap_or_else(|| {
            let number = NODES.fetch_add(1, Ordering::Relaxed);
            format!("skt{}x{number}", std::process::id())
        });
        // Socket paths have 107 bytes: the directory's name is short.
        let directory = options
            .directory
            .clone()
            .unwrap_or_else(|| Path::new("/tmp").join(&namespace));
        // The last one is made by the first pod with a network of its own, and stays.
        let networks = "state/io.containerd.grpc.v1.cri/netns";
        for place in [
            "root", "state", "run", "tmp", "logs", "cache", "cni", networks,
        ] {
            fs::create_dir_all(directory.join(place))
                .with_context(|| format!("could not make {}/{place}", directory.display()))?;
        }
        fs::create_dir_all("/run/containerd/fifo")
            .context("could not make /run/containerd/fifo, where ctr makes its FIFOs")?;
        let programs = tools::component(version.folder())?;
        fs::write(
            directory.join("config.toml"),
            config::containerd(version, &directory, options.quiet)?,
        )?;
        let daemon = spawn(&directory, &programs, &options)?;
        let cache = options
            .cache
            .clone()
            .unwrap_or_else(|| directory.join("cache"));
        let probe = Probe {
            directory: directory.clone(),
            cache,
            namespace: namespace.clone(),
            long_lived: vec![daemon.id()],
        };
        let mut node = Self {
            version,
            directory,
            namespace,
            programs,
            options,
            daemon,
            registry: None,
            before: Snapshot::new(),
            probe,
            names: Cell::new(0),
        };
        node.wait_until_up()?;
        node.before = node.probe.look();
        Ok(node)
    }

    /// Which containerd it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Everything that is this node's.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The containerd namespace of [`Node::ctr`], also the parent of its cgroups.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The directory of compiled code.
    pub fn cache(&self) -> PathBuf {
        self.options
            .cache
            .clone()
            .unwrap_or_else(|| self.directory.join("cache"))
    }

    /// containerd's process.
    pub fn daemon(&self) -> u32 {
        self.daemon.id()
    }

    /// What the node's residue is measured with.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// What was there when the node had just started.
    pub fn before(&self) -> &Snapshot {
        &self.before
    }

    /// A container id that this node has not used.
    pub fn new_id(&self, word: &str) -> String {
        let number = self.names.get();
        self.names.set(number + 1);
        format!("{}-{word}{number}", self.namespace)
    }

    /// `ctr …` against this node, to be run by the caller.
    pub fn ctr_command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(self.programs.join("ctr"));
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(arguments);
        environment(&mut command, &self.directory, &self.programs, &self.options);
        command
    }

    /// Runs `ctr …` against this node.
    ///
    /// # Errors
    /// If it cannot be run or does not end. Any exit code is a success.
    pub fn ctr<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        command::run(&mut self.ctr_command(arguments))
    }

    /// Imports an image; answers its reference.
    ///
    /// # Errors
    /// If `ctr` refuses it.
    pub fn import(&self, image: &Image) -> Result<String> {
        self.try_import(image)?.ok()?;
        Ok(image.name().to_owned())
    }

    /// Imports an image that may be refused.
    ///
    /// # Errors
    /// If `ctr` cannot be run.
    pub fn try_import(&self, image: &Image) -> Result<Ran> {
        let archive = self.directory.join("tmp/image.tar");
        image.write(&archive)?;
        let mut arguments = vec!["image".to_owned(), "import".to_owned()];
        if let Some(platform) = image.platform() {
            // By the transfer service a containerd with the usual configuration unpacks nothing but its own platform.
            arguments.extend(["--local".to_owned(), "--platform".to_owned(), platform]);
        }
        arguments.push(archive.display().to_string());
        let ran = self.ctr(&arguments);
        fs::remove_file(&archive)?;
        ran
    }

    /// Prepares `ctr run` of an imported image under our shim.
    pub fn run<'a>(&'a self, image: &Image) -> Run<'a> {
        Run::new(self, image)
    }

    /// The node's CRI, by `crictl`.
    ///
    /// # Errors
    /// If there is no `crictl`, or the pause image cannot be imported.
    pub fn cri(&self) -> Result<Cri<'_>> {
        Cri::new(self)
    }

    /// A registry on loopback that lives as long as the node.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn registry(&mut self) -> Result<&Registry> {
        if self.registry.is_none() {
            let registry = Registry::start()?;
            self.probe.long_lived.push(registry.id());
            self.registry = Some(registry);
        }
        self.registry
            .as_ref()
            .context("the registry was just started")
    }

    /// Kills containerd (`kill -9`) and starts it again on the same state.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        let old = self.daemon.id();
        self.daemon = spawn(&self.directory, &self.programs, &self.options)?;
        self.probe.long_lived.retain(|id| *id != old);
        self.probe.long_lived.push(self.daemon.id());
        self.wait_until_up()
    }

    /// Processes of our shims: their executables are ours and they are below this test.
    pub fn shims(&self) -> Vec<u32> {
        self.processes_named("containerd-shim")
    }

    /// Processes of this node whose executable's name begins so.
    pub fn processes_named(&self, name: &str) -> Vec<u32> {
        let mut found = self.probe.processes_now();
        found.retain(|id| {
            let program = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            program
                .file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(name))
        });
        found
    }

    /// What containerd and its shims have logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("logs/containerd")).unwrap_or_default()
    }

    /// The socket of its gRPC services.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("c.sock")
    }

    fn wait_until_up(&mut self) -> Result<()> {
        wait_for(
            "containerd does not answer",
            Duration::from_secs(30),
            || {
                if let Some(status) = self.daemon.try_wait()? {
                    anyhow::bail!("containerd ended with {status}: {}", self.log());
                }
                if !self.socket().exists() {
                    return Ok(None);
                }
                let ran = self.ctr(&["version"])?;
                Ok((ran.code == 0).then_some(()))
            },
        )
        .with_context(|| format!("log of containerd: {}", self.log()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The one thing that outlives shims, on a machine with many mounts.
        for mount in ["run/mounts/namespace", "run/mounts"] {
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(self.directory.join(mount), flags).ok();
        }
        fs::remove_file(self.directory.join("run/mounts/namespace")).ok();
        fs::remove_dir(self.directory.join("run/mounts")).ok();
        // After a panic the containers of the test are still there, and no news.
        if !std::thread::panicking() {
            let left = self.probe.settle(&self.before);
            if !left.is_empty() {
                let more = left.len().saturating_sub(MOST_LINES);
                let mut lines = left
                    .iter()
                    .take(MOST_LINES)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("\n");
                if more > 0 {
                    lines.push_str(&format!("\nand {more} more"));
                }
                runner::fault(format!("left behind after the test:\n{lines}"));
            }
        }
        self.registry = None;
        if let Some(id) = i32::try_from(self.daemon.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // It may have ended by itself, which the log shows.
            rustix::process::kill_process(id, rustix::process::Signal::TERM).ok();
        }
        let stopped = wait_for("containerd does not stop", Duration::from_secs(10), || {
            Ok(self.daemon.try_wait()?)
        });
        if stopped.is_err() {
            self.daemon.kill().ok();
            self.daemon.wait().ok();
        }
        self.probe.long_lived.clear();
        self.probe.sweep();
        // runc keeps the directory of a namespace whose containers are gone.
        fs::remove_dir_all(crate::residue::runc_state(&self.namespace)).ok();
        let log = self.log();
        // What it says of its plugins is of no interest once it runs.
        let since = log
            .rfind("containerd successfully booted")
            .map_or(log.as_str(), |place| &log[place..]);
        runner::keep_log(
            &format!("log of {}", self.version.folder()),
            since.to_owned(),
        );
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            runner::fault(format!(
                "could not remove {}: {error}",
                self.directory.display()
            ));
        }
    }
}

fn spawn(directory: &Path, programs: &Path, options: &Options) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("logs/containerd"))?;
    // If this process is killed, containerd must not stay.
    let mut command = if options.open_proc {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "sh", "-c"])
            .args(["mount -t proc proc /proc && exec \"$@\"", "sh", "setpriv"]);
        command
    } else {
        Command::new("setpriv")
    };
    command
        .args(["--pdeathsig", "KILL"])
        .arg(programs.join("containerd"))
        .arg("--config")
        .arg(directory.join("config.toml"));
    environment(&mut command, directory, programs, options);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log));
    let child = command
        .spawn()
        .context("could not start containerd by setpriv, which is of util-linux")?;
    ensure!(child.id() > 1, "containerd has no process id");
    Ok(child)
}

/// The environment of containerd and of `ctr`: nothing of the caller's but what is named here.
fn environment(command: &mut Command, directory: &Path, programs: &Path, options: &Options) {
    let mut path = vec![tools::skiff_dir(), programs.to_owned()];
    path.extend(
        ["runc", "runwasi"]
            .iter()
            .filter_map(|folder| tools::component(folder).ok()),
    );
    let mut text = path
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(":");
    text.push_str(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .env_clear()
        .env("PATH", text)
        .env("HOME", directory)
        .env("TMPDIR", directory.join("tmp"));
    command.env(
        "SKIFF_CACHE_DIR",
        options
            .cache
            .clone()
            .unwrap_or_else(|| directory.join("cache")),
    );
    command.env("SKIFF_RUN_DIR", directory.join("run"));
    command.envs(
        options
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
}
