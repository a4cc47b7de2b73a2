//! What is left of the host's powers once its guest runs.

use std::collections::BTreeSet;

use crate::harness::Container;
use crate::programs::{Target, container};

fn status_of(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn a_running_host_has_one_thread_and_a_filter() {
    let container = Container::new(r#"(module (func (export "_start") (loop br 0)))"#).start();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = container.launched.pid;
    assert_eq!(status_of(pid, "Threads"), "1");
    assert_eq!(status_of(pid, "Seccomp:"), "2");
    assert_eq!(status_of(pid, "NoNewPrivs"), "1");
    container.signal(15);
    assert_eq!(container.wait().code(), 143);
}

/// The system calls that the host makes for a guest, none of which may be refused. By `strace`.
fn calls(container: impl FnOnce(&std::path::Path) -> Container) -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let outcome = container(&log).run();
    let log = std::fs::read_to_string(log).unwrap();
    // From the filter on. A line is "<pid> <call>(<arguments>) = <result>".
    let (_, guest) = log.rsplit_once("seccomp(SECCOMP_SET_MODE_FILTER").unwrap();
    let mut calls = BTreeSet::new();
    for line in guest.lines().skip(1) {
        let Some((name, rest)) = line
            .split_once(' ')
            .and_then(|(_, call)| call.trim_start().split_once('('))
        else {
            continue;
        };
        // What the C library would like for threads, and does without: their names, robust locks,
        // a signal for changing ids in all of them.
        let extra = ["prctl", "rt_sigaction", "set_robust_list"].contains(&name);
        let refused = rest.contains("= -1 EPERM") && !extra;
        assert!(!refused, "refused: {line}");
        calls.insert(name.to_owned());
    }
    assert_eq!(outcome.code(), 0, "{outcome:?}\n{log}");
    calls
}

#[test]
fn nothing_that_a_program_needs_is_refused() {
    let mut all = BTreeSet::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    for (target, commands) in [
        (Target::Module, &[&["files"][..], &["clocks"]][..]),
        (
            Target::Component,
            &[
                &["files"],
                &["clocks"],
                &["lookup", "localhost", "10.1.2.3"],
                &["tcp", &tcp],
            ],
        ),
    ] {
        for command in commands {
            let calls = calls(|log| container(target, command).traced(log));
            println!(
                "{target:?} {command:?}: {}",
                calls.iter().cloned().collect::<Vec<_>>().join(" ")
            );
            all.extend(calls);
        }
    }
    assert!(all.len() <= 60, "{} calls: {all:?}", all.len());
}
