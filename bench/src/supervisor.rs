//! The process that the user starts: it gives the scenarios namespaces of their own, waits, and takes away
//! what is left, however they end.
//!
//! The scenarios run as process 1 of a new process namespace. When that process ends or is killed, the kernel
//! kills every shim and container with it, and the last of them takes the mount namespace along, with the
//! tmpfs that held their state. What can be left are cgroups, which are removed here.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use skiff_test::residue::cgroup_trees;

use crate::compile_groups;

/// Where containerd, shims and runc keep state by default: in the scenarios' mount namespace a tmpfs lies here.
const STATE: &str = "/run/containerd";
/// The directory in it that is the scenarios'.
const PLACE: &str = "b";

/// Names of runs begin so.
pub(crate) const PREFIX: &str = "skb";

/// Runs this program again, inside; answers whether it succeeded and nothing was left.
pub(crate) fn watch() -> Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "containers need root: run it as root"
    );
    let name = format!("{PREFIX}{}", std::process::id());
    clean_after_killed()?;
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block()?;
    let made = make_directory(Path::new(STATE))?;
    let program = std::env::current_exe().context("could not find this program's own file")?;
    // The signal for the death of a parent is sent when its thread ends: this is the main one.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .args(["--inside", &name])
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::null())
        // Ctrl-C is for this process alone, which then ends all.
        .process_group(0)
        .spawn()
        .context("could not run setpriv and unshare, which are of util-linux")?;
    let status = loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(status) = child.try_wait()? {
                    break Some(status);
                }
            }
            _ => {
                let caches = compile_groups::identities(child.id(), &Path::new(STATE).join(PLACE));
                // The namespace's first process is killed by the death of its parent, and kills the rest.
                child.kill()?;
                child.wait()?;
                compile_groups::remove(&caches);
                eprintln!("bench: interrupted; all that it had started is ended");
                break None;
            }
        }
    };
    let clean = clean(&name)?;
    if made {
        fs::remove_dir(STATE).ok();
    }
    Ok(clean && status.is_some_and(|status| status.success()))
}

/// Called inside: enters the bench's cgroup, mounts the tmpfs, and answers the directory for the scenarios' state.
pub(crate) fn make_place(name: &str) -> Result<PathBuf> {
    // The supervisor waits for signals; nobody else shall have them blocked.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD]).thread_unblock()?;
    // All that is started inherits the cgroup; below it are those of the containers.
    for tree in [accounting()?, memory_accounting()?] {
        let cgroup = tree.join(name).join("driver");
        fs::create_dir_all(&cgroup)?;
        fs::write(cgroup.join("cgroup.procs"), "0")
            .with_context(|| format!("could not enter {}", cgroup.display()))?;
    }
    // As on a node under systemd; nothing of it leaves this mount namespace.
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .context("could not share the mounts")?;
    mount("tmpfs", STATE, "tmpfs", MountFlags::empty(), c"mode=711")
        .with_context(|| format!("could not mount a tmpfs on {STATE}"))?;
    let place = Path::new(STATE).join(PLACE);
    fs::create_dir(&place)?;
    Ok(place)
}

/// The hierarchy that accounts for processor time: v1's, or the one of v2.
pub(crate) fn accounting() -> Result<PathBuf> {
    hierarchy("cpuacct.usage")
}

/// The hierarchy that accounts for memory: v1's, or the one of v2.
pub(crate) fn memory_accounting() -> Result<PathBuf> {
    hierarchy("memory.usage_in_bytes")
}

fn hierarchy(file: &str) -> Result<PathBuf> {
    let trees = cgroup_trees();
    let having = |file: &str| trees.iter().find(|tree| tree.join(file).exists());
    having(file)
        .or_else(|| having("cgroup.controllers"))
        .cloned()
        .with_context(|| format!("no cgroup hierarchy has {file}"))
}

/// A run that was killed by SIGKILL could not remove its cgroups.
fn clean_after_killed() -> Result<()> {
    let trees = cgroup_trees();
    let entries = trees.iter().flat_map(fs::read_dir).flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            clean(&name)?;
        }
    }
    Ok(())
}

/// Removes the bench's cgroups, which may have to wait for the last process; answers whether it worked.
fn clean(name: &str) -> Result<bool> {
    let started = Instant::now();
    loop {
        let left: Vec<PathBuf> = cgroup_trees()
            .into_iter()
            .map(|tree| tree.join(name))
            .filter(|path| path.exists())
            .collect();
        for path in &left {
            remove(path);
        }
        if left.iter().all(|path| !path.exists()) {
            return Ok(true);
        }
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "left behind: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // It stays while a process in it ends; the caller tries again.
    fs::remove_dir(cgroup).ok();
}

/// Makes a directory; answers false if it was there.
fn make_directory(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("could not make the directory {}", path.display()))
        }
    }
}
