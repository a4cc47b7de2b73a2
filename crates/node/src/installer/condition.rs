//! How an installation is, looked at again and again by the agent. Nothing is changed by it; probes run when
//! containerd is not the one that was asked before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{InstallError, Installer, Options};
use crate::binaries::{self, Source};
use crate::config::Handler;
use crate::daemon::Daemon;
use crate::doctor;
use crate::files;
use crate::proof::{Proof, ProofError};
use crate::state::{self, Installed, State};

/// How long containerd and the probes may take; a busy node is no broken one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is there, and what is not as it was installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The installed version.
    pub version: Option<String>,
    /// Handlers that containerd has and whose probe container ran.
    pub proven: Vec<String>,
    /// What is wrong, a sentence each. An install mends it, or says why it cannot.
    pub problems: Vec<String>,
}

/// What earlier looks have found out and need not be found out again.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The process of containerd that the probes of these handlers ran under.
    proven: BTreeMap<String, i32>,
    /// Files that others changed, with the digest of what they are now, and what is wrong with that.
    judged: Option<(BTreeMap<PathBuf, String>, Option<String>)>,
}

impl Installer<'_> {
    /// Looks whether everything is as `options` would install it.
    ///
    /// # Errors
    /// If it cannot be found out: another run is under way, containerd does not answer, the state is damaged.
    pub fn condition(
        &self,
        options: &Options,
        watched: &mut Watched,
    ) -> Result<Condition, InstallError> {
        let _lock = self.lock()?;
        let state = self.store.load()?;
        let mut condition = Condition::default();
        if let Some(pending) = &state.pending {
            let problem = format!("an {} was interrupted", pending.operation);
            condition.problems.push(problem);
        }
        let Some(installed) = &state.installed else {
            condition.problems.push("Skiff is not installed".to_owned());
            return Ok(condition);
        };
        condition.version = Some(installed.label.clone());
        let daemon = Daemon::find(&self.host, &options.containerd)?;
        let source = Source::at(&options.from)?;
        condition.problems.extend(self.binaries(&source, installed));
        condition
            .problems
            .extend(self.changed_files(&state, options, watched));
        for handler in &installed.handlers {
            match self.handler(handler, installed, &daemon, watched) {
                Ok(()) => condition.proven.push(handler.name.clone()),
                Err(error) => condition.problems.push(doctor::sentence(&error)),
            }
        }
        Ok(condition)
    }

    /// Removes versions that no pod runs from any more; answers the names of those that some still do.
    ///
    /// # Errors
    /// Another run is under way, the state is damaged, or the file system refuses.
    pub fn retire(&self) -> Result<Vec<String>, InstallError> {
        let _lock = self.lock()?;
        let state = self.store.load()?;
        // A run that was cut short needs what it has put there.
        match (&state.installed, &state.pending) {
            (Some(installed), None) => Ok(binaries::prune(
                &self.host,
                &installed.prefix,
                &installed.label,
            )?),
            _ => Ok(Vec::new()),
        }
    }

    fn binaries(&self, source: &Source, installed: &Installed) -> Vec<String> {
        let mut problems = Vec::new();
        let label = source.label();
        if installed.label != label {
            let sentence = format!("version {} is installed, not {label}", installed.label);
            problems.push(sentence);
            return problems;
        }
        let folder = installed.prefix.join(&label);
        let missing = source.missing(&self.host, &installed.prefix);
        if !missing.is_empty() {
            problems.push(format!("{} lacks {}", folder.display(), missing.join(", ")));
        }
        let link = installed.prefix.join(binaries::CURRENT);
        let target = files::link_target(&self.host, &link);
        if target.as_deref() != Some(label.as_ref()) {
            problems.push(format!("{} does not point to {label}", link.display()));
        }
        problems
    }

    /// A file of containerd's that is not as we wrote it may hold our handlers all the same: a plan says.
    fn changed_files(
        &self,
        state: &State,
        options: &Options,
        watched: &mut Watched,
    ) -> Option<String> {
        let now = |path: &PathBuf| {
            let bytes = self.host.read(path).ok().flatten();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.map_or_else(|| "gone".to_owned(), |text| state::digest(&text))
        };
        let changed: BTreeMap<PathBuf, String> = state
            .files
            .iter()
            .map(|(path, owned)| (path.clone(), owned, now(path)))
            .filter(|(_, owned, now)| owned.written != *now)
            .map(|(path, _, now)| (path, now))
            .collect();
        if changed.is_empty() {
            watched.judged = None;
            return None;
        }
        if let Some((judged, problem)) = &watched.judged
            && *judged == changed
        {
            return problem.clone();
        }
        let plan = self.install_locked(&Options {
            dry_run: true,
            ..options.clone()
        });
        let files: Vec<String> = changed
            .keys()
            .map(|path| path.display().to_string())
            .collect();
        let files = files.join(", ");
        let problem = match plan {
            Ok(report) if report.diff.is_empty() => None,
            Ok(_) => Some(format!(
                "{files} was changed since the install, and our handlers are not in it as they should be"
            )),
            Err(error) => Some(format!(
                "{files} was changed since the install: {}",
                doctor::sentence(&error)
            )),
        };
        watched.judged = Some((changed, problem.clone()));
        problem
    }

    fn handler(
        &self,
        handler: &Handler,
        installed: &Installed,
        daemon: &Daemon,
        watched: &mut Watched,
    ) -> Result<(), ProofError> {
        let proof = Proof {
            host: &self.host,
            address: &daemon.address,
            handlers: std::slice::from_ref(handler),
            patience: PATIENCE,
        };
        proof.handlers()?;
        let pid = daemon.pid.unwrap_or_default();
        if watched.proven.get(&handler.name) != Some(&pid) {
            watched.proven.remove(&handler.name);
            proof.probes(&installed.prefix.join(binaries::CURRENT))?;
            watched.proven.insert(handler.name.clone(), pid);
        }
        Ok(())
    }
}
