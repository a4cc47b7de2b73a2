//! Capabilities: those of containerd, which its shims inherit, and those of the command itself.

use std::fs;

use super::Finding;

/// Who may do what.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Effective capabilities of this command.
    pub own: u64,
    /// Those of containerd, when it was found.
    pub containerd: Option<u64>,
    /// containerd's setting of that name, when its configuration could be read.
    pub restrict_oom_score_adj: Option<bool>,
    /// A kubelet lives on this node.
    pub kubelet: bool,
}

/// Names in the order of their numbers (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What the shim itself cannot work without.
const NEEDED: [&str; 7] = [
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "DAC_OVERRIDE",
    "CHOWN",
];
/// What containerd gives to a container by default, beside those.
const USUAL: [&str; 8] = [
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETFCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "AUDIT_WRITE",
];

fn bit(name: &str) -> u64 {
    NAMES
        .iter()
        .position(|known| *known == name)
        .map_or(0, |number| 1 << number)
}

/// The effective capabilities of this process.
pub fn own() -> u64 {
    of_process("self").unwrap_or(0)
}

/// Whether this process may make mounts, which opening the cache takes (its entries are handed out through a
/// read-only mount).
pub fn may_mount() -> bool {
    own() & bit("SYS_ADMIN") != 0
}

/// The effective capabilities of the process of which `/proc/<pid>/status` tells.
pub(super) fn of_process(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Findings on what containerd's shims may do, and on one known trap.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let (whose, set) = facts
        .containerd
        .map_or(("this command", facts.own), |set| ("containerd", set));
    vec![
        needed(whose, set),
        usual(whose, set),
        oom_score(whose, set, facts),
    ]
}

fn missing(names: &[&str], set: u64) -> String {
    let missing: Vec<String> = names
        .iter()
        .filter(|name| set & bit(name) == 0)
        .map(|name| format!("CAP_{name}"))
        .collect();
    missing.join(", ")
}

fn needed(whose: &str, set: u64) -> Finding {
    let id = "privileges.needed";
    let missing = missing(&NEEDED, set);
    if missing.is_empty() {
        return Finding::ok(
            id,
            format!("{whose} has the capabilities that a shim needs"),
        );
    }
    Finding::fail(
        id,
        format!("{whose} lacks {missing}; no container can be made"),
        "run containerd as root with its full capabilities (no CapabilityBoundingSet= in its unit)",
    )
}

fn usual(whose: &str, set: u64) -> Finding {
    let id = "privileges.usual";
    let missing = missing(&USUAL, set);
    if missing.is_empty() {
        return Finding::ok(
            id,
            format!("{whose} has the capabilities that pods usually get"),
        );
    }
    Finding::warn(
        id,
        format!("{whose} lacks {missing}; containers that ask for them are refused"),
        "give them to containerd, or drop them in the pods' securityContext",
    )
}

fn oom_score(whose: &str, set: u64, facts: &Facts) -> Finding {
    let id = "privileges.oom_score_adj";
    let cure =
        "set restrict_oom_score_adj = true in containerd's CRI plugin and restart containerd";
    if set & bit("SYS_RESOURCE") != 0 {
        return Finding::ok(
            id,
            format!("{whose} has CAP_SYS_RESOURCE (oom_score_adj and rlimits can be set freely)"),
        );
    }
    let lacks = format!("{whose} lacks CAP_SYS_RESOURCE");
    match facts.restrict_oom_score_adj {
        Some(true) => Finding::ok(
            id,
            format!("{lacks}; restrict_oom_score_adj is set, so that pods start nevertheless"),
        ),
        Some(false) if facts.kubelet => Finding::fail(
            id,
            format!(
                "{lacks} and restrict_oom_score_adj is off; pods are refused, since their oom_score_adj of -998 cannot be written"
            ),
            cure,
        ),
        _ => Finding::warn(
            id,
            format!(
                "{lacks}; pods of Kubernetes are refused, since their oom_score_adj of -998 cannot be written"
            ),
            cure,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    fn status_of(facts: &Facts, id: &str) -> Option<Status> {
        judge(facts)
            .into_iter()
            .find(|finding| finding.id == id)
            .map(|finding| finding.status)
    }

    #[test]
    fn bits_are_those_of_the_kernel() {
        for (name, number) in [
            ("CHOWN", 0),
            ("SYS_ADMIN", 21),
            ("SYS_RESOURCE", 24),
            ("AUDIT_WRITE", 29),
            ("SETFCAP", 31),
            ("CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(bit(name), 1 << number, "{name}");
        }
        for name in NEEDED.iter().chain(&USUAL) {
            assert_ne!(bit(name), 0, "{name} is not a capability");
        }
    }

    fn without(name: &str) -> u64 {
        ALL & !bit(name)
    }

    const WHOLE: Facts = Facts {
        own: ALL,
        containerd: Some(ALL),
        restrict_oom_score_adj: Some(false),
        kubelet: true,
    };

    #[test]
    fn capabilities_are_judged_on_containerd_or_else_on_this_command() {
        use Status::{Fail, Ok, Warn};
        let containerd = |set| Facts {
            containerd: Some(set),
            ..WHOLE
        };
        let alone = |own| Facts {
            own,
            containerd: None,
            ..WHOLE
        };
        let table = [
            ("privileges.needed", WHOLE, Some(Ok)),
            ("privileges.needed", Facts { own: 0, ..WHOLE }, Some(Ok)),
            (
                "privileges.needed",
                containerd(without("SYS_ADMIN")),
                Some(Fail),
            ),
            ("privileges.needed", alone(without("SETPCAP")), Some(Fail)),
            ("privileges.usual", WHOLE, Some(Ok)),
            (
                "privileges.usual",
                containerd(without("NET_RAW")),
                Some(Warn),
            ),
        ];
        for (id, facts, expected) in table {
            assert_eq!(status_of(&facts, id), expected, "{id} of {facts:x?}");
        }
    }

    #[test]
    fn without_sys_resource_pods_need_restrict_oom_score_adj() {
        use Status::{Fail, Ok, Warn};
        let lacking = without("SYS_RESOURCE");
        let table = [
            (ALL, Some(false), true, Ok),
            (lacking, Some(true), true, Ok),
            (lacking, Some(false), true, Fail),
            (lacking, Some(false), false, Warn),
            (lacking, None, true, Warn),
        ];
        for (set, restrict_oom_score_adj, kubelet, expected) in table {
            let facts = Facts {
                own: ALL,
                containerd: Some(set),
                restrict_oom_score_adj,
                kubelet,
            };
            let status = status_of(&facts, "privileges.oom_score_adj");
            assert_eq!(status, Some(expected), "{facts:x?}");
        }
    }
}
