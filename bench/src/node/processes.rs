//! Which processes are a pod's, and what memory they have.

use std::collections::BTreeMap;
use std::fs;

use skiff_test::Node;

/// What a process is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The shim, and helpers that it has forked.
    Shim,
    /// The process that holds the pod's namespaces.
    Pause,
    /// The container: the engine with its guest, or the native program.
    Container,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Shim, Self::Pause, Self::Container];

    /// As reports write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Pause => "pause",
            Self::Container => "container",
        }
    }
}

/// Memory of one or more processes, in megabytes of 1,000,000 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Its pages, those that it shares divided by the number of sharers.
    pub(super) pss: f64,
    /// Pages that it alone has, and has written.
    pub(super) private_dirty: f64,
    /// How many processes.
    pub(super) count: usize,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.pss += other.pss;
        self.private_dirty += other.private_dirty;
        self.count += other.count;
    }
}

/// The memory of each role in each pod. `pods` are the ids of pod and container.
pub(super) fn memory(node: &Node, pods: &[(String, String)]) -> Vec<BTreeMap<Role, Memory>> {
    let mut found = vec![BTreeMap::<Role, Memory>::new(); pods.len()];
    for process in node.probe().processes_now() {
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (groups, arguments) = (read("cgroup"), read("cmdline"));
        // A shim names its pod in its arguments, all others are in the pod's cgroups.
        let owner = pods
            .iter()
            .enumerate()
            .find_map(|(number, (pod, container))| {
                let role = if groups.contains(container.as_str()) {
                    Role::Container
                } else if groups.contains(pod.as_str()) {
                    Role::Pause
                } else if arguments.contains(pod.as_str()) {
                    Role::Shim
                } else {
                    return None;
                };
                Some((number, role))
            });
        if let Some((number, role)) = owner {
            *found[number].entry(role).or_default() += of(&read("smaps_rollup"));
        }
    }
    found
}

fn of(rollup: &str) -> Memory {
    let field = |name: &str| -> f64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        kibibytes.unwrap_or(0.0) * 1024.0 / 1e6
    };
    Memory {
        pss: field("Pss:"),
        private_dirty: field("Private_Dirty:"),
        count: usize::from(!rollup.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let rollup = "00400000-7fff r--p 00000000 00:00 0    [rollup]\nRss:    900 kB\nPss:    250 kB\nPss_Dirty:  200 kB\nPrivate_Dirty:   125 kB\n";
        let memory = of(rollup);
        assert!((memory.pss - 0.256).abs() < 1e-9, "{memory:?}");
        assert!((memory.private_dirty - 0.128).abs() < 1e-9, "{memory:?}");
    }
}
