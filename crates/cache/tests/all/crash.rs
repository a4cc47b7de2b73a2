//! A publisher that is killed, or whose system calls fail, at every step: nothing of an entry is ever seen
//! but the whole of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DIRECTORY: &str = "SKIFF_TEST_CACHE";

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
                match cache.publish_bytes(&key(1), &about(), &code(300_000)) {
                    Err(error) => println!("publish: {error}"),
                    Ok(entry) => assert_eq!(bytes_of(entry), code(300_000)),
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
        assert_eq!(bytes_of(entry), code(300_000), "{when}");
    }
    // A file that could not be read is taken for a bad one.
    assert!(
        cache.quarantined().is_empty() || when.starts_with("EIO"),
        "{when}"
    );
    assert!(cache.try_lock(&key(1)).unwrap().is_some(), "{when}");
    assert_eq!(
        bytes_of(
            cache
                .publish_bytes(&key(1), &about(), &code(300_000))
                .unwrap()
        ),
        code(300_000),
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
const CALLS: &str = "mkdir,mkdirat,open,openat,open_tree,mount_setattr,getrandom,fstat,newfstatat,statx,fchmod,\
                     write,pwrite64,pread64,fsync,linkat,unlinkat,renameat2,fcntl,getdents64,utimensat";

/// Runs the child under strace, which does `inject` at the `when`th of the calls. `false` when it was not reached.
fn sweep(directory: &Path, inject: &str, when: usize) -> (bool, String) {
    // Each thread has a count of its own: only the test's own thread gets far.
    let inject = format!("inject={CALLS}:{inject}:when={when}");
    let log = directory.with_extension("strace");
    let args = [
        "-f",
        "-qq",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &format!("trace={CALLS}"),
        "-e",
        &inject,
    ];
    let program = own_program();
    let args: Vec<&str> = args.into_iter().chain([program.as_str()]).collect();
    let mut command = child_command("strace", &args, directory);
    let output = command.env("SKIFF_TEST_ONCE", "1").output().unwrap();
    let trace = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    // The longest thread is the publisher's.
    let mut counts = std::collections::HashMap::new();
    for line in trace
        .lines()
        .filter(|line| !line.contains("resumed") && line.contains('('))
    {
        *counts
            .entry(line.split_whitespace().next().unwrap_or("").to_owned())
            .or_insert(0) += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    (
        most >= when,
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr),
    )
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
    let mut calls = 0;
    for when in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let (reached, _) = sweep(directory.path(), "signal=KILL", when);
        assert_whole(directory.path(), &format!("call {when}"));
        if !reached {
            break;
        }
        calls = when;
    }
    assert!(calls > 30, "a publication has but {calls} calls?");
}

#[test]
fn every_call_fails_once() {
    if strace_is_missing() {
        return;
    }
    for error in ["ENOSPC", "EIO"] {
        let mut calls = 0;
        for when in 1.. {
            let directory = tempfile::tempdir().unwrap();
            let (reached, output) = sweep(directory.path(), &format!("error={error}"), when);
            assert!(
                !output.contains("panicked at crates/cache/src"),
                "{error} at call {when}: {output}"
            );
            assert_whole(directory.path(), &format!("{error} at call {when}"));
            if !reached {
                break;
            }
            calls = when;
        }
        assert!(calls > 30, "a publication has but {calls} calls?");
    }
}
