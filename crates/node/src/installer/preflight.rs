//! What is looked at before anything is changed.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::daemon::Daemon;
use crate::doctor::containerd::{self, Version};
use crate::doctor::{Finding, Status, cgroups, kernel};
use crate::host::Host;

/// Room that the binaries of one version take, and some more.
const NEEDED: u64 = 256 << 20;
/// Where binaries go on nodes whose other folders are read-only or not for executables: Container-Optimized OS.
const OTHER_PREFIXES: [&str; 1] = ["/home/kubernetes/bin/skiff"];
/// containerd hands images to its transfer service from here on.
const TRANSFER_PULL: Version = Version {
    major: 2,
    minor: 1,
    patch: 0,
};

/// What was found.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// Everything, also what is well.
    pub findings: Vec<Finding>,
    /// The folder that binaries can be put into and run from.
    pub prefix: PathBuf,
}

/// Looks at the node. `asked` is the operator's folder.
pub(super) fn examine(
    host: &Host,
    daemon: &Daemon,
    asked: Option<&Path>,
    local_pull: bool,
) -> Preflight {
    let mut findings = vec![containerd::judge_version(daemon.version)];
    findings.extend(kernel::judge(&kernel::gather()));
    findings.extend(cgroups::judge(&cgroups::gather(), None));
    let usual = Path::new(crate::binaries::PREFIX);
    let mut choices: Vec<&Path> = vec![asked.unwrap_or(usual)];
    if asked.is_none() {
        let others = OTHER_PREFIXES.iter().map(Path::new);
        choices
            .extend(others.filter(|path| path.parent().is_some_and(|folder| host.exists(folder))));
    }
    let judged: Vec<(&Path, Finding)> = choices
        .iter()
        .map(|path| (*path, folder(host, path)))
        .collect();
    let best = judged
        .iter()
        .find(|(_, finding)| finding.status == Status::Ok);
    let (prefix, finding) = best
        .or_else(|| judged.first())
        .expect("there is always the usual folder");
    findings.push(finding.clone());
    if daemon.version >= TRANSFER_PULL && !local_pull {
        findings.push(Finding::ok(
            "images.pull",
            "images of Wasm alone must be one manifest or have an entry for this platform; `--local-pull` asks containerd to pull all of the node's images the old way",
        ));
    }
    Preflight {
        prefix: (*prefix).to_owned(),
        findings,
    }
}

/// A folder for executables: its file system takes them, lets them run and has room.
fn folder(host: &Host, path: &Path) -> Finding {
    let id = "install.folder";
    let shown = path.display();
    let elsewhere = "name a folder on another file system with --prefix";
    let existing = path
        .ancestors()
        .filter_map(|path| host.place(path).ok())
        .find(|place| place.is_dir());
    let Some(stat) = existing.and_then(|place| rustix::fs::statvfs(&place).ok()) else {
        return Finding::fail(
            id,
            format!("the file system of {shown} cannot be looked at"),
            elsewhere,
        );
    };
    let has = |flag| stat.f_flag.contains(flag);
    if has(StatVfsMountFlags::RDONLY) {
        return Finding::fail(
            id,
            format!("the file system of {shown} is read-only"),
            elsewhere,
        );
    }
    if has(StatVfsMountFlags::NOEXEC) {
        return Finding::fail(
            id,
            format!("the file system of {shown} lets no program run (noexec)"),
            elsewhere,
        );
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < NEEDED {
        return Finding::fail(
            id,
            format!(
                "the file system of {shown} has {} MiB left, {} are needed",
                free >> 20,
                NEEDED >> 20
            ),
            "make room there, or name a folder on another file system with --prefix",
        );
    }
    Finding::ok(id, format!("binaries in {shown}, {} MiB free", free >> 20))
}
