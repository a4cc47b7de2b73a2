//! What the command line asks for, and where the bench's things are.

use std::path::PathBuf;

use anyhow::Result;

use crate::measurement::Outcome;
use crate::runtime::Runtime;

/// Handed to every scenario.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Fewer rounds, smaller numbers: proof that it works, and a first impression.
    pub(crate) quick: bool,
    /// Rounds of a scenario that starts one container after the other.
    pub(crate) rounds: usize,
    /// The directory of Skiff's binaries.
    pub(crate) skiff: PathBuf,
    /// A directory on the bench's own tmpfs, in its own mount namespace; gone when the bench ends.
    pub(crate) place: PathBuf,
    /// The bench's name: parent of all its cgroups, containerd namespace, part of ids.
    pub(crate) name: String,
    /// The only runtimes that are wanted; empty for all.
    pub(crate) runtimes: Vec<Runtime>,
}

impl Settings {
    /// Whether a runtime is to be measured.
    pub(crate) fn wants(&self, runtime: Runtime) -> bool {
        self.runtimes.is_empty() || self.runtimes.contains(&runtime)
    }
}

/// A scenario's name, and what carries it out.
pub(crate) type Scenario = (&'static str, fn(&Settings) -> Result<Outcome>);
