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
use skiff_test::residue::cgroup_trees;
use skiff_test::{command, tools};

use super::events;
use crate::runtime::Runtime;
use crate::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    settings: Settings,
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

impl Stage {
    fn new(settings: &Settings) -> Result<Self> {
        let stage = Self {
            settings: settings.clone(),
        };
        for directory in [
            "bundles",
            "snapshots",
            "roots/wasm",
            "roots/native",
            "files",
        ] {
            fs::create_dir_all(stage.place().join(directory))?;
        }
        stage.make_files()?;
        stage.make_roots()?;
        stage.make_network()?;
        events::serve(&stage.events())?;
        for tree in cgroup_trees() {
            fs::create_dir_all(tree.join(stage.cgroup().trim_start_matches('/')))
                .context("could not make the bench's cgroups")?;
        }
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

    /// The gRPC socket that a shim is told. Only the shims of layer images ask there.
    pub(crate) fn address(&self, _runtime: Runtime) -> PathBuf {
        self.place().join("containerd.sock")
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
            &files.join("shm"),
            "tmpfs",
            flags,
            c"mode=1777,size=65536k",
        )
        .context("could not mount the pod's /dev/shm")?;
        Ok(())
    }

    fn make_roots(&self) -> Result<()> {
        let sources = tools::checkout().join("bench");
        let (wasm, native) = (self.root(Runtime::Skiff), self.root(Runtime::Runc));
        for (source, name) in [("hello.wat", "app.wasm"), ("sleep.wat", "sleep.wasm")] {
            let module = wat::parse_file(sources.join(source))?;
            write_program(&wasm.join(name), &module)?;
        }
        command::run(
            Command::new("cc")
                .args(["-static", "-O2", "-s", "-o"])
                .arg(native.join("hello"))
                .arg(sources.join("hello.c")),
        )
        .context("a C compiler is needed for the native program")?
        .ok()?;
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

fn write_program(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
