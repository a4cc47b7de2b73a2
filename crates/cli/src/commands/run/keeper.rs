//! The keeper: this command once more, which waits until the first one is gone, whatever ended it, and then takes
//! away what is left of the container: processes, cgroup, files, and the state of the terminal.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::Context;
use tempfile::TempDir;

use super::{NAMESPACE, spec};

/// The word that makes the command a keeper. Nobody types it.
const WORD: &str = "--keeper-of-a-run";
const ADDRESS: &str = "events.sock";

/// The first command's end.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
    /// Closed by the kernel if nobody else does it.
    life: Option<ChildStdin>,
}

impl Keeper {
    pub(super) fn start(
        program: &Path,
        containerd: &Path,
        folder: TempDir,
        bundle: &Path,
    ) -> anyhow::Result<Self> {
        let stdin = rustix::stdio::stdin();
        // To put the terminal back, it needs one.
        let terminal = if rustix::termios::isatty(stdin) {
            Stdio::from(
                stdin
                    .try_clone_to_owned()
                    .context("could not keep the terminal")?,
            )
        } else {
            Stdio::null()
        };
        let mut child = Command::new("/proc/self/exe")
            .arg(WORD)
            .args([program, containerd, bundle])
            .stdin(Stdio::piped())
            .stdout(terminal)
            .spawn()
            .context("could not start the process that tidies up")?;
        // Its from here on.
        drop(folder.keep());
        Ok(Self {
            life: child.stdin.take(),
            child,
        })
    }

    /// Waits until nothing is left.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        drop(self.life.take());
        self.child
            .wait()
            .context("could not wait for the process that tidies up")?;
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.life.take());
        drop(self.child.wait());
    }
}

/// The keeper's own life.
pub(super) fn keep(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != WORD {
        return None;
    }
    let (program, containerd, bundle) = (
        arguments.next()?,
        arguments.next()?,
        PathBuf::from(arguments.next()?),
    );
    // A signal for the first one's group is not for this one.
    rustix::process::setsid().ok();
    let terminal = rustix::stdio::stdout();
    let state = rustix::termios::tcgetattr(terminal);
    drop(std::io::stdin().read_to_end(&mut Vec::new()));

    if let Ok(state) = state {
        rustix::termios::tcsetattr(
            terminal.as_fd(),
            rustix::termios::OptionalActions::Now,
            &state,
        )
        .ok();
    }
    let id = bundle.file_name().unwrap_or_default().to_owned();
    // The shim's own way of tidying up after a shim that is gone; it ends one that is not.
    if bundle.join("config.json").exists() {
        let deleted = Command::new(program)
            .args(["-namespace", NAMESPACE, "-address"])
            .arg(containerd)
            .arg("-id")
            .arg(id)
            .arg("-bundle")
            .arg(&bundle)
            .arg("delete")
            .env("TTRPC_ADDRESS", bundle.with_file_name(ADDRESS))
            .current_dir(&bundle)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(deleted);
    }
    if let Some(folder) = bundle.parent() {
        drop(fs::remove_dir_all(folder));
    }
    remove_cgroups();
    Some(ExitCode::SUCCESS)
}

/// The cgroup of all runs, where this was the last one: the kernel keeps one that is in use.
fn remove_cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        drop(fs::remove_dir(hierarchy.join(spec::CGROUP)));
    }
}

/// Where the shim sends events.
pub(super) fn events_address(bundle: &Path) -> PathBuf {
    bundle.with_file_name(ADDRESS)
}
