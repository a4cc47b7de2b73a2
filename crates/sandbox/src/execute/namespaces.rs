//! The process leaves the node: its cgroups and namespaces, their names and settings.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use super::ExecuteError;
use super::linux_tree::Fresh;
use super::procfs::Proc;
use crate::control::adopt_slot;
use crate::plan::{Namespace, NewNamespaces, Plan, Slot};
use crate::sys::process;

/// Joins cgroups, enters and makes namespaces, sets what belongs to them. Answers what was made for the tree of Linux
/// programs on the way.
pub(super) fn enter(plan: &Plan, proc: &Proc) -> Result<Fresh, ExecuteError> {
    join_cgroups(&plan.cgroup_tasks)?;
    if let Some(value) = plan.oom_score_adj {
        // Before a user namespace is entered: lowering needs a right in the node's.
        proc.write(Path::new("self/oom_score_adj"), &value.to_string())
            .map_err(ExecuteError::step(|| {
                format!("set oom_score_adj to {value}")
            }))?;
    }
    let fresh = join(plan)?;
    if !plan.new.is_empty() {
        // A new mount namespace is a copy of the node's whole table here, and costs the more the more the
        // node has mounted; unless the slim one (crate::slim) was entered right before.
        process::unshare(plan.new).map_err(ExecuteError::step(|| "make new namespaces"))?;
    }
    if plan.new.contains(Namespace::Time) {
        set_clocks(plan, proc)?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(ExecuteError::step(|| format!("set the host name {name}")))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(ExecuteError::step(|| format!("set the domain name {name}")))?;
    }
    for (key, value) in &plan.sysctls {
        let step = || format!("set the sysctl {} to {value}", key.replace('/', "."));
        proc.write(&sysctl_path(key)?, value)
            .map_err(ExecuteError::step(step))?;
    }
    Ok(fresh)
}

/// A new time namespace is for the children of its maker, and its clocks can be set as long as nobody is in it.
fn set_clocks(plan: &Plan, proc: &Proc) -> Result<(), ExecuteError> {
    for offset in &plan.time_offsets {
        proc.write(Path::new("self/timens_offsets"), offset)
            .map_err(ExecuteError::step(|| {
                format!("set a clock of the new time namespace ahead by {offset:?}")
            }))?;
    }
    let step = || "enter the new time namespace";
    let namespace = proc
        .namespace("time_for_children")
        .map_err(ExecuteError::step(step))?;
    process::enter(namespace.as_fd(), Namespace::Time).map_err(ExecuteError::step(step))
}

/// Joins cgroups of v1 by their `tasks` files.
pub(super) fn join_cgroups(slots: &[Slot]) -> Result<(), ExecuteError> {
    for slot in slots {
        let step = || format!("join the cgroup on descriptor {}", slot.fd());
        let tasks = adopt_slot(*slot).map_err(ExecuteError::step(step))?;
        // `tasks` moves one thread and does not wait for a grace period of the scheduler, which
        // `cgroup.procs` does (6 ms on an idle node); the process has one thread.
        rustix::io::write(&tasks, b"0").map_err(ExecuteError::step(step))?;
    }
    Ok(())
}

/// Enters the namespaces of others. The user namespace is the last: until then the process has the node's
/// rights, with which it can enter what belongs to the node and what belongs to that user namespace.
fn join(plan: &Plan) -> Result<Fresh, ExecuteError> {
    let step = || "enter the container's namespaces: has it ended?";
    let mut fresh = Fresh::default();
    let container = plan
        .join_process
        .map(|container| {
            let process = adopt_slot(container.from).map_err(ExecuteError::step(step))?;
            let mut kinds = container.kinds.without(Namespace::User);
            if let Some(tree) = &plan.linux_tree {
                // Before the mount namespace: in one of a user namespace the kernel makes a proc or sys only if there
                // is one already that hides nothing (`mount_too_revealing`), and a guest has neither. They show the
                // process ids and the network of the namespaces that the process is in by now.
                let early = kinds.without(Namespace::Mount);
                process::enter_all(process.as_fd(), early).map_err(ExecuteError::step(step))?;
                fresh = Fresh::make(tree)?;
                if kinds.contains(Namespace::Mount) {
                    kinds = NewNamespaces::NONE.with(Namespace::Mount);
                }
            }
            process::enter_all(process.as_fd(), kinds).map_err(ExecuteError::step(step))?;
            Ok((process, container.kinds.contains(Namespace::User)))
        })
        .transpose()?;
    let mut join = plan.join.clone();
    join.sort_by_key(|join| (join.kind == Namespace::User, join.kind));
    for join in join {
        let step = || {
            format!(
                "enter the {:?} namespace on descriptor {}",
                join.kind,
                join.from.fd()
            )
        };
        let namespace = adopt_slot(join.from).map_err(ExecuteError::step(step))?;
        process::enter(namespace.as_fd(), join.kind).map_err(ExecuteError::step(step))?;
        if join.kind == Namespace::User {
            become_root()?;
        }
    }
    if let Some((process, true)) = container {
        let user = NewNamespaces::NONE.with(Namespace::User);
        process::enter_all(process.as_fd(), user).map_err(ExecuteError::step(step))?;
        become_root()?;
    }
    Ok(fresh)
}

/// The node's ids have no names in a user namespace; its root does what is left to do.
fn become_root() -> Result<(), ExecuteError> {
    let step = || "become root in the user namespace";
    process::set_gid(0).map_err(ExecuteError::step(step))?;
    process::set_uid(0).map_err(ExecuteError::step(step))
}

/// `net/ipv4/ip_forward` as a path below the root of proc.
fn sysctl_path(key: &str) -> Result<PathBuf, ExecuteError> {
    let path = Path::new(key);
    let plain = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if plain && !key.is_empty() {
        Ok(Path::new("sys").join(path))
    } else {
        Err(ExecuteError::Refused(format!(
            "{key:?} is not the name of a sysctl"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_stay_below_proc_sys() {
        assert_eq!(
            sysctl_path("net/ipv4/ip_forward").unwrap(),
            Path::new("sys/net/ipv4/ip_forward")
        );
        for key in ["", "/net/x", "../self/oom_score_adj", "net/../../self/mem"] {
            assert!(sysctl_path(key).is_err(), "{key}");
        }
    }
}
