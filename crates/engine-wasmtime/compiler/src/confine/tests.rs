//! The filter at work, in children of the test: what compiling needs is there, what it forbids, it forbids for good.

use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use skiff_engine::options::{CodeOptions, OptLevel};

use super::*;
use crate::{compile, files, input};

/// Set in a child that is to confine itself and then try something.
const ATTEMPT: &str = "SKIFF_TEST_ATTEMPT";
/// Exit code of a child whose attempt was refused with an error.
const REFUSED: i32 = 41;
/// Exit code of a child whose attempt succeeded.
const DONE: i32 = 42;

const TEST: &str = "confine::tests::the_worker_is_confined";

/// Runs `attempt` in a confined child: this very test executable, running this very test.
fn try_out(attempt: &str) -> ExitStatus {
    Command::new("/proc/self/exe")
        .args([
            "--exact",
            "--quiet",
            "--nocapture",
            "--test-threads=1",
            TEST,
        ])
        .env(ATTEMPT, attempt)
        .arg0("confined")
        .output()
        .unwrap()
        .status
}

/// Reads, compiles and writes, as the worker does.
fn compiles(text: &str, threads: u16) -> bool {
    let file = || rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let (module, code) = (file(), file());
    files::write(&module, text.as_bytes()).unwrap();
    confine().unwrap();
    let bytes = files::read(&module).unwrap();
    drop(module);
    let made = compile::compile(
        &input::parse(&bytes).unwrap(),
        threads,
        OptLevel::default(),
        &CodeOptions::default(),
    )
    .unwrap();
    files::write(&code, &made).is_ok()
}

const MODULE: &str = "(module (func (export \"_start\")))";
const COMPONENT: &str = "(component (core module (func (export \"f\"))))";

fn large() -> String {
    let body = "i32.const 7 i32.const 3 i32.mul i32.const 9 i32.rem_u drop ";
    let functions: String = (0..3_000)
        .map(|_| format!("(func {})", body.repeat(20)))
        .collect();
    format!("(module {functions})")
}

#[expect(
    clippy::exit,
    reason = "a child of the test says by its code what happened"
)]
fn attempt(what: &str) -> ! {
    let done = match what {
        "module" => compiles(MODULE, 1),
        "component" => compiles(COMPONENT, 2),
        "large" => compiles(&large(), 4),
        other => {
            let pipe = rustix::pipe::pipe().unwrap();
            let program = std::fs::File::open("/bin/true").unwrap();
            let parent = rustix::process::getppid().unwrap();
            let null = std::fs::File::options()
                .write(true)
                .open("/dev/null")
                .unwrap();
            confine().unwrap();
            match other {
                "nothing" => true,
                "open" => std::fs::File::open("/etc/passwd").is_ok(),
                "write elsewhere" => rustix::io::write(&pipe.1, b"x").is_ok(),
                "send elsewhere" => {
                    rustix::net::send(&null, b"x", rustix::net::SendFlags::empty())
                        != Err(rustix::io::Errno::PERM)
                }
                "socket" => std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
                "pipe" => rustix::pipe::pipe().is_ok(),
                "memfd" => rustix::fs::memfd_create(c"x", rustix::fs::MemfdFlags::CLOEXEC).is_ok(),
                "signal" => rustix::process::test_kill_process(parent).is_ok(),
                "thread" => std::thread::spawn(|| true).join().unwrap(),
                "process" => Command::new("/bin/true").spawn().is_ok(),
                "execute" => {
                    skiff_sandbox::sys::exec::execute_fd(program.as_fd(), &[c"true"], &[]);
                    false
                }
                "chroot" => rustix::process::chroot("/").is_ok(),
                "mount" => {
                    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).is_ok()
                }
                "abort" => std::process::abort(),
                unknown => panic!("unknown attempt {unknown}"),
            }
        }
    };
    std::process::exit(if done { DONE } else { REFUSED })
}

#[test]
fn the_worker_is_confined() {
    if let Ok(what) = std::env::var(ATTEMPT) {
        attempt(&what);
    }
    let cases = [
        ("module", Ok(DONE)),
        ("component", Ok(DONE)),
        ("large", Ok(DONE)),
        ("nothing", Ok(DONE)),
        ("thread", Ok(DONE)),
        ("abort", Err(libc::SIGABRT)),
        ("open", Ok(REFUSED)),
        ("write elsewhere", Ok(REFUSED)),
        ("send elsewhere", Ok(REFUSED)),
        ("socket", Ok(REFUSED)),
        ("pipe", Ok(REFUSED)),
        ("memfd", Ok(REFUSED)),
        ("signal", Ok(REFUSED)),
        ("process", Err(libc::SIGSYS)),
        ("execute", Err(libc::SIGSYS)),
        ("chroot", Err(libc::SIGSYS)),
        ("mount", Err(libc::SIGSYS)),
    ];
    for (what, expected) in cases {
        let status = try_out(what);
        let outcome = status.code().ok_or_else(|| status.signal().unwrap_or(0));
        assert_eq!(outcome, expected, "{what}");
    }
}

#[test]
fn every_call_is_listed_once() {
    let mut seen = std::collections::BTreeSet::new();
    for allowed in CALLS {
        assert!(seen.insert(allowed.call()), "two rules: {allowed:?}");
        assert!(!allowed.reason().is_empty(), "{allowed:?}");
    }
    assert!(seen.len() <= 32, "{}", seen.len());
}
