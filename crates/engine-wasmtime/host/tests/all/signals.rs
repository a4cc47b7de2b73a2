//! Terminating signals end any guest at once.

use std::time::{Duration, Instant};

use skiff_sandbox::sys::process::ExitStatus;

use crate::harness::Container;

const SPIN: &str = r#"(module (func (export "_start") (loop br 0)))"#;
pub(crate) const SLEEP: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))))"#;
const READ: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 4) (i32.const 10))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn end_by(module: &str, signal: i32) -> u8 {
    let (stdin, writer) = rustix::pipe::pipe().unwrap();
    let container = Container::new(module).stdin(stdin).start();
    std::thread::sleep(Duration::from_millis(100));
    let sent = Instant::now();
    container.signal(signal);
    let outcome = container.wait();
    assert!(
        sent.elapsed() < Duration::from_secs(1),
        "signal {signal} took {:?}",
        sent.elapsed()
    );
    drop(writer);
    outcome.code()
}

#[test]
fn whatever_the_guest_does_sigterm_ends_it() {
    for module in [SPIN, SLEEP, READ] {
        assert_eq!(end_by(module, 15), 143, "{module}");
    }
}

#[test]
fn every_terminating_signal_does() {
    // One of a kind: a hang-up, a trap's own signal sent by hand, SIGPIPE, the C library's own, real time.
    for signal in [
        1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 24, 30, 31, 32, 33, 34, 37, 64,
    ] {
        assert_eq!(i32::from(end_by(SPIN, signal)), 128 + signal);
    }
}

#[test]
fn signals_before_the_start_do_too() {
    let container = Container::new(SPIN).create().unwrap();
    container.signal(15);
    assert_eq!(container.wait().code(), 143);
}

#[test]
fn a_shim_that_goes_away_takes_the_container_along() {
    let container = Container::new(SPIN).create().unwrap();
    let pidfd = container.launched.pidfd.try_clone().unwrap();
    drop(container.launched);
    let ended = skiff_sandbox::sys::process::wait_readable(
        std::os::fd::AsFd::as_fd(&pidfd),
        Some(Duration::from_secs(5)),
    );
    assert!(ended.unwrap());
    skiff_sandbox::sys::process::wait(std::os::fd::AsFd::as_fd(&pidfd)).unwrap();
}

#[test]
fn a_limit_on_files_does_not_change_how_a_guest_ends() {
    let exit = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 7))))"#;
    // Not even the exit record can be written; the shim learns the code from the kernel.
    let outcome = Container::new(exit).limited(libc::RLIMIT_FSIZE, 0).run();
    assert_eq!(outcome.status, ExitStatus::Code(7), "{outcome:?}");
    // The signal that goes with the limit, sent by somebody else.
    assert_eq!(end_by(SPIN, libc::SIGXFSZ), 153);
}
