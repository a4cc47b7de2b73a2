use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::io::AsyncReadExt;

use super::*;

/// Streams borrow their descriptors for the life of the program.
fn forever(fd: OwnedFd) -> Fd {
    let fd: &'static OwnedFd = Box::leak(Box::new(fd));
    fd.as_fd()
}

fn fifo() -> (tempfile::TempDir, std::path::PathBuf, Fd) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reader = forever(rustix::fs::open(&path, flags, mode).unwrap());
    (directory, path, reader)
}

#[tokio::test]
async fn a_fifo_without_a_writer_is_neither_ready_nor_ended() {
    let (_directory, path, reader) = fifo();
    let mut input = Input::new(reader);
    assert_eq!(InputStream::read(&mut input, 10).unwrap(), Bytes::new());
    tokio::time::timeout(Duration::from_millis(100), input.ready())
        .await
        .expect_err("there is nothing to read");

    let writer = rustix::fs::open(&path, OFlags::WRONLY, rustix::fs::Mode::empty()).unwrap();
    tokio::time::timeout(Duration::from_millis(100), input.ready())
        .await
        .expect_err("nothing is written yet");
    rustix::io::write(&writer, b"now").unwrap();
    tokio::time::timeout(Duration::from_secs(10), input.ready())
        .await
        .unwrap();
    assert_eq!(InputStream::read(&mut input, 10).unwrap(), "now");

    drop(writer);
    tokio::time::timeout(Duration::from_secs(10), input.ready())
        .await
        .unwrap();
    assert!(matches!(
        InputStream::read(&mut input, 10),
        Err(StreamError::Closed)
    ));
}

#[tokio::test]
async fn asynchronous_reads_wait_too() {
    let (_directory, path, reader) = fifo();
    let mut stream = Pin::from(Input::new(reader).async_stream());
    let mut text = String::new();
    let write = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Blocks the thread for no longer than it takes: the reader is there.
        let writer = rustix::fs::open(&path, OFlags::WRONLY, rustix::fs::Mode::empty()).unwrap();
        rustix::io::write(&writer, b"one ").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        rustix::io::write(&writer, b"two").unwrap();
    };
    let (read, ()) = tokio::join!(stream.read_to_string(&mut text), write);
    read.unwrap();
    assert_eq!(text, "one two");
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_always_ready() {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
    let mut input = Input::new(forever(null));
    tokio::time::timeout(Duration::from_secs(10), input.ready())
        .await
        .unwrap();
    assert!(matches!(
        InputStream::read(&mut input, 10),
        Err(StreamError::Closed)
    ));
}

#[test]
fn writing_to_nobody_is_an_error_that_says_so() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let mut output = Output::new(forever(writer));
    let Err(StreamError::LastOperationFailed(error)) =
        OutputStream::write(&mut output, Bytes::from_static(b"x"))
    else {
        panic!("it was written");
    };
    assert_eq!(
        error.downcast_ref::<io::Error>().unwrap().kind(),
        io::ErrorKind::BrokenPipe
    );
}
