//! What a cgroup shall be: plain data, made without I/O by [`crate::spec::blueprint`] or by the cache.

use super::Layout;

/// A cgroup to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupPlan {
    /// Where: absolute, from the root of each hierarchy; relative, below the cgroup of the process that
    /// makes it.
    pub path: String,
    /// What to write once the directories are there, in this order.
    pub settings: Vec<Setting>,
}

/// One write to a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose hierarchy has the file.
    pub controller: &'static str,
    /// The file's name.
    pub file: String,
    /// What is written, as one write.
    pub value: String,
    /// What the user calls it, for messages: `linux.resources.memory.limit`.
    pub field: &'static str,
    /// What the kernel may make of it.
    pub check: Check,
}

/// What to do about a kernel that has the file not, or takes another value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// The write must succeed.
    #[default]
    Written,
    /// The write must succeed and the file read the same: the kernel clamps some values in silence.
    ReadBack,
    /// The file exists on some kernels only, and nothing is lost without it.
    IfPresent,
    /// Some kernels have this file instead.
    OrFile(&'static str),
}

impl CgroupPlan {
    /// A cgroup without limits.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            settings: Vec::new(),
        }
    }

    /// Limits memory and, where the kernel counts it, memory and swap together to `bytes`.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.with(
            "memory",
            "memory.limit_in_bytes",
            bytes,
            "memory limit",
            Check::Written,
        )
        .with(
            "memory",
            "memory.memsw.limit_in_bytes",
            bytes,
            "memory and swap limit",
            Check::IfPresent,
        )
    }

    /// Limits the number of processes and threads.
    #[must_use]
    pub fn pids(self, count: u64) -> Self {
        self.with("pids", "pids.max", count, "process limit", Check::Written)
    }

    /// Weight of the cgroup when processors are scarce; 1024 is the kernel's default.
    #[must_use]
    pub fn cpu_shares(self, shares: u64) -> Self {
        self.with(
            "cpu",
            "cpu.shares",
            shares,
            "processor shares",
            Check::Written,
        )
    }

    /// Drops the settings whose controller is not on the node. For cgroups of our own, whose limits are a
    /// precaution; a container's limits are refused instead.
    #[must_use]
    pub fn where_possible(mut self, layout: &Layout) -> Self {
        self.settings
            .retain(|setting| layout.hierarchy(setting.controller).is_some());
        self
    }

    fn with(
        mut self,
        controller: &'static str,
        file: &str,
        value: u64,
        field: &'static str,
        check: Check,
    ) -> Self {
        self.settings.push(Setting {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            field,
            check,
        });
        self
    }
}
