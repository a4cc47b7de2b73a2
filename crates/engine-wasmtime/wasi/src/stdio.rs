//! The guest's standard streams: descriptors 0, 1 and 2 themselves, read and written by the guest's own thread.
//!
//! They are whatever the container's creator passed, mostly FIFOs, and may or may not be non-blocking (a property of
//! the open file, shared with whoever else holds it, so it is left as it is). A FIFO that nobody has opened
//! for writing yet reads as ended; `poll(2)` knows the difference, so it is always asked first.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Most that one call reads or writes: bounds what a guest makes the host allocate.
const MAX_CHUNK: usize = 64 * 1024;

type Fd = BorrowedFd<'static>;

/// Standard input. Clones read from the same descriptor.
#[derive(Debug)]
pub struct Input {
    fd: Fd,
    terminal: bool,
    /// Registered when first waited for.
    waiting: Option<AsyncFd<Fd>>,
}

impl Input {
    /// Reads from `fd`.
    pub fn new(fd: Fd) -> Self {
        Self {
            fd,
            terminal: rustix::termios::isatty(fd),
            waiting: None,
        }
    }

    /// The same input once more.
    pub fn again(&self) -> Self {
        Self {
            fd: self.fd,
            terminal: self.terminal,
            waiting: None,
        }
    }

    /// The next bytes, none at the end of the input, `None` if there is nothing to read yet.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if !is_ready(self.fd, PollFlags::IN, false)? {
                return Ok(None);
            }
            match rustix::io::read(self.fd, &mut *buffer) {
                Ok(length) => return Ok(Some(length)),
                // Somebody else was faster.
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// `None` for files that cannot be waited for in an event loop (regular files, `/dev/null`): they are always ready.
    fn registered(&mut self) -> io::Result<Option<&AsyncFd<Fd>>> {
        if self.waiting.is_none() {
            match crate::sys::watch_readable(self.fd) {
                Ok(waiting) => self.waiting = Some(waiting),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.waiting.as_ref())
    }
}

/// Whether `fd` is ready for `events`, has ended or failed. With `wait`, waits until then.
fn is_ready(fd: Fd, events: PollFlags, wait: bool) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    loop {
        match poll(&mut fds, if wait { None } else { Some(&now) }) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.again())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.again())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        // A failure to wait shows itself in the read that follows.
        while let Ok(false) = is_ready(self.fd, PollFlags::IN, false) {
            match self.registered() {
                Ok(Some(waiting)) => match waiting.readable().await {
                    Ok(mut guard) => {
                        if let Ok(false) = is_ready(*waiting.get_ref(), PollFlags::IN, false) {
                            guard.clear_ready();
                        }
                    }
                    Err(_) => return,
                },
                Ok(None) | Err(_) => return,
            }
        }
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = BytesMut::zeroed(size.min(MAX_CHUNK));
        match self.read_now(&mut buffer) {
            Ok(Some(0)) => Err(StreamError::Closed),
            Ok(Some(length)) => {
                buffer.truncate(length);
                Ok(buffer.freeze())
            }
            Ok(None) => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(length) = self.read_now(buffer.initialize_unfilled())? {
                buffer.advance(length);
                return Poll::Ready(Ok(()));
            }
            let Some(waiting) = self.registered()? else {
                continue;
            };
            match waiting.poll_read_ready(context)? {
                Poll::Ready(mut guard) => guard.clear_ready(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Standard output or error. Writing waits until the reader has taken the bytes before.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    fd: Fd,
    terminal: bool,
}

impl Output {
    /// Writes to `fd`.
    pub fn new(fd: Fd) -> Self {
        Self {
            fd,
            terminal: rustix::termios::isatty(fd),
        }
    }

    /// Writes everything, waiting for the reader where necessary.
    pub fn write_all(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(self.fd, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    is_ready(self.fd, PollFlags::OUT, true)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_CHUNK)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_all(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
