//! What a node remembers: what is installed, what was interrupted, how the last run ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{InstallError, Report};
use crate::binaries;
use crate::doctor;
use crate::files;
use crate::host::Host;
use crate::state::{FOLDER, Store};

/// How the last run ended; an agent reads it from here.
const LAST: &str = "last.json";

/// What `skiff-node status` prints.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// The installed version.
    pub version: Option<String>,
    /// Names of the handlers.
    pub handlers: Vec<String>,
    /// A probe container of each ran.
    pub proven: bool,
    /// A run that did not end.
    pub pending: Option<String>,
    /// How the last run ended.
    pub last: Option<LastRun>,
    /// Processes by version that they run from.
    pub in_use: BTreeMap<String, Vec<i32>>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// What it was.
    pub operation: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// What was wrong, if it failed.
    pub failure: Option<String>,
}

impl std::fmt::Display for LastRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            None => write!(f, "{} went well", self.operation),
            Some(failure) => write!(f, "{} failed: {failure}", self.operation),
        }
    }
}

/// Reads what is remembered.
///
/// # Errors
/// If the state cannot be read.
pub fn status(host: &Host) -> Result<StatusReport, InstallError> {
    let state = Store::new(host).load()?;
    let mut in_use: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let installed = state.installed.as_ref();
    let prefix = installed.map_or_else(
        || Path::new(binaries::PREFIX),
        |installed| &installed.prefix,
    );
    for user in binaries::users(host, prefix) {
        in_use.entry(user.label).or_default().push(user.pid);
    }
    let last = host.read(&Path::new(FOLDER).join(LAST)).ok().flatten();
    Ok(StatusReport {
        version: installed.map(|installed| installed.label.clone()),
        handlers: installed
            .map(|installed| {
                installed
                    .handlers
                    .iter()
                    .map(|handler| handler.name.clone())
                    .collect()
            })
            .unwrap_or_default(),
        proven: installed.is_some_and(|installed| installed.proven),
        pending: state
            .pending
            .as_ref()
            .map(|pending| pending.operation.to_string()),
        last: last.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        in_use,
    })
}

/// Remembers how a run ended.
pub(super) fn remember(host: &Host, operation: &str, ended: &Result<Report, InstallError>) {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let last = LastRun {
        operation: operation.to_owned(),
        at: at.map_or(0, |since| since.as_secs()),
        failure: ended.as_ref().err().map(|error| doctor::sentence(error)),
    };
    // What cannot be remembered was said.
    if let Ok(text) = serde_json::to_string(&last) {
        files::set(host, &Path::new(FOLDER).join(LAST), Some(text.as_bytes())).ok();
    }
}
