//! What a cgroup shall be: plain data, made without I/O by [`crate::spec::blueprint`] or by the cache.

use super::{DevicePolicy, Layout, Mode};

/// A cgroup to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupPlan {
    /// Where: absolute, from the root of each hierarchy; relative, below the cgroup of the process that
    /// makes it; or `slice:prefix:name`, a scope of systemd.
    pub path: String,
    /// What to write once the directories are there, in this order.
    pub settings: Vec<Setting>,
    /// Which devices its processes may use. v1 has files for it, which are among the settings as well.
    pub devices: Option<DevicePolicy>,
}

/// One write to a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose hierarchy has the file; `cgroup` for a file that every cgroup of v2 has.
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
    /// Some kernels have this file instead, with another number as the last word of the value.
    OrNumber(&'static str, u64),
    /// The value is the second word of the file; the first stays as it is. For the period of `cpu.max`.
    SecondWord,
}

/// The name of the controller of settings that need none.
pub(crate) const CORE: &str = "cgroup";

impl CgroupPlan {
    /// A cgroup without limits.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            settings: Vec::new(),
            devices: None,
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

    /// Drops the settings whose controller is not on the node, and puts the others in the words of cgroup v2 where
    /// it has that. For cgroups of our own, whose limits are a precaution; a container's limits are refused instead.
    #[must_use]
    pub fn where_possible(mut self, layout: &Layout) -> Self {
        if layout.mode == Mode::V2 {
            self.settings = self.settings.into_iter().filter_map(unified).collect();
        }
        self.settings
            .retain(|setting| layout.has(setting.controller));
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

/// A setting of ours in the words of cgroup v2; `None` if there is nothing to say there.
fn unified(mut setting: Setting) -> Option<Setting> {
    let (file, value) = match setting.file.as_str() {
        "memory.limit_in_bytes" => ("memory.max", setting.value),
        // For memory and swap together, and the same as for memory alone.
        "memory.memsw.limit_in_bytes" => ("memory.swap.max", "0".to_owned()),
        "cpu.shares" => {
            let shares = setting.value.parse().ok()?;
            ("cpu.weight", weight_of_shares(shares).to_string())
        }
        // A cgroup is made with the period that is asked for here.
        "cpu.cfs_quota_us" => ("cpu.max", setting.value),
        "pids.max" => ("pids.max", setting.value),
        _ => return None,
    };
    file.clone_into(&mut setting.file);
    setting.value = value;
    Some(setting)
}

/// `cpu.weight` (1 to 10,000, at first 100) that stands for `cpu.shares` (2 to 262,144, at first 1,024).
///
/// The curve that runc 1.3.2, crun 1.23 and the Kubernetes documentation have agreed on: a parabola between the
/// logarithms, through the least, the greatest and the usual values. It is linear no more, as it was before, since
/// that made a processor's worth of shares (1,024) 39 of 100.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    let shares = match u32::try_from(shares) {
        Ok(0..=2) => return 1,
        Ok(shares) if shares < 262_144 => shares,
        _ => return 10_000,
    };
    let logarithm = f64::from(shares).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10,000, as the shares are between 2 and 262,144"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_shares() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (102_400, 4_429),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        let all: Vec<u64> = (2..262_144).map(weight_of_shares).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn our_own_limits_in_the_words_of_v2() {
        let layout = Layout {
            mode: Mode::V2,
            hierarchies: Vec::new(),
            unified: Some(super::super::Hierarchy {
                controllers: vec!["memory".to_owned(), "cpu".to_owned()],
                mount: "/c".into(),
                own: "/c".into(),
            }),
        };
        let plan = CgroupPlan::new("/a").memory(5).pids(6).cpu_shares(1024);
        let written: Vec<_> = plan
            .where_possible(&layout)
            .settings
            .into_iter()
            .map(|setting| format!("{} {}", setting.file, setting.value))
            .collect();
        assert_eq!(
            written,
            ["memory.max 5", "memory.swap.max 0", "cpu.weight 100"]
        );
    }
}
