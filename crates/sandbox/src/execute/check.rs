//! The kernel's own word on the identity that the process has, compared with the plan.
//!
//! Runtimes have kept capabilities that a spec did not have, and wrapped user ids around; whatever the
//! reason would be here, a guest never runs with an identity that is not the plan's.

use std::os::fd::OwnedFd;

use super::ExecuteError;
use super::procfs::read_to_end;
use crate::plan::Plan;

/// Aborts on the first difference. `status` is the process's own `/proc/self/status`.
pub(super) fn compare(plan: &Plan, status: &OwnedFd) -> Result<(), ExecuteError> {
    let text =
        read_to_end(status).map_err(ExecuteError::step(|| "read the process's status back"))?;
    difference(plan, &text).map_or(Ok(()), |sentence| Err(ExecuteError::Refused(sentence)))
}

fn difference(plan: &Plan, status: &str) -> Option<String> {
    let identity = &plan.identity;
    let capabilities = &plan.capabilities;
    let mut groups = identity.groups.clone();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    let mask = |set: u64| format!("{set:016x}");
    let mut expected = vec![
        ("Uid", vec![identity.uid.to_string(); 4]),
        ("Gid", vec![identity.gid.to_string(); 4]),
        ("Groups", groups),
        ("CapInh", vec![mask(capabilities.inheritable)]),
        ("CapPrm", vec![mask(capabilities.permitted)]),
        ("CapEff", vec![mask(capabilities.effective)]),
        ("CapBnd", vec![mask(capabilities.bounding)]),
        ("CapAmb", vec![mask(capabilities.ambient)]),
        ("Threads", vec!["1".to_owned()]),
        (
            "NoNewPrivs",
            vec![u8::from(plan.no_new_privileges).to_string()],
        ),
    ];
    if plan.seccomp.is_some() {
        // 2: a filter is in force.
        expected.push(("Seccomp", vec!["2".to_owned()]));
    }
    expected.into_iter().find_map(|(key, expected)| {
        let found = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let found: Option<Vec<&str>> = found.map(|values| values.split_whitespace().collect());
        match found {
            Some(found) if found == expected => None,
            found => Some(format!(
                "the process did not become what the container is to be: {key} is {}, and not {}",
                found.map_or_else(|| "missing".to_owned(), |found| found.join(" ")),
                expected.join(" ")
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Capabilities, Identity, SeccompFilter};

    fn plan() -> Plan {
        Plan {
            identity: Identity {
                uid: 1000,
                gid: 100,
                groups: vec![20, 7],
                umask: None,
            },
            capabilities: Capabilities {
                bounding: 0x400,
                effective: 0,
                permitted: 0,
                inheritable: 0,
                ambient: 0,
            },
            no_new_privileges: true,
            seccomp: Some(SeccompFilter {
                program: Vec::new(),
                flags: 0,
            }),
            ..Plan::default()
        }
    }

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nGroups:\t7 20 \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000400\nCapAmb:\t0000000000000000\nThreads:\t1\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn equal_is_equal() {
        assert_eq!(difference(&plan(), STATUS), None);
    }

    #[test]
    fn every_line_counts() {
        for (right, wrong) in [
            ("Uid:\t1000\t1000\t1000\t1000", "Uid:\t1000\t1000\t0\t1000"),
            ("Gid:\t100\t100\t100\t100", "Gid:\t100\t0\t100\t100"),
            ("Groups:\t7 20 ", "Groups:\t0 7 20 "),
            ("CapInh:\t0", "CapInh:\t8"),
            ("CapPrm:\t0", "CapPrm:\t8"),
            ("CapEff:\t0", "CapEff:\t8"),
            ("CapBnd:\t0000000000000400", "CapBnd:\t000001ffffffffff"),
            ("CapAmb:\t0", "CapAmb:\t8"),
            ("Threads:\t1", "Threads:\t2"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp:\t2\n", ""),
        ] {
            let status = STATUS.replace(right, wrong);
            assert_ne!(status, STATUS);
            let sentence = difference(&plan(), &status).unwrap();
            assert!(
                sentence.contains(right.split(':').next().unwrap()),
                "{sentence}"
            );
        }
    }
}
