//! From an OCI runtime spec to a [`Blueprint`]: what to open on the node, and the plan that uses it.
//!
//! Called by the shim at Create. [`blueprint`] is pure: it reads nothing but its arguments, so every rule
//! is tested as data. [`gather`] then opens what the blueprint names. A field that is set and not
//! supported is refused by name; what a Wasm guest has no use for (kernel file systems, device nodes,
//! masked paths) is left out, see [`mounts`].

use std::path::PathBuf;

pub use cgroup::update;
pub use facts::{Facts, FactsError};
pub use features::features;
pub use gather::{GatherError, Gathered, OpenUser, gather, open_namespace};
pub use join::{Joiner, joiner};
pub use linux_tree::{flags_on_node, linux_tree};
use oci_spec::runtime::{Linux, Spec};
pub use refusal::Refusal;
pub use user::{User, UserSource};

use crate::cgroup::CgroupPlan;
use crate::plan::{
    Attach, JoinNamespace, Namespace, NewNamespaces, Plan, Propagation, Root, SeccompFilter, Slot,
};
use crate::sys::mount::Change;
use crate::user::Maps;

mod cgroup;
mod facts;
mod features;
mod gather;
mod join;
mod linux_tree;
mod mounts;
mod namespaces;
mod process;
mod refusal;
pub mod seccomp;
mod user;

/// What a process of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An engine host with a Wasm guest in it.
    Guest,
    /// The process that holds a pod's namespaces. The program is ours, whatever the image says.
    Pause,
    /// A Linux program, which joins a container of a guest.
    Program,
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
    /// A user namespace to launch into, for [`crate::launch::launch_inside`].
    pub user: Option<User>,
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
    /// The node's proc file system.
    Proc,
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
    /// How its ids are shown, if not as they are.
    pub ids: Option<MountIds>,
}

/// The ids of a mount that are shown as others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountIds {
    /// By these maps, or those of the container's user namespace.
    pub maps: Option<Maps>,
    /// Those of the mounts below too.
    pub recursive: bool,
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
    let missing = |field| move || Refusal::new(field, "is missing");
    let linux = spec.linux().as_ref().ok_or_else(missing("linux"))?;
    let process = spec.process().as_ref().ok_or_else(missing("process"))?;
    let root = spec.root().as_ref().ok_or_else(missing("root"))?;
    let mut plan = Plan::default();
    let mut sources = Sources(vec![Source::Root]);

    let mut namespaces = namespaces::namespaces(linux)?;
    (plan.hostname, plan.domainname) = namespaces::names(spec, &namespaces)?;
    plan.sysctls = namespaces::sysctls(linux, &namespaces)?;
    plan.time_offsets = namespaces::time_offsets(linux, &namespaces)?;
    let user = user::user(linux, &mut namespaces)?;
    plan.new = namespaces.new.by_process(user.is_some());
    let mut pid_namespace = None;
    if user.is_some() {
        plan.proc = Some(sources.add(Source::Proc)?);
    }
    for (kind, path) in namespaces.joined {
        if kind == Namespace::Pid {
            pid_namespace = Some(path);
        } else {
            let from = sources.add(Source::Namespace { kind, path })?;
            plan.join.push(JoinNamespace { kind, from });
        }
    }

    let cgroup = cgroup::cgroup(linux, facts, id)?;
    for (index, hierarchy) in facts.cgroups.hierarchies.iter().enumerate() {
        let slot = sources.add(Source::CgroupTasks(index))?;
        if hierarchy.controllers.iter().any(|name| name == "cpu") {
            plan.processor_tasks.push(slot);
        } else {
            plan.cgroup_tasks.push(slot);
        }
    }

    let mut attached = Vec::new();
    for (at, source) in mounts::mounts(spec, user.is_some())? {
        // Whether it is a directory is seen when it is opened.
        attached.push(Attach {
            tree: sources.add(source)?,
            at,
            directory: true,
        });
    }
    plan.root = Some(Root {
        tree: Slot(0),
        mounts: attached,
        read_only: root.readonly().unwrap_or(false),
        guest: match role {
            // The pause process needs no less protection from an image, and no file of the kernel either.
            Role::Guest | Role::Pause => true,
            Role::Program => false,
        },
        propagation: mounts::root_propagation(linux.rootfs_propagation().as_deref())?,
    });

    process::process(process, role, facts, user.as_ref(), &mut plan)?;
    let oom_score_adj = plan.oom_score_adj;
    if user.is_some() {
        // Takes the node's rights: the launch's business.
        plan.oom_score_adj = None;
    }
    plan.seccomp = filter(linux, role)?;
    let new = namespaces.new.by_launch(user.is_some());
    Ok(Blueprint {
        plan,
        new,
        pid_namespace,
        user: user.map(|user| User {
            oom_score_adj,
            ..user
        }),
        sources: sources.0,
        cgroup,
    })
}

/// The container's own seccomp filter, for what this process is.
fn filter(linux: &Linux, role: Role) -> Result<Option<SeccompFilter>, Refusal> {
    let compile = match role {
        Role::Guest | Role::Pause => seccomp::compile_for_own,
        Role::Program => seccomp::compile,
    };
    linux.seccomp().as_ref().map(compile).transpose()
}

struct Sources(Vec<Source>);

impl Sources {
    fn add(&mut self, source: Source) -> Result<Slot, Refusal> {
        let slot = u16::try_from(self.0.len())
            .map_err(|_| Refusal::new("mounts", "are more than can be passed on"))?;
        self.0.push(source);
        Ok(Slot(slot))
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// The text is not an OCI runtime spec; the message says where.
pub fn read(config: &[u8]) -> Result<Spec, Refusal> {
    serde_json::from_slice(config).map_err(|error| {
        Refusal::new(
            "config.json",
            format!("is not an OCI runtime spec: {error}"),
        )
    })
}

#[cfg(test)]
mod tests;
