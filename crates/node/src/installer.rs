//! Puts Skiff on a node and takes it off again: the effects, in the order in which they are safe.
//!
//! Nothing is changed before containerd has read the candidate; what is changed is in the journal first; and what was
//! not proven is put back. A run that is killed leaves containerd's file as it was or as it is to be, and the next
//! run finishes the work.

mod apply;
mod condition;
mod install;
mod preflight;
mod service;
mod status;
mod uninstall;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::binaries::{SourceError, User};
use crate::config::Engine;
use crate::config::dump::Unexpected;
use crate::daemon::{Asked, DaemonError};
use crate::doctor::Finding;
use crate::files::FileError;
use crate::host::Host;
use crate::plan::{Change, PlanError};
use crate::proof::ProofError;
use crate::state::{StateError, Store};

pub use condition::{Condition, Watched};
pub use preflight::Preflight;
pub use status::{LastRun, StatusReport, status};
pub use uninstall::WARM;

/// Told of what is done while it is done.
pub trait Progress {
    /// A step begins or has ended: a stable name, and a sentence.
    fn step(&self, name: &str, sentence: &str);
    /// Something the operator should know.
    fn warning(&self, sentence: &str);
}

/// What to install.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is said of containerd.
    pub containerd: Asked,
    /// The folder with our binaries, for this process.
    pub from: PathBuf,
    /// The folder on the node for them.
    pub prefix: Option<PathBuf>,
    /// Engines to make handlers for, with the handler's name; all whose binaries are there if none.
    pub handlers: Vec<(Engine, String)>,
    /// Handlers of runwasi's and Spin's may be taken over.
    pub take_over: bool,
    /// All images of the node are to be pulled without the transfer service.
    pub local_pull: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What to restart containerd with, instead of the node's service manager.
    pub restart_command: Option<String>,
    /// How long containerd may take to come back, and the probes to run.
    pub patience: Option<Duration>,
    /// Do not run probe containers.
    pub skip_probe: bool,
    /// Go on in spite of what preflight found.
    pub force: bool,
}

/// How to take it off.
#[derive(Clone, Debug)]
pub struct Removal {
    /// What is said of containerd.
    pub containerd: Asked,
    /// The folder on the node with our binaries, if it is not known.
    pub prefix: Option<PathBuf>,
    /// How long to wait for pods that use the handlers.
    pub timeout: Duration,
    /// Do not wait for them.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// As for an install.
    pub restart_command: Option<String>,
    /// As for an install.
    pub patience: Option<Duration>,
}

/// What a run did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The version that is installed now; `None` after an uninstall.
    pub version: Option<String>,
    /// Names of the handlers.
    pub handlers: Vec<String>,
    /// What was changed, or would be, as unified diffs.
    pub diff: String,
    /// Something was changed.
    pub changed: bool,
    /// containerd was restarted.
    pub restarted: bool,
    /// A probe container of each handler ran.
    pub proven: bool,
    /// Versions that running pods still need.
    pub kept: Vec<String>,
}

/// Why a run did not do what it should. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The probe containers do not run, and nothing was changed for it.
    #[error("nothing was changed, since the new version does not work on this node")]
    Proof(#[from] ProofError),
    /// Another run is under way.
    #[error("another skiff-node is at work on this node")]
    Busy,
    /// The lock cannot be had.
    #[error("could not lock {}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// containerd.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// Its configuration.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Our binaries.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What we remember.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// containerd would read something else from the edited file than it should.
    #[error("{} was not changed", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What.
        #[source]
        source: Unexpected,
    },
    /// Something that containers need is missing.
    #[error("this node is not fit: {}", sentences(.0))]
    Unfit(Vec<Finding>),
    /// An engine was asked for that is not among the binaries.
    #[error("there are no binaries for the engine {}", .0.name())]
    NoEngine(Engine),
    /// The configuration was put back.
    #[error("containerd's configuration was put back: {reason}")]
    RolledBack {
        /// Why.
        reason: String,
    },
    /// The configuration was put back, and containerd does not answer all the same.
    #[error(
        "containerd's configuration was put back, and containerd still does not answer: {after}; the reason for putting it back was: {reason}"
    )]
    Down {
        /// Why it was put back.
        reason: String,
        /// What keeps containerd from answering now.
        after: String,
    },
    /// A restart failed where nothing is put back.
    #[error("containerd does not answer after its restart: {0}")]
    NoAnswer(String),
    /// Nothing known keeps containerd running.
    #[error(
        "containerd (process {0}) is kept running neither by systemd nor by OpenRC: say with --restart-command how it is restarted"
    )]
    NoManager(i32),
    /// Pods use the handlers.
    #[error("{} still run{}: {}; delete them, wait with --timeout, or give --force", plural(.0.len(), "pod"), if .0.len() == 1 { "s" } else { "" }, users(.0))]
    InUse(Vec<User>),
}

fn sentences(findings: &[Finding]) -> String {
    let each = findings.iter().map(|finding| {
        let next = finding.next_step.as_deref().unwrap_or_default();
        format!("{} ({next})", finding.finding)
    });
    each.collect::<Vec<_>>().join("; ")
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        format!("1 {word}")
    } else {
        format!("{count} {word}s")
    }
}

fn users(users: &[User]) -> String {
    let each = users.iter().map(|user| {
        let id = user.id.as_deref().unwrap_or("?");
        match &user.namespace {
            Some(namespace) => format!("{namespace}/{id} (process {})", user.pid),
            None => format!("{} (process {})", user.program, user.pid),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// A node that is installed on.
pub struct Installer<'a> {
    host: Host,
    store: Store,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for Installer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installer")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl<'a> Installer<'a> {
    /// The node whose file system is at `root`.
    pub fn new(root: &Path, progress: &'a dyn Progress) -> Self {
        let host = Host::new(root);
        Self {
            store: Store::new(&host),
            host,
            progress,
        }
    }

    /// Keeps others out for the time of a run. The lock goes with the process, however that ends.
    fn lock(&self) -> Result<File, InstallError> {
        const LOCK: &str = "/run/skiff-node.lock";
        let path = Path::new(LOCK);
        let locked = || -> io::Result<File> {
            let place = self.host.place(path)?;
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = File::options().create(true).append(true).open(place)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        locked().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => InstallError::Busy,
            _ => InstallError::Lock {
                path: path.to_owned(),
                source,
            },
        })
    }
}

/// Changes as a patch.
fn diff(changes: &[Change]) -> String {
    let each = changes.iter().map(|change| {
        let name = |text: &Option<String>, side: &str| match text {
            Some(_) => format!("{side}{}", change.path.display()),
            None => "/dev/null".to_owned(),
        };
        let before = change.before.as_deref().unwrap_or_default();
        let after = change.after.as_deref().unwrap_or_default();
        similar::TextDiff::from_lines(before, after)
            .unified_diff()
            .header(&name(&change.before, "a"), &name(&change.after, "b"))
            .to_string()
    });
    each.collect()
}
