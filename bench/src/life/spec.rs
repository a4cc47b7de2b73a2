//! The `config.json` of a life: what containerd's CRI wrote for a pod's container and for its sandbox, kept in
//! `container.json` and `sandbox.json`, with this run's paths and names put in. Every runtime gets the same one;
//! only the arguments differ.
//!
//! A kubelet's own additions (masked and readonly paths, mounts of hosts file, termination log and service
//! account) are in it; CRI itself sets no limit of processes, so 1,024 were added.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::stage::Stage;

/// For a container of a pod.
const CONTAINER: &str = include_str!("container.json");
/// For the sandbox of a pod in the node's network.
const SANDBOX: &str = include_str!("sandbox.json");

/// Whose namespaces a container enters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Namespaces {
    /// A container alone: new ones, and a network namespace that was made before, as CRI does.
    Own,
    /// Those of a sandbox's process; the network is the node's.
    Of(u32),
}

/// Who the container is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    /// Its own id.
    pub(crate) id: &'a str,
    /// The id of its pod, by which shims group containers.
    pub(crate) pod: &'a str,
    /// The cgroup that its own is made in.
    pub(crate) cgroup: &'a str,
}

/// The text for a container that runs `arguments`.
pub(crate) fn container(
    stage: &Stage,
    identity: Identity<'_>,
    arguments: &[&str],
    namespaces: Namespaces,
) -> Result<String> {
    let mut spec = fill(CONTAINER, stage, identity)?;
    spec["process"]["args"] = json!(arguments);
    let list = match namespaces {
        Namespaces::Own => json!([
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            {"type": "network", "path": stage.network()},
        ]),
        Namespaces::Of(process) => json!([
            {"type": "pid"}, {"type": "mount"},
            {"type": "ipc", "path": format!("/proc/{process}/ns/ipc")},
            {"type": "uts", "path": format!("/proc/{process}/ns/uts")},
            {"type": "network", "path": format!("/proc/{process}/ns/net")},
        ]),
    };
    set_namespaces(&mut spec, list);
    Ok(spec.to_string())
}

/// The text for a sandbox whose program is `arguments`.
pub(crate) fn sandbox(stage: &Stage, identity: Identity<'_>, arguments: &[&str]) -> Result<String> {
    let mut spec = fill(SANDBOX, stage, identity)?;
    spec["process"]["args"] = json!(arguments);
    let list = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]);
    set_namespaces(&mut spec, list);
    Ok(spec.to_string())
}

fn fill(template: &str, stage: &Stage, identity: Identity<'_>) -> Result<Value> {
    let text = template
        .replace("@FILES@", &stage.files().display().to_string())
        .replace("@CGROUP@", identity.cgroup)
        .replace("@POD@", identity.pod)
        .replace("@ID@", identity.id);
    serde_json::from_str(&text).context("the template of config.json is not JSON")
}

/// On a node with cgroup v2 CRI gives every container a cgroup namespace.
fn set_namespaces(spec: &mut Value, mut list: Value) {
    if skiff_test::residue::cgroup_trees().len() == 1
        && let Some(list) = list.as_array_mut()
    {
        list.push(json!({"type": "cgroup"}));
    }
    spec["linux"]["namespaces"] = list;
}
