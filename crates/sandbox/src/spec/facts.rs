//! What a blueprint depends on besides the spec: facts of the node and of this process.

use std::fs;
use std::io;

use crate::cgroup::{CgroupError, Layout};

/// Facts of the node and of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The node's cgroups.
    pub cgroups: Layout,
    /// The capabilities that this process can give: its bounding set.
    pub capabilities: u64,
    /// The highest capability that the kernel knows.
    pub last_capability: u32,
    /// AppArmor is in force.
    pub apparmor: bool,
    /// SELinux is in force.
    pub selinux: bool,
}

/// A fact that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The node's cgroups.
    #[error("could not find out the node's cgroup layout")]
    Cgroups(#[source] CgroupError),
    /// Another file of `/proc`.
    #[error("could not read {file}")]
    Read {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Facts {
    /// The facts of now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn read() -> Result<Self, FactsError> {
        let cgroups = Layout::of_node().map_err(FactsError::Cgroups)?.clone();
        let file = "/proc/self/status";
        let status =
            fs::read_to_string(file).map_err(|source| FactsError::Read { file, source })?;
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let missing = || FactsError::Read {
            file,
            source: io::ErrorKind::InvalidData.into(),
        };
        let capabilities = bounding
            .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .ok_or_else(missing)?;
        let file = "/proc/sys/kernel/cap_last_cap";
        let last = fs::read_to_string(file).map_err(|source| FactsError::Read { file, source })?;
        let missing = || FactsError::Read {
            file,
            source: io::ErrorKind::InvalidData.into(),
        };
        let last_capability = last.trim().parse().map_err(|_| missing())?;
        let says_yes = |file: &str| fs::read(file).is_ok_and(|text| text.first() == Some(&b'Y'));
        Ok(Self {
            capabilities,
            last_capability,
            apparmor: says_yes("/sys/module/apparmor/parameters/enabled"),
            selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            cgroups,
        })
    }
}
