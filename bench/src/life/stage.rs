//! What all lives of a run share and nobody's time is: roots, files that CRI mounts, a network namespace, the
//! taker of events, the parent of all cgroups. Made once, on the bench's tmpfs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};
use skiff_test::{command, tools};

use super::events;
use super::guest;
use super::records::Records;
use super::starter;
use crate::node::cgroup::PodGroup;
use crate::runtime::Runtime;
use crate::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    settings: Settings,
    records: Records,
    pods: PodGroup,
}

static STAGE: OnceLock<Stage> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// The stage, which the first scenario makes.
pub(crate) fn stage(settings: &Settings) -> Result<&'static Stage> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = STAGE.get() {
        return Ok(stage);
    }
    let stage = Stage::new(settings)?;
    Ok(STAGE.get_or_init(|| stage))
}

/// Ends what the stage has started; the scenarios are over.
///
/// # Errors
/// If something was left behind.
pub(crate) fn finish() -> Result<()> {
    if let Some(stage) = STAGE.get() {
        stage.records.finish()?;
        stage.pods.remove();
    }
    Ok(())
}

impl Stage {
    fn new(settings: &Settings) -> Result<Self> {
        for directory in [
            "bundles",
            "snapshots",
            "roots/wasm",
            "roots/native",
            "files",
        ] {
            fs::create_dir_all(settings.place.join(directory))?;
        }
        let module = settings.place.join("roots/wasm/app.wasm");
        guest::module(&module)?;
        let stage = Self {
            // First, so that nobody takes it for something that was left behind.
            pods: PodGroup::create(&format!("{}/burstable/pod", settings.name))?,
            records: Records::start(settings, &fs::read(&module)?)?,
            settings: settings.clone(),
        };
        stage.make_files()?;
        stage.make_roots()?;
        stage.make_network()?;
        events::serve(&stage.events())?;
        starter::prepare()?;
        Ok(stage)
    }

    /// The bench's directory.
    pub(crate) fn place(&self) -> &Path {
        &self.settings.place
    }

    /// What the run was asked for.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Those of these runtimes that the run was asked for.
    pub(crate) fn runtimes(&self, all: &[Runtime]) -> Vec<Runtime> {
        let wanted = |runtime: &Runtime| self.settings.wants(*runtime);
        all.iter().copied().filter(wanted).collect()
    }

    /// The files that CRI mounts into containers.
    pub(crate) fn files(&self) -> PathBuf {
        self.place().join("files")
    }

    /// The network namespace of the containers that have one.
    pub(crate) fn network(&self) -> PathBuf {
        self.place().join("network")
    }

    /// The socket for events.
    pub(crate) fn events(&self) -> PathBuf {
        self.place().join("events.sock")
    }

    /// The containerd that holds images and container records.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// The environment of containerd, which shims inherit.
    pub(crate) fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut path = OsString::new();
        for folder in [
            self.settings.skiff.clone(),
            tools::component("containerd-2.4")?,
            tools::component("runc")?,
        ] {
            path.push(folder);
            path.push(":");
        }
        path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(vec![
            ("PATH", path),
            ("SKIFF_CACHE_DIR", self.place().join("cache").into()),
            ("SKIFF_RUN_DIR", self.place().join("skiff").into()),
        ])
    }

    /// The cgroup of the containers, as deep as a kubelet's.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}/burstable/pod", self.settings.name)
    }

    /// The only layer of the root: a module and a sleeping one, or a program.
    pub(crate) fn root(&self, runtime: Runtime) -> PathBuf {
        let folder = if runtime.is_wasm() { "wasm" } else { "native" };
        self.place().join("roots").join(folder)
    }

    /// What CRI and the kubelet make for a pod.
    fn make_files(&self) -> Result<()> {
        let files = self.files();
        fs::write(
            files.join("hosts"),
            "127.0.0.1\tlocalhost\n10.0.0.7\tbench\n",
        )?;
        fs::write(files.join("hostname"), "bench\n")?;
        fs::write(
            files.join("resolv.conf"),
            "search default.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        )?;
        fs::write(files.join("termination-log"), "")?;
        for directory in ["shm", "serviceaccount", "logs"] {
            fs::create_dir(files.join(directory))?;
        }
        fs::write(files.join("serviceaccount/token"), "none")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(
            "shm",
            files.join("shm"),
            "tmpfs",
            flags,
            c"mode=1777,size=65536k",
        )
        .context("could not mount the pod's /dev/shm")?;
        Ok(())
    }

    fn make_roots(&self) -> Result<()> {
        let (wasm, native) = (self.root(Runtime::Skiff), self.root(Runtime::Runc));
        let small = wasm.join("small.wasm");
        fs::write(
            &small,
            wat::parse_file(tools::checkout().join("bench/hello.wat"))?,
        )?;
        for program in [&small, &wasm.join("app.wasm")] {
            fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
        }
        guest::program(&native.join("hello"))?;
        // A sandbox has an image of its own; here it is in the same root.
        fs::copy(native.join("hello"), wasm.join("hello"))?;
        for root in [wasm, native] {
            // An image's root has these, so that nobody must make them.
            for directory in ["proc", "sys", "dev", "etc", "var/run", "tmp"] {
                fs::create_dir_all(root.join(directory))?;
            }
        }
        Ok(())
    }

    /// A namespace held by a mount, as CRI makes one for each pod.
    fn make_network(&self) -> Result<()> {
        fs::write(self.network(), "")?;
        let option = format!("--net={}", self.network().display());
        command::run(Command::new("unshare").args([&option, "true"]))?.ok()?;
        Ok(())
    }
}
