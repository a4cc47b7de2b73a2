//! FIFO semantics: nobody opens, the reader goes away, the end of file comes.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::*;

struct Fifo {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Fifo {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    fn output(&self) -> (File, Keepers) {
        let places = Places {
            stdout: self.path.to_str().unwrap().into(),
            ..Places::default()
        };
        let Stdio {
            container: [_, stdout, _],
            keepers,
        } = places.open().unwrap();
        (File::from(stdout), keepers)
    }

    /// A reader as containerd is: opened without blocking, made blocking.
    fn reader(&self) -> File {
        let file =
            rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).unwrap();
        File::from(file)
    }
}

#[test]
fn a_fifo_that_nobody_opens_holds_nothing_up() {
    let fifo = Fifo::new();
    let start = Instant::now();
    let (mut output, keepers) = fifo.output();
    output.write_all(b"hello").unwrap();
    drop(output);
    assert!(start.elapsed() < Duration::from_secs(1));
    // Nobody has read it: it is kept, until a reader comes or the task is deleted.
    assert!(!keepers.release());
    assert!(!keepers.release());
    let mut reader = fifo.reader();
    assert!(keepers.release());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn the_reader_gets_everything_and_then_the_end() {
    let fifo = Fifo::new();
    let mut reader = fifo.reader();
    let (mut output, keepers) = fifo.output();
    output.write_all(b"one").unwrap();
    drop(output);
    assert!(keepers.release());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
}

#[test]
fn drained_is_what_a_reader_has_fetched() {
    let fifo = Fifo::new();
    let (mut output, keepers) = fifo.output();
    assert!(keepers.drained());
    output.write_all(b"one").unwrap();
    assert!(!keepers.drained());
    fifo.reader().read_exact(&mut [0; 3]).unwrap();
    assert!(keepers.drained());
}

#[test]
fn a_reader_is_waited_for_as_long_as_was_said() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let fifo = Fifo::new();
    let (mut output, keepers) = fifo.output();
    output.write_all(b"one").unwrap();
    let patience = Duration::from_millis(300);
    let start = Instant::now();
    runtime.block_on(keepers.drained_within(patience));
    assert!(start.elapsed() >= patience && start.elapsed() < patience * 2);
    fifo.reader().read_exact(&mut [0; 3]).unwrap();
    let start = Instant::now();
    runtime.block_on(keepers.drained_within(patience));
    assert!(start.elapsed() < patience);
}

#[test]
fn a_reader_that_leaves_costs_nothing() {
    let fifo = Fifo::new();
    let (mut output, keepers) = fifo.output();
    let mut first = fifo.reader();
    output.write_all(b"one").unwrap();
    let mut bytes = [0; 3];
    first.read_exact(&mut bytes).unwrap();
    drop(first);
    // No SIGPIPE, no EPIPE: the shim's own reading end is there.
    output.write_all(b"two").unwrap();
    let mut second = fifo.reader();
    drop(output);
    assert!(keepers.release());
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two");
}

#[test]
fn a_reader_that_comes_after_the_end_of_a_silent_guest_is_not_left_waiting() {
    let fifo = Fifo::new();
    let (output, keepers) = fifo.output();
    drop(output);
    assert!(!keepers.release());
    // As clients open it: this waits as long as nobody has it for writing.
    let path = fifo.path.clone();
    let (sender, came) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
        sender.send(read.map(|_| text)).unwrap();
    });
    let begin = Instant::now();
    while !keepers.release() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = came.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(text, "");
}

#[test]
fn input_ends_when_the_writer_closes() {
    let fifo = Fifo::new();
    let places = Places {
        stdin: fifo.path.to_str().unwrap().into(),
        ..Places::default()
    };
    let start = Instant::now();
    let Stdio {
        container: [stdin, ..],
        ..
    } = places.open().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    let mut writer = File::options().write(true).open(&fifo.path).unwrap();
    writer.write_all(b"input").unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(stdin).read_to_string(&mut text).unwrap();
    assert_eq!(text, "input");
}

#[test]
fn no_path_is_the_null_device() {
    let Stdio {
        container: [stdin, stdout, _],
        keepers,
    } = Places::default().open().unwrap();
    File::from(stdout).write_all(b"gone").unwrap();
    assert_eq!(File::from(stdin).read(&mut [0; 8]).unwrap(), 0);
    assert!(keepers.release());
}

#[test]
fn files_are_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for _ in 0..2 {
        let places = Places {
            stdout: format!("file://{}", path.display()),
            ..Places::default()
        };
        let Stdio {
            container: [_, stdout, _],
            ..
        } = places.open().unwrap();
        File::from(stdout).write_all(b"line\n").unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), "line\nline\n");
}

#[test]
fn programs_and_strange_schemes_are_refused() {
    for (uri, part) in [
        ("binary:///bin/sh?a=b", "are not started"),
        ("npipe:///x", "only paths"),
    ] {
        let error = Places {
            stderr: uri.into(),
            ..Places::default()
        }
        .open()
        .unwrap_err()
        .to_string();
        assert!(
            error.contains(part) && error.contains(uri) && error.contains("stderr"),
            "{error}"
        );
    }
    let error = Places {
        stdout: "/no/such/fifo".into(),
        ..Places::default()
    }
    .open()
    .unwrap_err();
    assert!(error.to_string().contains("/no/such/fifo"));
}
