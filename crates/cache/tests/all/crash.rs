//! A publisher that is killed, or whose system calls fail, at every step: nothing of an entry is ever seen
//! but the whole of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Some chunks of verification.
const LENGTH: usize = 70_000;

const DIRECTORY: &str = "SKIFF_TEST_CHILD_CACHE";

/// The publisher, in a process of its own; does nothing when run as a test.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let begin = Instant::now();
    // A few rounds, so that a kill by the clock meets all steps; all for one key.
    while begin.elapsed() < Duration::from_millis(300) {
        match Cache::open(&settings(Path::new(&directory), 1 << 30)) {
            Err(error) => println!("open: {error}"),
            Ok(cache) => {
                match cache.publish_bytes(&key(1), &about(), &code(LENGTH)) {
                    Err(error) => println!("publish: {error}"),
                    Ok(entry) => assert_eq!(bytes_of(entry), code(LENGTH)),
                }
                if std::env::var_os("SKIFF_TEST_ONCE").is_some() {
                    return;
                }
                cache.remove(&key(1)).unwrap();
            }
        }
        if std::env::var_os("SKIFF_TEST_ONCE").is_some() {
            return;
        }
    }
}

fn child_command(program: &str, args: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .args(["--exact", "crash::child", "--test-threads", "1"]);
    command
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Nothing, or the whole entry; and the cache is as good as new.
fn assert_whole(directory: &Path, when: &str) {
    if let Ok(entries) = std::fs::read_dir(directory.join("entries")) {
        for entry in entries {
            assert_eq!(
                entry.unwrap().file_name().to_str().unwrap(),
                key(1).to_string(),
                "{when}"
            );
        }
    }
    let cache = Cache::open(&settings(directory, 1 << 30)).unwrap();
    if let Some(entry) = cache.lookup(&key(1)).unwrap() {
        assert_eq!(bytes_of(entry), code(LENGTH), "{when}");
    }
    // A file that could not be read is taken for a bad one.
    assert!(
        ["EIO", "pread64", "fstat"]
            .iter()
            .any(|cause| when.contains(cause))
            || cache.quarantined().is_empty(),
        "{when}"
    );
    assert!(cache.try_lock(&key(1)).unwrap().is_some(), "{when}");
    assert_eq!(
        bytes_of(
            cache
                .publish_bytes(&key(1), &about(), &code(LENGTH))
                .unwrap()
        ),
        code(LENGTH),
        "{when}"
    );
    cache.remove(&key(1)).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["entries", "locks", "quarantine", "secret"],
        "{when}"
    );
}

fn own_program() -> String {
    std::env::current_exe()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn killed_at_any_time() {
    let program = own_program();
    let fixture = Fixture::new();
    for round in 0..60u64 {
        let mut child = child_command(&program, &[], fixture.directory.path())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(3_000 + round * 1_300 % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole(fixture.directory.path(), &format!("round {round}"));
    }
}

/// The calls that a publication consists of.
const CALLS: [&str; 19] = [
    "mkdir",
    "mkdirat",
    "open",
    "openat",
    "open_tree",
    "mount_setattr",
    "getrandom",
    "fstat",
    "newfstatat",
    "fchmod",
    "write",
    "pwrite64",
    "pread64",
    "fsync",
    "linkat",
    "unlinkat",
    "renameat2",
    "fcntl",
    "getdents64",
];

/// Runs the child under strace once for every call that a publication makes, does `fault` there, and looks at
/// what is left. Gives how many calls those were.
fn sweep(fault: &str) -> usize {
    let mut calls = 0;
    for call in CALLS {
        for when in 1.. {
            let place = tempfile::tempdir().unwrap();
            let log = place.path().join("strace");
            let directory = place.path().join("cache");
            let inject = format!("inject={call}:{fault}:when={when}");
            let trace = format!("trace={call}");
            let program = own_program();
            let args = [
                "-f",
                "-qq",
                "-o",
                log.to_str().unwrap(),
                "-e",
                &trace,
                "-e",
                &inject,
                &program,
            ];
            let mut command = child_command("strace", &args, &directory);
            let output = command.env("SKIFF_TEST_ONCE", "1").output().unwrap();
            let what = format!("{fault} at call {when} of {call}");
            for text in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(text);
                assert!(
                    !text.contains("panicked at crates/cache/src"),
                    "{what}: {text}"
                );
            }
            assert_whole(&directory, &what);
            // Every thread has a count of its own; the publisher's is the highest.
            let trace = std::fs::read_to_string(&log).unwrap();
            let mut counts = std::collections::HashMap::new();
            for line in trace
                .lines()
                .filter(|line| line.contains(&format!(" {call}(")))
            {
                *counts
                    .entry(line.split(' ').next().unwrap_or("").to_owned())
                    .or_insert(0) += 1;
            }
            if counts.values().copied().max().unwrap_or(0) < when {
                break;
            }
            calls += 1;
        }
    }
    calls
}

fn strace_is_missing() -> bool {
    let missing = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err();
    if missing {
        std::io::Write::write_all(
            &mut std::io::stdout(),
            b"skipped: strace is not installed\n",
        )
        .unwrap();
    }
    missing
}

#[test]
fn killed_at_every_call() {
    if strace_is_missing() {
        return;
    }
    let calls = sweep("signal=KILL");
    assert!(calls > 30, "a publication has but {calls} calls?");
}

#[test]
fn every_call_fails_once() {
    if strace_is_missing() {
        return;
    }
    for fault in ["error=ENOSPC", "error=EIO"] {
        let calls = sweep(fault);
        assert!(calls > 30, "a publication has but {calls} calls?");
    }
}
