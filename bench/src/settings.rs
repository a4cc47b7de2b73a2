//! What the command line asks for, and where the bench's things are.

use std::path::PathBuf;

use anyhow::Result;

use crate::measurement::Outcome;
use crate::runtime::Runtime;

/// Handed to every scenario.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Fewer rounds, smaller numbers: proof that it works, and a first impression.
    pub quick: bool,
    /// Rounds of a scenario that starts one container after the other.
    pub rounds: usize,
    /// The directory of Skiff's binaries.
    pub skiff: PathBuf,
    /// A directory on the bench's own tmpfs, in its own mount namespace; gone when the bench ends.
    pub place: PathBuf,
    /// The bench's name: parent of all its cgroups, containerd namespace, part of ids.
    pub name: String,
    /// The only runtimes that are wanted; empty for all.
    pub runtimes: Vec<Runtime>,
}

impl Settings {
    /// Whether a runtime is to be measured.
    pub fn wants(&self, runtime: Runtime) -> bool {
        self.runtimes.is_empty() || self.runtimes.contains(&runtime)
    }
}

/// A scenario's name, and what carries it out.
pub type Scenario = (&'static str, fn(&Settings) -> Result<Outcome>);
