//! What containerd makes before it starts a shim, and takes away afterwards: the bundle, the snapshot of the
//! root, the FIFOs. None of it is in any runtime's time.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::mount::Mount;
use rustix::mount::{UnmountFlags, unmount};

use super::output::Fifo;
use super::spec::{self, Identity, Namespaces};
use super::stage::Stage;
use crate::runtime::Runtime;

/// Numbers of ids.
static IDS: AtomicU32 = AtomicU32::new(0);

/// What a container is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Writes a line and ends.
    Hello,
    /// The same from the smallest module.
    Small,
    /// The same from a module of more than a megabyte: see [`super::engines`].
    Large,
    /// The same after a long calculation.
    Hash,
    /// Stays.
    Sleep,
    /// The program of a sandbox: native. Skiff has one of its own.
    Pause,
}

/// A bundle on the tmpfs. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    stage: &'a Stage,
    runtime: Runtime,
    /// The container's id.
    pub(crate) id: String,
    /// Where `config.json` is.
    pub(crate) path: PathBuf,
    snapshot: PathBuf,
    lower: PathBuf,
    log: Fifo,
    output: Fifo,
    errors: Fifo,
}

impl<'a> Bundle<'a> {
    /// A bundle of a container alone.
    pub(crate) fn new(stage: &'a Stage, runtime: Runtime, program: Program) -> Result<Self> {
        let id = new_id(stage);
        let identity = Identity {
            id: &id,
            pod: &id,
            cgroup: &stage.cgroup(),
        };
        let text = spec::container(
            stage,
            identity,
            arguments(runtime, program),
            Namespaces::Own,
        )?;
        Self::with_spec(stage, runtime, &id, &text)
    }

    /// A bundle with this `config.json`.
    pub(crate) fn with_spec(
        stage: &'a Stage,
        runtime: Runtime,
        id: &str,
        text: &str,
    ) -> Result<Self> {
        let path = stage.place().join("bundles").join(id);
        // As containerd makes it.
        fs::DirBuilder::new().mode(0o711).create(&path)?;
        fs::create_dir(path.join("rootfs"))?;
        fs::write(path.join("config.json"), text)?;
        let snapshot = stage.place().join("snapshots").join(id);
        fs::create_dir_all(snapshot.join("fs"))?;
        fs::create_dir(snapshot.join("work"))?;
        if runtime.is_wasm() {
            stage.records().create(id, runtime, text)?;
        }
        Ok(Self {
            stage,
            runtime,
            id: id.to_owned(),
            log: Fifo::make(&path.join("log"))?,
            output: Fifo::make(&path.join("stdout"))?,
            errors: Fifo::make(&path.join("stderr"))?,
            lower: stage.root(runtime),
            snapshot,
            path,
        })
    }

    /// The mounts that containerd's overlay snapshotter hands out for a container: an image without layers that
    /// it can unpack has an empty directory.
    pub(crate) fn rootfs(&self) -> Vec<Mount> {
        let mut mount = Mount::new();
        let fresh = self.snapshot.join("fs").display().to_string();
        if self.runtime.in_layer() {
            mount.type_ = "bind".to_owned();
            mount.source = fresh;
            mount.options = vec!["rw".to_owned(), "rbind".to_owned()];
        } else {
            mount.type_ = "overlay".to_owned();
            mount.source = "overlay".to_owned();
            mount.options = vec![
                format!("workdir={}", self.snapshot.join("work").display()),
                format!("upperdir={fresh}"),
                format!("lowerdir={}", self.lower.display()),
            ];
        }
        vec![mount]
    }

    /// The options of the handler, as containerd's CRI sends a table of them.
    pub(crate) fn options(&self) -> Option<Any> {
        let body = Some(self.runtime.options()).filter(|body| !body.is_empty())?;
        // Of `runtimeoptions.v1.Options` the field `config_body`.
        let mut value = vec![0x1a];
        value.push(u8::try_from(body.len()).ok()?);
        value.extend(body.as_bytes());
        Some(Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            value,
            ..Any::default()
        })
    }

    /// Where the container's output and errors go.
    pub(crate) fn outputs(&self) -> [String; 2] {
        ["stdout", "stderr"].map(|name| self.path.join(name).display().to_string())
    }

    /// What the container wrote to its error output and the shim to its log.
    pub(crate) fn complaints(&self) -> String {
        format!(
            "its error output: {:?}; its shim's log: {:?}",
            self.errors.take(),
            self.log.take()
        )
    }

    /// The container has written its line, which shows that it ran.
    pub(crate) fn expect_hello(&self) -> Result<()> {
        let started = Instant::now();
        let mut written = self.output.take();
        // A shim that copies output may still be at it.
        while written.is_empty() && started.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(1));
            written = self.output.take();
        }
        ensure!(
            written == "hello from a container\n",
            "the container wrote {written:?}; {}",
            self.complaints()
        );
        Ok(())
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if self.runtime.is_wasm() {
            // What cannot be forgotten goes with its containerd.
            self.stage.records().delete(&self.id).ok();
        }
        // containerd does this for shims that leave the root mounted; for others there is nothing.
        unmount(self.path.join("rootfs"), UnmountFlags::DETACH).ok();
        for path in [&self.path, &self.snapshot] {
            // What is still there goes with the tmpfs.
            fs::remove_dir_all(path).ok();
        }
    }
}

/// The words that a runtime's container is started with.
pub(crate) fn arguments(runtime: Runtime, program: Program) -> &'static [&'static str] {
    match (runtime.is_wasm(), program) {
        (true, Program::Hello) => &["/app.wasm"],
        (true, Program::Small) => &["/small.wasm"],
        (true, Program::Large) => &["/large.wasm"],
        (true, Program::Hash) => &["/hash.wasm"],
        (true, Program::Sleep) => &["/app.wasm", "sleep"],
        (false, Program::Hello | Program::Small | Program::Large | Program::Hash) => &["/hello"],
        (_, Program::Sleep | Program::Pause) => &["/hello", "sleep"],
    }
}

/// An id as long as CRI's.
pub(crate) fn new_id(stage: &Stage) -> String {
    let number = IDS.fetch_add(1, Ordering::Relaxed);
    let name = &stage.settings().name;
    format!(
        "{name}{number:0>width$}",
        width = 64_usize.saturating_sub(name.len())
    )
}
