//! Last words with a reader, without one, and into a FIFO that is full.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("stderr");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    path
}

fn refusal() -> CreateError {
    CreateError::Died {
        how: "with\ncode \x1b[1m1".to_owned(),
    }
}

const LINE: &str = "its process ended with code \\u{1b}[1m1 before it was ready\n";

fn places(path: &Path) -> Places {
    Places {
        stderr: path.display().to_string(),
        ..Places::default()
    }
}

/// Leaves the words; answers what a reader then finds in the FIFO.
fn left(open_before: bool, error: &CreateError) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    let streams = open_before.then(|| places(&path).open().unwrap());
    runtime().block_on(leave(streams, &path.display().to_string(), error));
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_reader_gets_one_line() {
    assert_eq!(left(true, &refusal()), LINE);
    assert_eq!(left(false, &refusal()), LINE);
}

#[test]
fn what_the_process_has_said_is_said() {
    assert_eq!(
        left(true, &CreateError::Host("it is".to_owned())),
        "it is\n"
    );
}

#[test]
fn a_long_sentence_is_written_whole() {
    let error = CreateError::Order("ü".repeat(10_000));
    assert_eq!(left(true, &error), format!("{}\n", chain(&error)));
}

#[test]
fn nobody_is_waited_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let started = std::time::Instant::now();
    runtime().block_on(leave(None, &path.display().to_string(), &refusal()));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_full_fifo_does_not_hold_up_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    let full = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    while rustix::io::write(&full, &[b'x'; 4096]).is_ok() {}
    let started = std::time::Instant::now();
    let streams = places(&path).open().unwrap();
    runtime().block_on(leave(Some(streams), "", &refusal()));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn no_log_and_a_plain_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    runtime().block_on(async {
        leave(None, "", &refusal()).await;
        leave(None, "/no/such/place", &refusal()).await;
        leave(None, &format!("file://{}", path.display()), &refusal()).await;
    });
    assert_eq!(fs::read_to_string(path).unwrap(), LINE);
}
