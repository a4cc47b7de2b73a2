//! Taking Skiff off a node, and finishing what an earlier run has begun.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::apply::Apply;
use super::{InstallError, Installer, Removal, Report, diff, status};
use crate::binaries::{self, User};
use crate::daemon::{self, Daemon};
use crate::doctor::probe;
use crate::files;
use crate::host::Program;
use crate::plan::{self, Change};
use crate::state::{self, Operation, State};

/// Where an agent puts modules that are to be compiled, for as long as that takes.
pub const WARM: &str = "/var/lib/skiff/warm";

/// Everything of ours that no pod needs, beside the binaries. The last one holds the state, which goes last of all.
const FOLDERS: [&str; 4] = [
    "/var/lib/skiff/cache",
    WARM,
    "/run/skiff",
    "/run/skiff-node",
];

impl Installer<'_> {
    /// Takes everything off that an install put on.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub fn uninstall(&self, removal: &Removal) -> Result<Report, InstallError> {
        let _lock = self.lock()?;
        let ended = self.uninstall_locked(removal);
        if ended.is_err() && !removal.dry_run {
            status::remember(&self.host, "uninstall", &ended);
        }
        ended
    }

    fn uninstall_locked(&self, removal: &Removal) -> Result<Report, InstallError> {
        let mut state = self.store.load()?;
        let daemon = Daemon::find(&self.host, &removal.containerd)?;
        let prefix = self.prefix(&state, removal);
        let node = daemon.snapshot(&self.host)?;
        let mut texts = node.texts.clone();
        for path in state.files.keys() {
            match daemon::read(&self.host, path)? {
                Some(text) => texts.insert(path.clone(), text),
                None => texts.remove(path),
            };
        }
        let forms: BTreeMap<PathBuf, _> = state
            .files
            .iter()
            .map(|(path, owned)| (path.clone(), (owned.form, owned.backup.is_none())))
            .collect();
        let mut changes = plan::uninstall(&texts, &forms, &prefix)?;
        self.restore_backups(&state, &mut changes)?;
        let mut report = Report {
            diff: diff(&changes),
            changed: !changes.is_empty(),
            ..Report::default()
        };
        if removal.dry_run {
            return Ok(report);
        }
        self.wait_for_pods(&prefix, removal)?;

        let restart_left = state
            .pending
            .as_ref()
            .is_some_and(|pending| pending.restart);
        let needed = !changes.is_empty() || restart_left;
        let restart = self.restarter(&daemon, removal.restart_command.as_deref(), needed)?;
        let apply = Apply {
            daemon: &daemon,
            restart: &restart,
            patience: restart.patience(removal.patience),
            link: None,
        };
        if needed {
            self.open_journal(
                &mut state,
                Operation::Uninstall,
                &changes,
                None,
                restart_left,
            )?;
            self.carry_out(&changes)?;
            self.restart(&apply).map_err(InstallError::NoAnswer)?;
            report.restarted = daemon.pid.is_some();
            if let Some(pending) = &mut state.pending {
                pending.restart = false;
            }
            self.store.save(&state)?;
        }
        self.progress
            .step("remove", &format!("removing {}", prefix.display()));
        self.remove_own(&prefix, &state, removal.force)?;
        self.progress.step("done", "uninstalled");
        Ok(report)
    }

    fn prefix(&self, state: &State, removal: &Removal) -> PathBuf {
        let known = state
            .installed
            .as_ref()
            .map(|installed| installed.prefix.clone());
        let asked = removal.prefix.clone();
        asked.or(known).unwrap_or_else(|| binaries::PREFIX.into())
    }

    /// A file that says nothing but what its backup says gets the backup's bytes.
    fn restore_backups(&self, state: &State, changes: &mut [Change]) -> Result<(), InstallError> {
        for change in changes {
            let Some(owned) = state.files.get(&change.path) else {
                continue;
            };
            let untouched =
                change.before.as_deref().map(state::digest).as_deref() == Some(&owned.written);
            match (&owned.backup, untouched) {
                (Some(backup), true) => {
                    change.after = Some(self.store.text(backup, &change.path)?);
                }
                (None, true) => change.after = None,
                (_, false) => {
                    let same = change.after.as_deref().map(state::digest) == owned.backup;
                    if !same {
                        self.progress.warning(&format!(
                            "{} was changed since the install: only our lines are taken out",
                            change.path.display()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn wait_for_pods(&self, prefix: &Path, removal: &Removal) -> Result<(), InstallError> {
        if removal.force {
            return Ok(());
        }
        let begun = Instant::now();
        let mut told = 0;
        loop {
            let users = pods(binaries::users(&self.host, prefix));
            if users.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= removal.timeout {
                return Err(InstallError::InUse(users));
            }
            if users.len() != told {
                told = users.len();
                self.progress.step(
                    "wait",
                    &format!(
                        "waiting for {}: {}",
                        super::plural(told, "pod"),
                        super::users(&users)
                    ),
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Shims keep a slim mount namespace of the node's on a mount that outlives them.
    fn unmount_namespace(&self) {
        for mount in ["/run/skiff/mounts/namespace", "/run/skiff/mounts"] {
            if !self.host.exists(Path::new(mount)) {
                continue;
            }
            if let Some(program) = self.host.find_program("umount") {
                let mut command = self.host.command(&Program::at(program));
                // What is not mounted is a plain folder, and is removed as one.
                probe::answer(command.args(["--lazy", mount]), Duration::from_secs(5)).ok();
            }
        }
    }

    fn remove_own(&self, prefix: &Path, state: &State, force: bool) -> Result<(), InstallError> {
        files::remove_all(&self.host, &prefix.join(binaries::CURRENT))?;
        let kept = binaries::prune(&self.host, prefix, "")?;
        if !kept.is_empty() && force {
            self.progress.warning(&format!(
                "{} stay until the pods that run from them have ended",
                kept.join(", ")
            ));
        }
        files::remove_if_empty(&self.host, prefix)?;
        if kept.is_empty() {
            self.unmount_namespace();
        }
        for folder in FOLDERS {
            // A pod that --force left behind still has its mounts there.
            if kept.is_empty() || !folder.starts_with("/run") {
                files::remove_all(&self.host, Path::new(folder))?;
            }
        }
        for path in state.files.keys() {
            files::tidy(&self.host, path)?;
        }
        self.store.remove()?;
        files::remove_if_empty(&self.host, Path::new("/var/lib/skiff"))?;
        Ok(())
    }
}

/// Of all processes, those that stand for a pod.
fn pods(users: Vec<User>) -> Vec<User> {
    let shims = users.into_iter();
    shims
        .filter(|user| user.program.starts_with("containerd-shim-"))
        .collect()
}
