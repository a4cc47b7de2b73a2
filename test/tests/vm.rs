//! Tests for a node with cgroup v2, most of them once for each cgroup driver. `test/vm/run.sh` runs them in a machine
//! that has it; anywhere else they are skipped.
//!
//! A minute of that machine's time is dear: a test does what it can with one containerd, or with a shim alone.

#[path = "vm/containers.rs"]
mod containers;
#[path = "vm/installer.rs"]
mod installer;
#[path = "vm/limits.rs"]
mod limits;
#[path = "vm/scope.rs"]
mod scope;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use skiff_test::command;
use skiff_test::node::Node;

fn main() -> ExitCode {
    let all = [
        limits::CASES,
        scope::CASES,
        containers::CASES,
        installer::CASES,
    ];
    skiff_test::runner::main(&all, &[])
}

/// Who makes the cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Cgroupfs,
    Systemd,
}

impl Driver {
    const BOTH: [Self; 2] = [Self::Cgroupfs, Self::Systemd];

    /// `linux.cgroupsPath` of a container.
    fn path(self, node: &Node, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/{}/{id}", node.namespace()),
            Self::Systemd => format!("{}-pod.slice:skiff:{id}", node.namespace()),
        }
    }

    /// The directory of its cgroup.
    fn directory(self, node: &Node, id: &str) -> PathBuf {
        let name = node.namespace();
        let inside = match self {
            Self::Cgroupfs => format!("{name}/{id}"),
            Self::Systemd => format!("{name}.slice/{name}-pod.slice/skiff-{id}.scope"),
        };
        Path::new("/sys/fs/cgroup").join(inside)
    }
}

/// Skips a test on a machine whose controllers are not on cgroup v2, or, for systemd's driver, without systemd.
macro_rules! needs_v2 {
    () => {
        if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            skiff_test::skip!(
                "this machine's controllers are not on cgroup v2: `make test-vm` has one"
            );
        }
        if !std::path::Path::new("/run/systemd/private").exists() {
            skiff_test::skip!("systemd does not run this machine: `make test-vm` has one");
        }
    };
}
use needs_v2;

/// The text of a cgroup's file.
fn file(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// `systemctl …`; what it prints.
fn systemctl(arguments: &[&str]) -> Result<String> {
    command::run(std::process::Command::new("systemctl").args(arguments))?.ok()
}
