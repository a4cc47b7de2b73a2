//! What is left of pods when all of them are gone: everything that a process namespace, cgroups and mounts can show.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;
use crate::command::wait_for;
use crate::process;
use crate::residue::{cgroup_trees, walk};

/// Namespaces that a cluster begins with.
const SYSTEM: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// How long pods may take to go, and what they leave after them.
const PATIENCE: Duration = Duration::from_secs(120);

/// Removes all pods and waits until nothing of them is left.
pub(super) fn empty(cluster: &Cluster) -> Result<()> {
    let words = ["get", "namespaces", "--output", "name"];
    let all = cluster.kubectl(&words)?.ok()?;
    let names: Vec<&str> = all
        .lines()
        .filter_map(|line| line.strip_prefix("namespace/"))
        .filter(|name| !SYSTEM.contains(name))
        .collect();
    if !names.is_empty() {
        let mut words = vec!["delete", "namespace", "--wait=false"];
        words.extend(&names);
        cluster.kubectl(&words)?;
    }
    cluster.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    let mut left = Vec::new();
    let gone = wait_for("something of the pods is left", PATIENCE, || {
        left = look(cluster)?;
        Ok(left.is_empty().then_some(()))
    });
    if gone.is_err() {
        let forgotten = forgotten(cluster)?;
        left.retain(|line| !forgotten.contains(line));
        if left.is_empty() {
            crate::runner::say(&format!(
                "containerd, when it was restarted, forgot what it had begun for a pod: {forgotten:?}"
            ));
            return Ok(());
        }
    }
    ensure!(
        gone.is_ok(),
        "left behind by pods that are gone:\n{}",
        left.join("\n")
    );
    Ok(())
}

/// Called when a node's containerd is started: adds the network namespaces that no process is in, those that containerd may
/// have lost, to a file.
pub(super) fn note_networks(file: &Path) {
    let lived_in: BTreeSet<_> = process::all()
        .filter_map(|id| identity(Path::new(&format!("/proc/{id}/ns/net"))))
        .collect();
    let mut all = fs::read_to_string(file).unwrap_or_default();
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if identity(&entry.path()).is_some_and(|one| !lived_in.contains(&one)) {
            all.push_str(&entry.file_name().to_string_lossy());
            all.push('\n');
        }
    }
    // It only serves to tell whose fault something is.
    fs::write(file, all).ok();
}

/// What tells namespaces apart (`namespaces(7)`): device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Network namespaces that containerd itself has lost: it mounts one for a new pod, writes down where a moment later, and
/// knows nothing of it when it was ended in between. They were there, empty, when it was started again, and it has no pods.
fn forgotten(cluster: &Cluster) -> Result<Vec<String>> {
    let mut nodes = vec![(PathBuf::from("/"), cluster.directory().to_owned())];
    if let Some(second) = cluster.second() {
        nodes.push((second.root(), cluster.directory().join("second")));
    }
    let mut found = Vec::new();
    for (root, directory) in nodes {
        let socket = root.join("run/containerd/containerd.sock");
        let address = format!("--address={}", socket.display());
        let known = cluster.ctr(&[&address, "containers", "list", "--quiet"])?;
        // One that does not answer excuses nothing.
        if known.code != 0 || !known.stdout.trim().is_empty() {
            continue;
        }
        let names = fs::read_to_string(directory.join(super::NETWORKS)).unwrap_or_default();
        found.extend(
            names
                .lines()
                .map(|name| format!("mount on /run/netns/{name}")),
        );
    }
    Ok(found)
}

fn look(cluster: &Cluster) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let words = ["get", "pods", "--all-namespaces", "--output", "name"];
    let pods = cluster.kubectl(&words)?.ok()?;
    left.extend(pods.lines().map(|pod| format!("pod {pod}")));
    for (id, program) in programs() {
        // Those that containers are made of; the control plane, the harness and what it runs are others.
        let name = program.rsplit('/').next().unwrap_or_default();
        if name.starts_with("containerd-shim") || name.starts_with("skiff-") || name == "busybox" {
            left.push(format!("process {id} {program}"));
        }
    }
    for tree in cgroup_trees() {
        walk(&tree.join(cluster.cgroup()), &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("pod") {
                left.push(format!("cgroup {}", path.display()));
            }
        });
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(of_node(Path::new("/"), &mounts));
    if let Some(second) = cluster.second() {
        left.extend(of_node(&second.root(), &second.mounts()?));
    }
    Ok(left)
}

/// What is left of pods on the node that has this root, and these mounts.
fn of_node(root: &Path, mounts: &str) -> Vec<String> {
    let mut left = Vec::new();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let of_pods = [
        "/run/containerd/",
        "/run/netns/",
        "/var/lib/kubelet/pods",
        "/run/skiff/",
    ];
    for place in places {
        // One mount is kept for all pods of a node with many mounts.
        if of_pods.iter().any(|start| place.starts_with(start)) && !place.contains("skiff/mounts") {
            left.push(format!("mount on {place}"));
        }
    }
    for folder in [
        "run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "run/containerd/s",
        "var/lib/kubelet/pods",
        "run/containerd/runc/k8s.io",
    ] {
        for entry in fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            left.push(entry.path().display().to_string());
        }
    }
    // Addresses that are still given away, one file each.
    let addresses = fs::read_dir(root.join("var/lib/cni/networks/pods"));
    for entry in addresses.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("10.") {
            left.push(format!("address {name}"));
        }
    }
    left
}

/// Every process of this process namespace, with its executable.
fn programs() -> Vec<(u32, String)> {
    process::all()
        .filter_map(|id| {
            let program = fs::read_link(format!("/proc/{id}/exe")).ok()?;
            Some((id, program.display().to_string()))
        })
        .collect()
}

/// Kills what is in the cgroups of pods: of a cluster that is given up.
pub(super) fn kill_all(name: &str) {
    for _ in 0..100 {
        let mut found = false;
        for tree in cgroup_trees() {
            walk(&tree.join(name), &mut |path| {
                found |= kill_in(path);
            });
        }
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill_in(cgroup: &Path) -> bool {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found = false;
    for id in text.lines().filter_map(|line| line.parse().ok()) {
        if let Some(id) = Pid::from_raw(id) {
            found = true;
            // It may be gone by now.
            kill_process(id, Signal::KILL).ok();
        }
    }
    found
}
