//! Namespaces, and what is set in them: host name, domain name, sysctls.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::Refusal;
use crate::plan::{Namespace, NewNamespaces};

/// What the spec says of namespaces. Kinds that it does not name are shared with the shim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) new: NewNamespaces,
    /// In the order in which they are entered.
    pub(super) joined: Vec<(Namespace, PathBuf)>,
}

impl Namespaces {
    /// Whether the container has this namespace for itself or with its pod, and not with the node.
    fn own(&self, kind: Namespace) -> bool {
        self.new.contains(kind) || self.joins(kind)
    }

    pub(super) fn joins(&self, kind: Namespace) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == kind)
    }
}

pub(super) fn namespaces(linux: &Linux) -> Result<Namespaces, Refusal> {
    let mut found = Namespaces::default();
    for namespace in linux.namespaces().iter().flatten() {
        let (kind, name) = kind(namespace.typ());
        let field = format!("linux.namespaces[{name}]");
        if found.own(kind) {
            return Err(Refusal::new(field, "is given twice"));
        }
        let path = namespace
            .path()
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty());
        match (kind, path) {
            (Namespace::Mount, Some(path)) => {
                return Err(Refusal::new(
                    field,
                    format!(
                        "joins the mount namespace {}, but a container needs a new one",
                        path.display()
                    ),
                ));
            }
            (_, Some(path)) if !path.is_absolute() => {
                return Err(Refusal::new(
                    field,
                    format!("has the path {}, which is not absolute", path.display()),
                ));
            }
            (_, Some(path)) => found.joined.push((kind, path.clone())),
            (_, None) => found.new = found.new.with(kind),
        }
    }
    if !found.new.contains(Namespace::Mount) {
        return Err(Refusal::new(
            "linux.namespaces",
            "has no new mount namespace, which every container needs",
        ));
    }
    found.joined.sort_by_key(|(kind, _)| *kind);
    Ok(found)
}

/// What the clocks of the new time namespace are ahead, as its file takes it.
pub(super) fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<String>, Refusal> {
    let mut offsets = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets[{clock}]");
        if !namespaces.new.contains(Namespace::Time) {
            return Err(Refusal::new(
                field,
                "is set, but the container has no new time namespace",
            ));
        }
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Refusal::new(
                field,
                "is no clock of a time namespace; they are monotonic and boottime",
            ));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            let reason = format!("has {nanoseconds} nanoseconds, which is a second or more");
            return Err(Refusal::new(field, reason));
        }
        let seconds = offset.secs().unwrap_or(0);
        offsets.push(format!("{clock} {seconds} {nanoseconds}"));
    }
    offsets.sort_unstable();
    Ok(offsets)
}

fn kind(typ: LinuxNamespaceType) -> (Namespace, &'static str) {
    match typ {
        LinuxNamespaceType::Mount => (Namespace::Mount, "mount"),
        LinuxNamespaceType::Cgroup => (Namespace::Cgroup, "cgroup"),
        LinuxNamespaceType::Uts => (Namespace::Uts, "uts"),
        LinuxNamespaceType::Ipc => (Namespace::Ipc, "ipc"),
        LinuxNamespaceType::User => (Namespace::User, "user"),
        LinuxNamespaceType::Pid => (Namespace::Pid, "pid"),
        LinuxNamespaceType::Network => (Namespace::Network, "network"),
        LinuxNamespaceType::Time => (Namespace::Time, "time"),
    }
}

/// `(hostname, domainname)`, refused when they would be those of the node.
pub(super) fn names(
    spec: &Spec,
    namespaces: &Namespaces,
) -> Result<(Option<String>, Option<String>), Refusal> {
    let name = |field: &str, name: &Option<String>| {
        let name = name.as_ref().filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|_| !namespaces.own(Namespace::Uts)) {
            let reason = format!(
                "is {name:?}, but the container shares the node's uts namespace: it would rename the node"
            );
            return Err(Refusal::new(field, reason));
        }
        Ok(name.cloned())
    };
    Ok((
        name("hostname", spec.hostname())?,
        name("domainname", spec.domainname())?,
    ))
}

/// Sysctls as paths below `/proc/sys`, in the order of their names, refused when they would be the node's.
pub(super) fn sysctls(
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut sysctls = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let field = || format!("linux.sysctl[{key}]");
        let path = sysctl_path(key);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Refusal::new(field(), "is not the name of a sysctl"));
        }
        let Some(kind) = sysctl_namespace(&path) else {
            return Err(Refusal::new(
                field(),
                "belongs to no namespace: it would be set for the whole node",
            ));
        };
        if !namespaces.own(kind) {
            let reason = format!(
                "would be set for the whole node: the container has no {kind:?} namespace of its own"
            );
            return Err(Refusal::new(field(), reason.to_lowercase()));
        }
        sysctls.push((path, value.clone()));
    }
    // The spec's map has no order; a plan is the same for the same spec.
    sysctls.sort_unstable();
    Ok(sysctls)
}

/// `net.ipv4.conf.eth0/100.forwarding` and `net/ipv4/conf/eth0.100/forwarding` are the same:
/// the separator that comes first separates, the other stands for it in a name (sysctl.d(5)).
fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(position) if key.as_bytes().get(position) == Some(&b'.') => key
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The namespace that a sysctl belongs to; `None` for those of the whole machine.
fn sysctl_namespace(path: &str) -> Option<Namespace> {
    const IPC: [&str; 9] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/auto_msgmni",
    ];
    if path.starts_with("net/") {
        Some(Namespace::Network)
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        Some(Namespace::Ipc)
    } else if matches!(path, "kernel/hostname" | "kernel/domainname") {
        Some(Namespace::Uts)
    } else {
        None
    }
}
