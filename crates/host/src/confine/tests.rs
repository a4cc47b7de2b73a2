//! The filters at work, in children of the test: what they forbid, they forbid for good.

use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use super::*;

/// Set in a child that is to confine itself and then try something.
const ATTEMPT: &str = "SKIFF_TEST_ATTEMPT";
/// Exit code of a child whose attempt was refused with an error.
const REFUSED: i32 = 41;
/// Exit code of a child whose attempt succeeded.
const DONE: i32 = 42;

/// Runs `attempt` in a confined child: this very test executable, running this very test.
fn try_out(test: &str, attempt: &str) -> ExitStatus {
    Command::new("/proc/self/exe")
        .args([
            "--exact",
            "--quiet",
            "--nocapture",
            "--test-threads=1",
            test,
        ])
        .env(ATTEMPT, attempt)
        .arg0("confined")
        .output()
        .unwrap()
        .status
}

fn attempt(kind: CodeKind, what: &str) -> ! {
    confine(kind).unwrap();
    let done = match what {
        "nothing" => true,
        "read a file" => std::fs::read("/etc/passwd").is_ok(),
        "execute" => {
            let program = std::fs::File::open("/bin/true").unwrap();
            skiff_sandbox::sys::exec::execute_fd(program.as_fd(), &[c"true"], &[]);
            false
        }
        "chroot" => rustix::process::chroot("/").is_ok(),
        "raw socket" => rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            None,
        )
        .is_ok(),
        "unix socket" => std::os::unix::net::UnixDatagram::unbound().is_ok(),
        "udp socket" => std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
        "thread" => std::thread::Builder::new()
            .spawn(|| ())
            .is_ok_and(|thread| thread.join().is_ok()),
        "steps of a clock" => {
            let step = rustix::time::clock_getres(rustix::time::ClockId::Monotonic);
            step.tv_sec == 0 && (1..1_000_000_000).contains(&step.tv_nsec)
        }
        "change mode" => rustix::fs::chmod("/tmp", rustix::fs::Mode::from_raw_mode(0o1777)).is_ok(),
        other => panic!("unknown attempt {other}"),
    };
    crate::sys::signal::end(if done { 42 } else { 41 })
}

fn outcome(status: ExitStatus) -> Result<i32, i32> {
    status.code().ok_or_else(|| status.signal().unwrap_or(0))
}

#[test]
fn modules_are_confined() {
    const TEST: &str = "confine::tests::modules_are_confined";
    if let Ok(what) = std::env::var(ATTEMPT) {
        attempt(CodeKind::Module, &what);
    }
    let cases = [
        ("nothing", Ok(DONE)),
        ("read a file", Ok(DONE)),
        ("steps of a clock", Ok(DONE)),
        ("execute", Err(libc::SIGSYS)),
        ("chroot", Err(libc::SIGSYS)),
        ("udp socket", Ok(REFUSED)),
        ("thread", Ok(REFUSED)),
        ("change mode", Ok(REFUSED)),
    ];
    for (what, expected) in cases {
        assert_eq!(outcome(try_out(TEST, what)), expected, "{what}");
    }
}

#[test]
fn components_are_confined() {
    const TEST: &str = "confine::tests::components_are_confined";
    if let Ok(what) = std::env::var(ATTEMPT) {
        attempt(CodeKind::Component, &what);
    }
    let cases = [
        ("udp socket", Ok(DONE)),
        ("thread", Ok(DONE)),
        ("raw socket", Ok(REFUSED)),
        ("unix socket", Ok(REFUSED)),
        ("execute", Err(libc::SIGSYS)),
    ];
    for (what, expected) in cases {
        assert_eq!(outcome(try_out(TEST, what)), expected, "{what}");
    }
}
