//! Standard streams in the states in which containers find them.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::harness::Container;

/// Copies standard input to standard output in pieces of 4 KiB; exits with the first error of a write.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $error i32)
        (loop $again
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 4096))
            (local.set $error (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (local.get $error) (then (call $exit (i32.add (i32.const 100) (local.get $error)))))
            (if (i32.eqz (i32.load (i32.const 8))) (then return))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (local.set $error (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (local.get $error) (then (call $exit (local.get $error))))
            (br $again))))"#;

fn fifo(directory: &tempfile::TempDir, flags: OFlags) -> (std::path::PathBuf, OwnedFd) {
    let path = directory.path().join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let file = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (path, file)
}

#[test]
fn a_fifo_that_nobody_writes_to_yet_has_not_ended() {
    let directory = tempfile::tempdir().unwrap();
    // As containerd's shims open it.
    let (path, reader) = fifo(&directory, OFlags::RDONLY | OFlags::NONBLOCK);
    let container = Container::new(CAT).stdin(reader).start();
    std::thread::sleep(Duration::from_millis(200));
    let mut writer = std::fs::File::options().write(true).open(path).unwrap();
    writer.write_all(b"late ").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    writer.write_all(b"words").unwrap();
    drop(writer);
    let outcome = container.wait();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "late words"));
}

#[test]
fn an_ended_input_is_an_end() {
    let outcome = Container::new(CAT).run();
    assert_eq!(
        (outcome.code(), outcome.stdout.as_str()),
        (0, ""),
        "/dev/null"
    );
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"a file").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let outcome = Container::new(CAT).stdin(file.into()).run();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "a file"));
}

#[test]
fn an_output_that_nobody_reads_any_more_is_an_error_of_the_write() {
    const PIPE: u8 = 64;
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let outcome = Container::new(CAT).stdin(file.into()).stdout(writer).run();
    assert_eq!(outcome.code(), PIPE, "{outcome:?}");
}

#[test]
fn a_slow_reader_of_a_non_blocking_output_gets_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (_, fifo) = fifo(&directory, OFlags::RDWR | OFlags::NONBLOCK);
    let mut file = tempfile::tempfile().unwrap();
    let bytes = vec![b'x'; 300_000];
    file.write_all(&bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let reader = fifo.try_clone().unwrap();
    let container = Container::new(CAT).stdin(file.into()).stdout(fifo).start();
    std::thread::sleep(Duration::from_millis(200));
    let mut received = 0;
    let mut buffer = vec![0; 10_000];
    while received < bytes.len() {
        match rustix::io::read(&reader, &mut buffer) {
            Ok(length) => received += length,
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(container.wait().code(), 0);
    assert_eq!(received, bytes.len());
}
