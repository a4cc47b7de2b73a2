//! System calls that fail: each of those that `Create` makes, at each of its first times, in the shim and in
//! the process that it launches. Whatever fails, the answer is a sentence or a container, never a hang, and
//! nothing is left. Needs strace, which makes the calls fail.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::{Containerd, Shim, Spec, eventually, is_alive, refusal};

/// The calls, the error they get, and how many times of each are tried.
const FAULTS: &[(&str, &str, u32)] = &[
    ("openat", "EMFILE", 12),
    ("open", "EIO", 4),
    ("openat2", "EIO", 6),
    ("mkdir", "ENOSPC", 4),
    ("rename", "ENOSPC", 1),
    ("memfd_create", "ENFILE", 3),
    ("socketpair", "EMFILE", 2),
    ("clone3", "EAGAIN", 2),
    ("fsopen", "EPERM", 4),
    ("fsconfig", "EINVAL", 6),
    ("fsmount", "EINVAL", 4),
    ("open_tree", "ENOMEM", 5),
    ("mount_setattr", "EINVAL", 4),
    ("move_mount", "EINVAL", 3),
    ("pivot_root", "EINVAL", 1),
    ("setns", "EPERM", 1),
    ("prctl", "EPERM", 4),
    ("capset", "EPERM", 2),
    ("seccomp", "EINVAL", 1),
    ("execveat", "ENOEXEC", 1),
];

/// strace at the shim, which makes one call fail.
struct Injection(Child);

impl Injection {
    fn new(shim: &Shim, call: &str, error: &str, time: u32) -> Self {
        Self::with(shim, call, &format!("error={error}"), time)
    }

    fn with(shim: &Shim, call: &str, fault: &str, time: u32) -> Self {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"));
        strace
            .arg("-e")
            .arg(format!("inject={call}:{fault}:when={time}"));
        strace.arg("-p").arg(shim.pid().to_string());
        let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(strace.stderr.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("attached"), "{line}");
        Self(strace)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It lets go of what it traces when it is asked to end.
        crate::harness::kill(self.0.id(), 15);
        self.0.wait().unwrap();
    }
}

/// The suite of the whole repository installs it.
fn has_strace() -> bool {
    let mut strace = Command::new("strace");
    strace.arg("-V").stdout(Stdio::null()).status().is_ok()
}

#[test]
fn every_call_of_create_fails_once() {
    if !has_strace() {
        return;
    }
    let (mut failed, mut survived) = (0, 0);
    for (call, error, times) in FAULTS {
        for time in 1..=*times {
            let containerd = Containerd::new();
            containerd.make(&Spec::guest("c", "exit 0"));
            let shim = containerd.shim("c");
            let injection = Injection::new(&shim, call, error, time);
            let created = shim.create(&containerd.request("c"));
            drop(injection);
            if created.is_ok() {
                survived += 1;
                shim.delete("c").unwrap();
            } else {
                failed += 1;
                assert!(
                    shim.is_alive(),
                    "{call} {time}: the shim is gone: {created:?}\n{}",
                    containerd.log("c")
                );
                let (_, sentence) = refusal(created);
                let told = format!("{call} {time}: {sentence}");
                assert!(
                    sentence.starts_with("could not create container c: ")
                        && !sentence.contains('\n'),
                    "{told}"
                );
                assert!(containerd.cgroups().is_empty(), "{told}");
            }
            shim.shutdown();
            drop(shim);
            containerd.assert_clean();
        }
    }
    // Most of them matter: a list that has grown stale shows here.
    assert!(
        failed > survived / 2,
        "{failed} failed, {survived} made no difference"
    );
}

/// A shim that is killed when it has just made a directory above its cgroup, and has not marked it as its own yet.
#[test]
fn killed_before_a_directory_is_marked() {
    if !has_strace() {
        return;
    }
    for time in 1.. {
        let containerd = Containerd::new();
        containerd.make(&Spec::guest("c", "exit 0"));
        let shim = containerd.shim("c");
        let daemon = shim.pid();
        let injection = Injection::with(&shim, "setxattr", "signal=KILL", time);
        let created = shim.create(&containerd.request("c"));
        // There are as many marks as this node has hierarchies.
        if created.is_ok() {
            assert!(time > 1, "no mark was ever made");
            drop(injection);
            shim.crash();
            containerd.call_delete("c");
            containerd.assert_clean();
            return;
        }
        assert!(!containerd.cgroups().is_empty(), "{time}: {created:?}");
        let alive = || format!("the daemon {daemon} survives SIGKILL");
        eventually(|| !is_alive(daemon), alive);
        drop(injection);
        assert_eq!(containerd.call_delete("c").exit_status, 137);
        containerd.assert_clean();
    }
}
