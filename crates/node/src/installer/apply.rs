//! Carrying out a plan: journal, changes, restart, proof, and back again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::service::Restart;
use super::{InstallError, Installer};
use crate::binaries;
use crate::daemon::Daemon;
use crate::doctor;
use crate::files;
use crate::plan::Change;
use crate::state::{Operation, Pending, State};
use crate::steps;

/// How long a containerd that is about to be restarted may take to show which process it is.
const GLANCE: Duration = Duration::from_secs(1);
/// Between two looks at one that is coming up.
const PAUSE: Duration = Duration::from_millis(100);

/// How a run ends that changes the configuration.
pub(super) struct Apply<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) restart: &'a Restart,
    pub(super) patience: Duration,
    /// The link to the binaries and the folder that it is to point to.
    pub(super) link: Option<(&'a Path, &'a Path)>,
}

impl Installer<'_> {
    /// Writes what is about to be changed into the journal.
    pub(super) fn open_journal(
        &self,
        state: &mut State,
        operation: Operation,
        changes: &[Change],
        link_before: Option<PathBuf>,
        restart_left: bool,
    ) -> Result<(), InstallError> {
        state.pending = Some(Pending {
            operation,
            changes: self.store.steps(changes)?,
            link_before,
            restart: restart_left || !changes.is_empty(),
        });
        self.store.save(state)?;
        Ok(())
    }

    /// Makes the changes of the journal.
    pub(super) fn carry_out(&self, changes: &[Change]) -> Result<(), InstallError> {
        for change in changes {
            self.progress
                .step("configure", &format!("writing {}", change.path.display()));
            let bytes = change.after.as_deref().map(str::as_bytes);
            files::set(&self.host, &change.path, bytes)?;
        }
        Ok(())
    }

    /// Takes changes back, with their journal, and brings containerd up as it was. Answers the error that tells of it.
    pub(super) fn roll_back(
        &self,
        state: &mut State,
        changes: &[Change],
        apply: &Apply<'_>,
        reason: String,
    ) -> InstallError {
        self.progress.step(
            "rollback",
            &format!("putting the configuration back: {reason}"),
        );
        match self.put_back(state, changes, apply) {
            Ok(None) => InstallError::RolledBack { reason },
            Ok(Some(after)) => InstallError::Down { reason, after },
            Err(error) => InstallError::Down {
                reason,
                after: doctor::sentence(&error),
            },
        }
    }

    fn put_back(
        &self,
        state: &mut State,
        changes: &[Change],
        apply: &Apply<'_>,
    ) -> Result<Option<String>, InstallError> {
        let link_before = state
            .pending
            .as_ref()
            .and_then(|pending| pending.link_before.clone());
        if let Some(pending) = &mut state.pending {
            pending.operation = Operation::RollBack;
        }
        self.store.save(state)?;
        for change in changes.iter().rev() {
            files::set(
                &self.host,
                &change.path,
                change.before.as_deref().map(str::as_bytes),
            )?;
        }
        if let Some((link, _)) = apply.link {
            match link_before {
                Some(target) => files::link(&self.host, link, &target)?,
                None => files::remove_all(&self.host, link)?,
            }
        }
        let down = if changes.is_empty() {
            None
        } else {
            self.restart(apply).err()
        };
        if state.installed.is_none() {
            state.files.clear();
        }
        state.pending = None;
        self.store.save(state)?;
        if let Some((link, _)) = apply.link {
            self.discard(link.parent().unwrap_or_else(|| Path::new("/")), state)?;
        }
        Ok(down)
    }

    /// Removes binaries that were put in place for a run that came to nothing.
    pub(super) fn discard(&self, prefix: &Path, state: &State) -> Result<(), InstallError> {
        let keep = state
            .installed
            .as_ref()
            .map(|installed| installed.label.as_str());
        binaries::prune(&self.host, prefix, keep.unwrap_or_default())?;
        files::remove_if_empty(&self.host, prefix)?;
        Ok(())
    }

    /// Restarts containerd and waits until it answers; an answer of the process from before does not count.
    pub(super) fn restart(&self, apply: &Apply<'_>) -> Result<(), String> {
        let Some(old) = apply.daemon.pid else {
            return Ok(());
        };
        let begun = Instant::now();
        self.progress.step(
            "restart",
            &format!("restarting containerd by {}", apply.restart),
        );
        let address = &apply.daemon.address;
        let before = self.listener(address, GLANCE).unwrap_or(old);
        let left = || apply.patience.saturating_sub(begun.elapsed());
        apply.restart.run(&self.host, left().max(GLANCE))?;
        steps::point("restarted");
        let mut answers;
        loop {
            // One that accepts and says nothing must not take more than what is left; one that came up in the last
            // moment is asked once all the same.
            let last = left() < GLANCE;
            let look = left().clamp(GLANCE, doctor::containerd::PATIENCE);
            answers = self.listener(address, look);
            if answers.is_some_and(|pid| pid != before) {
                let seconds = begun.elapsed().as_secs_f32();
                self.progress.step(
                    "restart",
                    &format!("containerd answers after {seconds:.1} s"),
                );
                return Ok(());
            }
            if last {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Err(match answers {
            Some(_) => format!("{} has not restarted containerd", apply.restart),
            None => format!(
                "containerd did not answer within {} s",
                apply.patience.as_secs()
            ),
        })
    }

    /// The process that answers at a socket within this time.
    fn listener(&self, address: &Path, patience: Duration) -> Option<i32> {
        let place = self.host.place(address).ok()?;
        doctor::containerd::listener(&place, patience).ok()
    }
}
