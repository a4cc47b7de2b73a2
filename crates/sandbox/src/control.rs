//! What a launched process and its shim say to each other: a few messages over a `SOCK_SEQPACKET` pair.
//!
//! One packet is one message in postcard encoding, at most [`MAX_PACKET`] bytes. End of file on the
//! child's side means that the shim is gone: the child exits. End of file on the shim's side without a
//! message means that the child died: the shim looks at its exit status.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::{CONTROL_FD, ORDER_FD, Slot};
use crate::sentence::readable;
use crate::sys::process;

/// Longest packet. Sentences are much shorter.
pub const MAX_PACKET: usize = 64 * 1024;

/// From the launched process to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The plan is executed and the guest is loaded; the process waits for [`Go`].
    Ready,
    /// It could not be done: a whole sentence for the user. The process exits after it.
    Failed(String),
    /// A worker's result, in a format that it and its caller share.
    Done(Vec<u8>),
}

/// From the shim to the launched process: run the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go;

/// Why a message was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The other process has closed its end: it is gone.
    #[error("the other end of the control socket is closed")]
    Closed,
    /// Nothing came in time.
    #[error("no message came within {0:?}")]
    TimedOut(Duration),
    /// The packet is no message of ours.
    #[error("a packet of {length} bytes on the control socket is no message")]
    Malformed {
        /// Its length.
        length: usize,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The socket itself.
    #[error("could not use the control socket")]
    Socket(#[source] io::Error),
}

/// The shim's end. Non-blocking, so that it can be waited for in an event loop.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
}

impl Control {
    /// Takes the shim's end of the pair.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket })
    }

    /// The next report, `None` if there is none yet.
    ///
    /// # Errors
    /// [`ControlError::Closed`] when the process has ended or closed its end and all it said is read.
    pub fn try_receive(&self) -> Result<Option<Report>, ControlError> {
        receive(self.socket.as_fd())
    }

    /// Waits for the next report.
    ///
    /// # Errors
    /// As [`Control::try_receive`], and [`ControlError::TimedOut`].
    pub fn receive(&self, timeout: Duration) -> Result<Report, ControlError> {
        if !process::wait_readable(self.socket.as_fd(), Some(timeout))
            .map_err(ControlError::Socket)?
        {
            return Err(ControlError::TimedOut(timeout));
        }
        self.try_receive()?.ok_or(ControlError::TimedOut(timeout))
    }

    /// Lets the process run its guest.
    ///
    /// # Errors
    /// [`ControlError::Closed`] if it is gone.
    pub fn go(&self) -> Result<(), ControlError> {
        send(self.socket.as_fd(), &Go)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The launched process's end.
#[derive(Debug)]
pub struct ChildControl {
    socket: OwnedFd,
}

impl ChildControl {
    /// Takes the inherited socket; works once in a process.
    ///
    /// # Errors
    /// The process was not launched by [`crate::launch::launch`].
    pub fn inherited() -> Result<Self, ControlError> {
        Ok(Self {
            socket: process::adopt(CONTROL_FD).map_err(ControlError::Socket)?,
        })
    }

    /// Tells the shim. The sentence of a [`Report::Failed`] is made [`readable`].
    ///
    /// # Errors
    /// [`ControlError::Closed`] if the shim is gone.
    pub fn report(&self, report: &Report) -> Result<(), ControlError> {
        match report {
            Report::Failed(sentence) => {
                send(self.socket.as_fd(), &Report::Failed(readable(sentence)))
            }
            report => send(self.socket.as_fd(), report),
        }
    }

    /// Tells the shim why the process gives up; the caller exits after it. The shim tells the container's log:
    /// nothing that may wait for a reader stands between the failure and the answer to it.
    pub fn fail(&self, sentence: &str) {
        if let Err(error) = self.report(&Report::Failed(sentence.to_owned())) {
            log::debug!("could not tell the shim: {error}");
            say_last_words(sentence);
        }
    }

    /// Waits until the shim wants the guest to run; `false` when the shim is gone and nothing is to run.
    ///
    /// # Errors
    /// The socket cannot be read, or what came is not [`Go`].
    pub fn wait_for_go(&self) -> Result<bool, ControlError> {
        match receive::<Go>(self.socket.as_fd()) {
            Ok(go) => Ok(go.is_some()),
            Err(ControlError::Closed) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for ChildControl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T) -> Result<(), ControlError> {
    let mut packet = postcard::to_stdvec(message)
        .map_err(|source| ControlError::Malformed { length: 0, source })?;
    if packet.is_empty() {
        // Go has no contents; a packet of no bytes would look like the end of file.
        packet.push(0);
    }
    loop {
        // NOSIGNAL: the shim's death is an error to be handled, and no SIGPIPE.
        match rustix::net::send(socket, &packet, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(ControlError::Closed),
            Err(error) => return Err(ControlError::Socket(error.into())),
        }
    }
}

fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<T>, ControlError> {
    let mut packet = vec![0; MAX_PACKET];
    loop {
        match rustix::net::recv(socket, packet.as_mut_slice(), RecvFlags::empty()) {
            Ok((0, _)) => return Err(ControlError::Closed),
            Ok((length, _)) => {
                let message = postcard::from_bytes(&packet[..length]);
                return message
                    .map(Some)
                    .map_err(|source| ControlError::Malformed { length, source });
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(ControlError::Closed),
            Err(error) => return Err(ControlError::Socket(error.into())),
        }
    }
}

/// Why a launched process does not know what to do.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no readable order: the process was started by hand.
    #[error(
        "could not read the order on descriptor {ORDER_FD}; this program is started by a Skiff shim"
    )]
    Read(#[source] io::Error),
    /// The order is of another kind or another version.
    #[error("the order does not fit this program; shim and program must be of the same build")]
    Decode(#[source] postcard::Error),
}

/// The order of this process; works once in a process.
///
/// # Errors
/// See [`OrderError`].
pub fn read_order<T: DeserializeOwned>() -> Result<T, OrderError> {
    let order = process::adopt(ORDER_FD).map_err(OrderError::Read)?;
    let bytes = read_whole(order.as_fd()).map_err(OrderError::Read)?;
    postcard::from_bytes(&bytes).map_err(OrderError::Decode)
}

/// Takes what the shim put into a slot; works once for each slot.
///
/// # Errors
/// `EBADF` for a slot that the launch did not fill.
pub fn adopt_slot(slot: Slot) -> io::Result<OwnedFd> {
    process::adopt(slot.fd())
}

fn read_whole(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        let offset = filled as u64;
        match rustix::io::pread(file, &mut bytes[filled..], offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => filled += length,
        }
    }
    Ok(bytes)
}

/// Writes a line to standard error, for a process that has no shim to tell; that nobody reads it is no error.
pub fn say_last_words(line: &str) {
    let line = format!("{}\n", readable(line));
    // Not `eprintln!`, which panics when the log is closed.
    if let Err(error) = rustix::io::write(rustix::stdio::stderr(), line.as_bytes()) {
        log::debug!("could not write to standard error: {error}");
    }
}
