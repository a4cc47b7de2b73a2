//! From an OCI runtime spec to a [`Blueprint`]: what to open on the node, and the plan that uses it.
//!
//! Called by the shim at Create. [`blueprint`] is pure: it reads nothing but its arguments, so every rule
//! is tested as data. [`gather`] then opens what the blueprint names. A field that is set and not
//! supported is refused by name; what a Wasm guest has no use for (kernel file systems, device nodes,
//! masked paths) is left out, see [`mounts`].

use std::path::PathBuf;

pub use facts::{Facts, FactsError};
pub use gather::{GatherError, gather};
use oci_spec::runtime::Spec;
pub use refusal::Refusal;

use crate::cgroup::CgroupPlan;
use crate::plan::{Namespace, NewNamespaces, Plan, Propagation};
use crate::sys::mount::Change;

mod cgroup;
mod facts;
mod gather;
mod mounts;
mod namespaces;
mod process;
mod refusal;
pub mod seccomp;

/// What the container's first process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An engine host with a Wasm guest in it.
    Guest,
    /// The process that holds a pod's namespaces. The program is ours, whatever the image says.
    Pause,
}

/// What to open for a container and what it does with it. Callers append their own slots after `sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blueprint {
    /// What the process does to itself. [`gather`] fills in which mounts are directories.
    pub plan: Plan,
    /// New namespaces for [`crate::launch::Launch::new`]; the others are in [`Plan::new`].
    pub new: NewNamespaces,
    /// A pid namespace to launch into.
    pub pid_namespace: Option<PathBuf>,
    /// What to open; the index is the [`crate::plan::Slot`].
    pub sources: Vec<Source>,
    /// The cgroup to make.
    pub cgroup: CgroupPlan,
}

/// Something to open for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The container's root, which the caller has made.
    Root,
    /// Something of the node, seen inside.
    Bind(Bind),
    /// A fresh file system in memory.
    Tmpfs(Tmpfs),
    /// A namespace of others.
    Namespace {
        /// Which kind, for messages.
        kind: Namespace,
        /// Its file: `/proc/<pid>/ns/ipc`, `/run/netns/…`.
        path: PathBuf,
    },
    /// The `tasks` file of the cgroup in the hierarchy with this index.
    CgroupTasks(usize),
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What of the node.
    pub path: PathBuf,
    /// Where inside, for messages.
    pub destination: String,
    /// With the mounts below it.
    pub recursive: bool,
    /// Flags of the topmost mount.
    pub change: Change,
    /// Flags of it and all mounts below (`rro`, `rnosuid` …).
    pub recursive_change: Change,
    /// Propagation, and whether it is of all mounts below too.
    pub propagation: Option<(Propagation, bool)>,
}

/// A tmpfs mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where inside, for messages.
    pub destination: String,
    /// `key=value` or `key` as tmpfs takes them: `size=65536k`, `mode=1777`.
    pub options: Vec<(String, Option<String>)>,
    /// [`crate::sys::mount::attribute`] bits.
    pub attributes: u64,
    /// Propagation.
    pub propagation: Option<(Propagation, bool)>,
}

/// Turns a spec into a blueprint. Pure.
///
/// `id` is the container's, for the cgroup path when the spec has none.
///
/// # Errors
/// A field of the spec that is set and not supported, or that makes no sense, named in a sentence.
pub fn blueprint(spec: &Spec, role: Role, facts: &Facts, id: &str) -> Result<Blueprint, Refusal> {
    refusal::unsupported(spec, facts)?;
    let _ = (role, id);
    Err(Refusal::new("process", "not written yet"))
}

/// Reads a `config.json`.
///
/// # Errors
/// The text is not an OCI runtime spec; the message says where.
pub fn read(config: &[u8]) -> Result<Spec, Refusal> {
    serde_json::from_slice(config).map_err(|error| Refusal::new("config.json", format!("is not an OCI runtime spec: {error}")))
}
