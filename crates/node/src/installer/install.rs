//! Installing, updating, and finishing what an earlier run has begun.

use std::path::Path;
use std::time::Duration;

use super::apply::Apply;
use super::service::Restart;
use super::{InstallError, Installer, Options, Report, diff, preflight, status};
use crate::binaries::{self, Source};
use crate::config::{self, Engine, Handler};
use crate::daemon::Daemon;
use crate::doctor::Status;
use crate::files;
use crate::plan::{self, Attempt, Change, Form, PlanError, Request, Snapshot};
use crate::proof::{Proof, ProofError};
use crate::state::{self, Installed, Operation, Owned, State};

/// How long containerd may take to answer a question that costs it nothing.
const ANSWER: Duration = Duration::from_secs(5);

impl Installer<'_> {
    /// Installs, or brings an installation up to date.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub fn install(&self, options: &Options) -> Result<Report, InstallError> {
        let _lock = self.lock()?;
        let ended = self.install_locked(options);
        if !options.dry_run {
            status::remember(&self.host, "install", &ended);
        }
        ended
    }

    pub(super) fn install_locked(&self, options: &Options) -> Result<Report, InstallError> {
        let mut state = self.store.load()?;
        if let Some(pending) = &state.pending {
            let sentence = format!(
                "an earlier {} was interrupted; finishing the work",
                pending.operation
            );
            self.progress.step("recover", &sentence);
        }
        let source = Source::at(&options.from)?;
        let daemon = Daemon::find(&self.host, &options.containerd)?;
        self.progress.step(
            "containerd",
            &format!(
                "containerd {} with {}",
                daemon.version,
                daemon.config.display()
            ),
        );
        let prefix = self.preflight(&daemon, options)?;
        let node = daemon.snapshot(&self.host)?;
        let handlers = handlers(&source, &node, options, &prefix)?;
        let request = Request {
            handlers: handlers.clone(),
            prefix: prefix.clone(),
            take_over: options.take_over,
            local_pull: options.local_pull,
        };
        let change = self.choose(&daemon, &node, &request)?;
        let link = prefix.join(binaries::CURRENT);
        let target = Path::new(&source.label()).to_owned();
        let link_before = files::link_target(&self.host, &link);
        let changes: Vec<Change> = if change.is_idle() {
            Vec::new()
        } else {
            vec![change.clone()]
        };
        let mut report = Report {
            version: Some(source.label()),
            handlers: handlers
                .iter()
                .map(|handler| handler.name.clone())
                .collect(),
            diff: diff(&changes),
            changed: !changes.is_empty() || link_before.as_ref() != Some(&target),
            ..Report::default()
        };
        if options.dry_run {
            return Ok(report);
        }
        let proof = |patience| Proof {
            host: &self.host,
            address: &daemon.address,
            handlers: &handlers,
            patience,
        };
        // Its files say what they should, and it was last started when they did not.
        let unread = changes.is_empty()
            && daemon.pid.is_some()
            && matches!(proof(ANSWER).handlers(), Err(ProofError::NoHandler(_)));
        let restart_left = unread
            || state
                .pending
                .as_ref()
                .is_some_and(|pending| pending.restart);
        let probe = daemon.pid.is_some() && !options.skip_probe;
        let settled = state.installed.as_ref().is_some_and(|installed| {
            installed.handlers == handlers
                && installed.label == source.label()
                && (installed.proven || !probe)
        });
        let whole = source.missing(&self.host, &prefix).is_empty();
        if !report.changed && !unread && whole && state.pending.is_none() && settled {
            report.kept = binaries::prune(&self.host, &prefix, &source.label())?;
            report.proven = true;
            self.progress
                .step("done", "nothing to do: all of this is installed already");
            return Ok(report);
        }

        self.progress.step(
            "binaries",
            &format!("version {} in {}", source.label(), prefix.display()),
        );
        let folder = source.install(&self.host, &prefix)?;
        let restart = self.restarter(
            &daemon,
            options.restart_command.as_deref(),
            !changes.is_empty() || restart_left,
        )?;
        let apply = Apply {
            daemon: &daemon,
            restart: &restart,
            patience: restart.patience(options.patience),
            link: Some((&link, &target)),
        };
        let proof = proof(apply.patience);
        if probe {
            // From a folder that nothing uses yet, by a containerd that knows nothing of it: the node is as it was.
            self.progress
                .step("probe", "running a probe container of each handler");
            if let Err(error) = proof.probes(&folder) {
                self.discard(&prefix, &state)?;
                return Err(error.into());
            }
        }
        self.record(&mut state, &change, &prefix)?;
        self.open_journal(
            &mut state,
            Operation::Install,
            &changes,
            link_before,
            restart_left,
        )?;
        if let Err(error) = self.switch(&changes, &apply) {
            return Err(self.roll_back(
                &mut state,
                &changes,
                &apply,
                crate::doctor::sentence(&error),
            ));
        }
        if !changes.is_empty() || restart_left {
            if let Err(reason) = self.restart(&apply) {
                return Err(self.roll_back(&mut state, &changes, &apply, reason));
            }
            report.restarted = daemon.pid.is_some();
        }
        if daemon.pid.is_some() {
            self.progress
                .step("prove", "asking containerd for the handlers");
            let proven = proof.handlers().and_then(|()| {
                if probe {
                    proof.probes(&prefix.join(binaries::CURRENT))
                } else {
                    Ok(())
                }
            });
            if let Err(error) = proven {
                return Err(self.roll_back(
                    &mut state,
                    &changes,
                    &apply,
                    crate::doctor::sentence(&error),
                ));
            }
            report.proven = probe;
        }
        state.installed = Some(Installed {
            label: source.label(),
            prefix: prefix.clone(),
            handlers: handlers.clone(),
            config: daemon.config.clone(),
            proven: report.proven,
        });
        state.pending = None;
        self.store.save(&state)?;
        self.store.tidy(&state)?;
        report.kept = binaries::prune(&self.host, &prefix, &source.label())?;
        self.progress.step("done", "installed");
        Ok(report)
    }

    fn switch(&self, changes: &[Change], apply: &Apply<'_>) -> Result<(), InstallError> {
        if let Some((link, target)) = apply.link {
            files::link(&self.host, link, target)?;
        }
        self.carry_out(changes)
    }

    fn preflight(
        &self,
        daemon: &Daemon,
        options: &Options,
    ) -> Result<std::path::PathBuf, InstallError> {
        let found = preflight::examine(
            &self.host,
            daemon,
            options.prefix.as_deref(),
            options.local_pull,
        );
        for finding in &found.findings {
            if finding.status == Status::Warn {
                let next = finding.next_step.as_deref().unwrap_or_default();
                self.progress
                    .warning(&format!("{}: {next}", finding.finding));
            }
        }
        let failed: Vec<_> = found
            .findings
            .into_iter()
            .filter(|finding| finding.status == Status::Fail)
            .collect();
        if failed.is_empty() || options.force {
            Ok(found.prefix)
        } else {
            Err(InstallError::Unfit(failed))
        }
    }

    /// The first change that containerd itself says does what it should and nothing else.
    fn choose(
        &self,
        daemon: &Daemon,
        node: &Snapshot,
        request: &Request,
    ) -> Result<Change, InstallError> {
        let mut refused = None;
        for Attempt { change, candidate } in plan::install(node, request)? {
            let dump = daemon.judge(&self.host, &candidate)?;
            match node.dump.differs_by(
                &dump,
                &request.handlers,
                &request.prefix,
                request.local_pull,
            ) {
                Ok(()) => return Ok(change),
                Err(source) => {
                    refused.get_or_insert(InstallError::Unexpected {
                        path: change.path,
                        source,
                    });
                }
            }
        }
        Err(refused.unwrap_or_else(|| PlanError::NoSource(node.config.clone()).into()))
    }

    /// What restarts containerd; an error if that is needed and nothing can.
    pub(super) fn restarter(
        &self,
        daemon: &Daemon,
        command: Option<&str>,
        needed: bool,
    ) -> Result<Restart, InstallError> {
        let Some(pid) = daemon.pid else {
            return Ok(Restart::Needless);
        };
        if let Some(command) = command {
            return Ok(Restart::Command(command.to_owned()));
        }
        match Restart::of(&self.host, pid) {
            Some(restart) => Ok(restart),
            None if !needed => Ok(Restart::Needless),
            None => Err(InstallError::NoManager(pid)),
        }
    }

    /// Remembers how a file was without us, before it is changed.
    fn record(
        &self,
        state: &mut State,
        change: &Change,
        prefix: &Path,
    ) -> Result<(), InstallError> {
        let Some(after) = &change.after else {
            return Ok(());
        };
        let old = state.files.get(&change.path);
        let backup = match (&change.before, old) {
            (None, _) => None,
            // A file that we made ourselves, as we made it.
            (Some(before), Some(old)) if old.written == state::digest(before) => old.backup.clone(),
            (Some(before), old) => {
                let left = without_us(change.form, before, prefix);
                match left {
                    None => None,
                    Some(left) => match old {
                        Some(old) if old.backup.as_deref() == Some(&state::digest(&left)) => {
                            old.backup.clone()
                        }
                        _ => Some(self.store.keep(&left)?),
                    },
                }
            }
        };
        let owned = Owned {
            form: change.form,
            backup,
            written: state::digest(after),
        };
        // Another file may have held our lines before, in an older release or under another layout.
        state.files.insert(change.path.clone(), owned);
        Ok(())
    }
}

fn without_us(form: Form, text: &str, prefix: &Path) -> Option<String> {
    match form {
        Form::DropIn => None,
        Form::Template => config::template::remove(text, false),
        Form::Lines => Some(config::remove(text, prefix).unwrap_or_else(|_| text.to_owned())),
    }
}

/// The handlers to make, in a fixed order.
fn handlers(
    source: &Source,
    node: &Snapshot,
    options: &Options,
    prefix: &Path,
) -> Result<Vec<Handler>, InstallError> {
    let wanted: Vec<(Engine, String)> = if options.handlers.is_empty() {
        let all = source.engines.iter();
        all.map(|engine| (*engine, engine.name().to_owned()))
            .collect()
    } else {
        options.handlers.clone()
    };
    let mut handlers = Vec::new();
    for (engine, name) in wanted {
        if !source.engines.contains(&engine) {
            return Err(InstallError::NoEngine(engine));
        }
        handlers.push(Handler {
            name,
            engine,
            folder: prefix.join(binaries::CURRENT),
            systemd_cgroup: node.dump.systemd_cgroup(),
        });
    }
    handlers.sort_by(|a, b| (a.engine, &a.name).cmp(&(b.engine, &b.name)));
    Ok(handlers)
}
