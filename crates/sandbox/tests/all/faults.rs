//! System calls that fail, or do nothing and say that they succeeded: by `strace --inject`.

use std::process::Command;

use skiff_engine::order::{self, ProgramOrder};
use skiff_sandbox::plan::{
    Capabilities, Identity, Namespace, NewNamespaces, Plan, Propagation, Rlimit, Root,
    SeccompFilter, Slot,
};

use crate::harness::{Alone, Image, probe, programs};

/// A plan that uses every stage of the execution.
fn plan() -> Plan {
    Plan {
        new: NewNamespaces::from_iter([Namespace::Mount, Namespace::Uts]),
        hostname: Some("inside".to_owned()),
        root: Some(Root {
            tree: Slot(1),
            mounts: Vec::new(),
            read_only: true,
            guest: true,
            propagation: Propagation::Private,
        }),
        rlimits: vec![Rlimit {
            resource: 4,
            soft: 0,
            hard: 0,
        }],
        identity: Identity {
            uid: 1000,
            gid: 100,
            groups: vec![7],
            umask: None,
        },
        capabilities: Capabilities::default(),
        no_new_privileges: true,
        // `return ALLOW`
        seccomp: Some(SeccompFilter {
            program: vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f],
            flags: 0,
        }),
        working_directory: "/etc".to_owned(),
        ..Plan::default()
    }
}

/// What a stand-in for a shim prints when `call` is tampered with as `how` says, in it and in the container.
fn launch_with(call: &str, how: &str) -> Option<String> {
    let image = Image::new();
    let order = image.path("order");
    let program = ProgramOrder {
        plan: plan(),
        program: order::Command::Slot(Slot(0)),
        args: vec!["program".to_owned(), "exit".to_owned(), "0".to_owned()],
        env: Vec::new(),
    };
    std::fs::write(&order, postcard::to_stdvec(&program).unwrap()).unwrap();
    let output = Command::new("timeout")
        .args([
            "--signal=KILL",
            "20",
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
        ])
        .args([
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:{how}"),
        ])
        .arg(probe())
        .arg("launcher")
        .arg(programs().join("skiff-init"))
        .args([order, image.root()])
        .output();
    match output {
        Ok(output) if output.status.code() != Some(127) => {
            Some(String::from_utf8(output.stdout).unwrap())
        }
        _ => {
            println!("skipped: there is no strace here");
            None
        }
    }
}

#[test]
fn a_call_that_fails_is_told_and_nothing_runs() {
    let _alone = Alone::new();
    for (call, sentence) in [
        ("fsopen", "could not make a private proc file system: "),
        ("unshare", "could not make new namespaces: "),
        ("sethostname", "could not set the host name inside: "),
        ("move_mount", "could not attach the root's mount: "),
        (
            "pivot_root",
            "could not make the container's root the root (pivot_root): ",
        ),
        (
            "umount2",
            "could not make the container's root the root (pivot_root): ",
        ),
        (
            "getcwd",
            "could not ask for the path of the working directory /etc: ",
        ),
        ("setgroups", "could not set the supplementary groups [7]: "),
        ("setresgid", "could not become group 100: "),
        ("setresuid", "could not become user 1000: "),
        ("capset", "could not set the capabilities: "),
        (
            "seccomp",
            "could not load the container's seccomp profile: ",
        ),
    ] {
        let Some(output) = launch_with(call, "error=EPERM") else {
            return;
        };
        assert!(
            output.contains(&format!("Failed(\"{sentence}")),
            "{call}: {output}"
        );
        assert!(
            output.contains("Operation not permitted"),
            "{call}: {output}"
        );
    }
    // Calls that the shim makes too, and before: it tells.
    for call in [
        "open_tree",
        "mount_setattr",
        "memfd_create",
        "socketpair",
        "clone3",
    ] {
        let Some(output) = launch_with(call, "error=EPERM") else {
            return;
        };
        assert!(output.starts_with("failed: "), "{call}: {output}");
    }
}

#[test]
fn a_call_that_only_says_it_succeeded_is_noticed() {
    let _alone = Alone::new();
    for (call, key) in [
        ("setresuid", "Uid is 0 0 0 0, and not 1000"),
        ("setresgid", "Gid is 0 0 0 0, and not 100"),
        ("setgroups", "Groups is"),
        ("capset", "CapPrm is"),
        ("seccomp", "Seccomp is 0, and not 2"),
    ] {
        let Some(output) = launch_with(call, "retval=0") else {
            return;
        };
        assert!(
            output.contains("Failed(\"the process did not become what the container is to be"),
            "{call}: {output}"
        );
        assert!(output.contains(key), "{call}: {output}");
    }
}
