//! A container's cgroup: made with its limits, joined at birth, killed, measured, removed.
//!
//! Called by the shim (containers) and by the cache (compile workers). A container has one directory in
//! every hierarchy of cgroup v1 that the node has mounted, and one in the unified tree: that of cgroup v2, with all
//! controllers, or of a hybrid node, which has no controllers there but can kill a whole cgroup with one write.
//! What to write where is decided by [`crate::spec::blueprint`], without I/O; here it is written.

use std::io;
use std::path::PathBuf;

pub use control::MemoryEvents;
pub use devices::{DevicePolicy, DeviceRule};
pub use directory::Cgroup;
pub use layout::{Hierarchy, Layout, Mode};
pub use plan::{CgroupPlan, Check, Setting};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, HugetlbStats, IoEntry, MemoryStats, MemoryUsage, PidsStats,
    Pressure, PressureLine, RdmaEntry, Stats, UnifiedHugetlb, UnifiedStats,
};

mod control;
mod cpuset;
pub(crate) mod devices;
mod directory;
mod layout;
mod member;
pub(crate) mod plan;
mod stats;
mod unified;
mod update;

/// What failed, on which file.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The node's cgroups could not be found out.
    #[error("could not read the node's cgroup layout from {file}")]
    Layout {
        /// The file of `/proc`.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of `/proc` that makes no sense.
    #[error("{file} has a line that is not understood: {line}")]
    Parse {
        /// The file of `/proc`.
        file: &'static str,
        /// The line.
        line: String,
    },
    /// The node has no cgroups.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A path in systemd's form that systemd would not take.
    #[error("the cgroup path {0}")]
    Scope(String),
    /// A scope that nobody has given a process for.
    #[error("the cgroup {0} is a scope of systemd, and cannot be made without a process")]
    EmptyScope(String),
    /// systemd did not do its part.
    #[error(transparent)]
    Systemd(#[from] crate::systemd::SystemdError),
    /// A path that leads elsewhere.
    #[error("the cgroup path {path:?} has a component `..`: name the cgroup directly")]
    Path {
        /// The path of the plan.
        path: String,
    },
    /// A setting for a controller that is not there.
    #[error(
        "{field} asks for the cgroup controller {controller}, which is not mounted on this node"
    )]
    NoController {
        /// The field of the spec.
        field: &'static str,
        /// The controller.
        controller: String,
    },
    /// A setting for a controller of cgroup v2 that this cgroup cannot use.
    #[error("{field} asks for the cgroup controller {controller}, which {} does not have: {reason}", directory.display())]
    NotPassedOn {
        /// The field of the spec.
        field: &'static str,
        /// The controller.
        controller: &'static str,
        /// The cgroup.
        directory: PathBuf,
        /// The rest of the sentence.
        reason: String,
    },
    /// A setting that the kernel refused.
    #[error("could not set {field}: writing {value:?} to {} was refused", file.display())]
    Setting {
        /// The field of the spec.
        field: &'static str,
        /// The file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting that the kernel took, and changed.
    #[error("could not set {field}: {} became {got} instead of {wanted}, which is the nearest that the kernel allows", file.display())]
    Clamped {
        /// The field of the spec.
        field: &'static str,
        /// The file.
        file: PathBuf,
        /// What was written.
        wanted: String,
        /// What is there.
        got: String,
    },
    /// A setting that the kernel refused, and why, as far as it can be seen.
    #[error("could not set {field} to {value}: {reason}")]
    InTheWay {
        /// The field of the spec.
        field: &'static str,
        /// What was written.
        value: String,
        /// The rest of the sentence.
        reason: String,
    },
    /// Any other failure.
    #[error("could not {operation} {}", file.display())]
    Io {
        /// What was done: `create`, `read`, `open`, `remove`.
        operation: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    fn io(operation: &'static str, file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io {
            operation,
            file,
            source,
        }
    }
}

#[cfg(test)]
mod tests;
