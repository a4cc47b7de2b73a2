//! Namespaces of a suite's own: what upstream's suites do to the machine's network, mounts and System V objects
//! (fixed ports, `/etc/hosts`, fixed directories, shared memory that nobody removes) ends with them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// Set in the environment of the process that is inside already.
const MARK: &str = "SKIFF_TEST_INSIDE";

/// Whether [`enter`] or [`enter_with_processes`] has returned here.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts this program again in network, mount and IPC namespaces of its own, in its place; returns in those.
///
/// # Errors
/// If there is no `unshare` (util-linux), or it may not make namespaces.
pub fn enter() -> Result<()> {
    enter_by(&[], &[])
}

/// The same with a process namespace too: whatever is started there ends with this program, however that ends. A shell is
/// its first process, which reaps. Answers the process id that this program had outside.
///
/// # Errors
/// As [`enter`].
pub fn enter_with_processes() -> Result<u32> {
    enter_by(
        &["--pid", "--fork", "--kill-child"],
        &["sh", "-c", "\"$@\"; exit $?", "sh"],
    )?;
    let mark = std::env::var(MARK).context("the process id outside is not known")?;
    Ok(mark.parse()?)
}

fn enter_by(more: &[&str], first: &[&str]) -> Result<()> {
    if is_inside() {
        // Suites test propagation: mounts must be shared among peers, of which none is outside of here.
        mount_change(
            "/",
            MountPropagationFlags::SHARED | MountPropagationFlags::REC,
        )?;
        // As another user containerd starts its own executable by /proc; on some machines only root may enter that.
        mount("proc", "/proc", "proc", MountFlags::empty(), None)
            .context("could not mount a procfs on /proc")?;
        let ran = crate::command::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        ran.ok()?;
        return Ok(());
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--ipc", "--propagation", "private"])
        .args(more)
        .args(first)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, std::process::id().to_string())
        .exec();
    Err(error).context("could not start unshare, which is of util-linux")
}

/// An empty file system of the suite's own over a directory.
///
/// # Errors
/// If it cannot be mounted.
pub fn hide(directory: &str) -> Result<()> {
    fs::create_dir_all(directory)?;
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("could not mount a tmpfs on {directory}"))
}

/// Another file or directory at the place of one.
///
/// # Errors
/// If it cannot be mounted.
pub fn replace(place: &str, by: &Path) -> Result<()> {
    mount_bind(by, place).with_context(|| format!("could not mount {} on {place}", by.display()))
}
