//! Where a cluster lives: the paths that containerd, the kubelet and the installer use on a node, laid over those of this
//! machine in a mount namespace of the cluster's own; cgroups; the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::config::{FIRST, Member, NODE_ADDRESS, SECOND, network};
use crate::residue::{cgroup_trees, remove_cgroups};
use crate::{command, inside, tools};

/// Directories of a node that are the cluster's own, and begin empty.
const OWN: [&str; 3] = ["/var/lib", "/var/log", "/opt"];

/// Makes the directories of a cluster.
pub(super) fn make(directory: &Path) -> Result<()> {
    for part in ["keys", "logs", "pids", "files", "node", "machine"] {
        let path = directory.join(part);
        fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
    }
    Ok(())
}

/// Lays a node's file systems over the machine's. `/run` is in memory, `/etc` is the machine's with what is written above it.
pub(super) fn mount_all(directory: &Path, member: &Member) -> Result<()> {
    for place in OWN {
        let path = directory.join("node").join(place.replace('/', "."));
        fs::create_dir_all(&path)?;
        inside::replace(place, &path)?;
    }
    inside::hide("/run")?;
    for part in ["above", "work"] {
        fs::create_dir_all(Path::new("/run/skiff-test/etc").join(part))?;
    }
    let options =
        c"lowerdir=/etc,upperdir=/run/skiff-test/etc/above,workdir=/run/skiff-test/etc/work";
    mount("overlay", "/etc", "overlay", MountFlags::empty(), options)
        .context("could not mount an overlay on /etc")?;
    for made in [
        "/run/containerd/fifo",
        "/run/lock",
        "/etc/containerd/conf.d",
        "/etc/cni/net.d",
        "/opt/cni",
        "/var/log/pods",
        "/var/lib/kubelet",
    ] {
        fs::create_dir_all(made).with_context(|| format!("could not make {made}"))?;
    }
    std::os::unix::fs::symlink(tools::component("cni")?, "/opt/cni/bin")?;
    fs::write(
        "/etc/cni/net.d/10-pods.conflist",
        network(member).to_string(),
    )?;
    fs::write(
        "/etc/skiff-test-resolv.conf",
        format!("nameserver {NODE_ADDRESS}\n"),
    )?;
    Ok(())
}

/// The first node's network, in the namespace that this process is in.
pub(super) fn network_up() -> Result<()> {
    let address = format!("{NODE_ADDRESS}/24");
    ip(&[
        &["link", "add", "node0", "type", "bridge"],
        &["addr", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        &["route", "add", "default", "dev", "node0"],
    ])?;
    forward()
}

/// A cable to the second node, which is in the network namespace of that process.
pub(super) fn connect(process: u32) -> Result<()> {
    let process = process.to_string();
    let cable = ["link", "add", "second0", "type", "veth"];
    let ends = ["peer", "name", "node0", "netns", &process];
    ip(&[
        &[&cable[..], &ends].concat(),
        &["link", "set", "second0", "master", "node0"],
        &["link", "set", "second0", "up"],
        &["route", "add", SECOND.pods, "via", SECOND.address],
    ])
}

/// The second node's end of it.
pub(super) fn connected() -> Result<()> {
    let address = format!("{}/24", SECOND.address);
    ip(&[
        &["addr", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        &["route", "add", FIRST.pods, "via", FIRST.address],
        &["route", "add", "default", "dev", "node0"],
    ])?;
    forward()
}

fn ip(calls: &[&[&str]]) -> Result<()> {
    for words in calls {
        command::run(Command::new("ip").args(*words))?.ok()?;
    }
    Ok(())
}

fn forward() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("could not turn on forwarding")
}

/// Makes the parent of all the kubelet's cgroups, in every hierarchy.
pub(super) fn make_cgroups(name: &str) -> Result<()> {
    for tree in cgroup_trees() {
        let path = tree.join(name);
        fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
    }
    Ok(())
}

/// Removes it, once nothing is in it; answers what could not be removed.
pub(super) fn drop_cgroups(name: &str) -> Vec<PathBuf> {
    let places: Vec<PathBuf> = cgroup_trees().iter().map(|tree| tree.join(name)).collect();
    for place in &places {
        remove_cgroups(place);
    }
    places.into_iter().filter(|place| place.exists()).collect()
}

/// That this process has namespaces of its own: what is mounted and removed here must not be the machine's.
pub(super) fn ensure_inside() -> Result<()> {
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}"));
    ensure!(
        inside::is_inside() && own("mnt").is_ok(),
        "a cluster needs namespaces of its own: start it by test/cluster/run.sh"
    );
    Ok(())
}
