//! The plan of a process that joins a container which is there: `exec`.
//!
//! Who it is comes from the process that the client describes, what it may reach from the container's own spec. It
//! has the container's namespaces, mounts and cgroup because it enters those of its first process.

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::{Facts, Refusal, Role, filter, namespaces, process, refusal, user};
use crate::plan::{JoinProcess, Namespace, NewNamespaces, Plan, Slot};

/// A process that joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joiner {
    /// What it does to itself.
    pub plan: Plan,
    /// Whether the container has a pid namespace other than the shim's, to launch into.
    pub pids: bool,
}

impl Joiner {
    /// The slot of a pidfd of the container's first process. Those from the next one on are the `tasks` files of the
    /// container's cgroup, and the callers' own after them.
    pub const CONTAINER: Slot = Slot(0);
}

/// The plan of a process that joins the container of `spec`. Pure.
///
/// # Errors
/// A field of the process that is set and not supported, or that makes no sense.
pub fn joiner(
    spec: &Spec,
    joining: &Process,
    role: Role,
    facts: &Facts,
) -> Result<Joiner, Refusal> {
    refusal::unsupported_process(joining, facts)?;
    let missing = || Refusal::new("linux", "is missing");
    let linux = spec.linux().as_ref().ok_or_else(missing)?;
    let mut plan = Plan::default();
    let user = user::user(linux, &mut namespaces::namespaces(linux)?)?;
    process::process(joining, role, facts, user.as_ref(), &mut plan)?;
    if joining.oom_score_adj().is_none() {
        // As the container's own: what a client leaves out is not what the shim has.
        let container = spec.process().as_ref();
        plan.oom_score_adj = container.and_then(Process::oom_score_adj);
    }
    plan.seccomp = filter(linux, role)?;
    for (index, hierarchy) in facts.cgroups.hierarchies.iter().enumerate() {
        let slot = u16::try_from(index + 1)
            .map(Slot)
            .map_err(|_| Refusal::new("linux.cgroupsPath", "has more hierarchies than fit"))?;
        if hierarchy.controllers.iter().any(|name| name == "cpu") {
            plan.processor_tasks.push(slot);
        } else {
            plan.cgroup_tasks.push(slot);
        }
    }
    let kinds: NewNamespaces = linux
        .namespaces()
        .iter()
        .flatten()
        .map(|namespace| kind(namespace.typ()))
        .collect();
    plan.join_process = Some(JoinProcess {
        from: Joiner::CONTAINER,
        // It lives in the pid namespace in which it was launched.
        kinds: kinds.without(Namespace::Pid),
    });
    Ok(Joiner {
        plan,
        pids: kinds.contains(Namespace::Pid),
    })
}

fn kind(typ: LinuxNamespaceType) -> Namespace {
    match typ {
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}
