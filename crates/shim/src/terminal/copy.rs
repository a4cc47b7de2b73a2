//! The two ways between a terminal and its client's FIFOs. Neither end is ever waited for but in the event loop,
//! and each way holds one buffer: a reader that is slow slows the guest, as with a pipe.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::termios::{LocalModes, SpecialCodeIndex};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::sys::watch_own;

/// What a terminal's line discipline holds, and so the most that one read gives.
const BUFFER: usize = 4096;
/// The kernel may say that a terminal takes input a moment before it does, and not say it again.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// The shim's end of one of the client's streams.
#[derive(Debug)]
pub(super) enum Client {
    /// A FIFO.
    Watched(AsyncFd<OwnedFd>),
    /// A file, which never lets anybody wait.
    File(OwnedFd),
}

impl Client {
    /// `file` must be nobody else's: it is made non-blocking.
    pub(super) fn new(file: OwnedFd, interest: Interest) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        Ok(if kind == FileType::Fifo {
            Self::Watched(watch_own(file, interest)?)
        } else {
            Self::File(file)
        })
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(fifo) => read(fifo, buffer).await,
            Self::File(file) => Ok(rustix::io::read(file, buffer)?),
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Watched(fifo) => {
                    let mut ready = fifo.writable().await?;
                    let Ok(written) =
                        ready.try_io(|fifo| Ok(rustix::io::write(fifo.get_ref(), bytes)?))
                    else {
                        continue;
                    };
                    written
                }
                Self::File(file) => rustix::io::write(file, bytes).map_err(io::Error::from),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

async fn read(file: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = file.readable().await?;
        match ready.try_io(|file| Ok(rustix::io::read(file.get_ref(), &mut *buffer)?)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(length) => return length,
            Err(_) => {}
        }
    }
}

/// From the terminal to the client, until nobody holds the container's end and all is fetched.
pub(super) async fn output(terminal: &AsyncFd<OwnedFd>, client: &Client) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut complained = false;
    loop {
        let length = match read(terminal, &mut buffer).await {
            // EIO is a terminal's end of file. The kernel gives it only after the last byte.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            other => other?,
        };
        if length == 0 {
            return Ok(());
        }
        if let Err(error) = client.write_all(&buffer[..length]).await
            && !complained
        {
            // A log on a full disk: the guest goes on, as it can when it is told by its own write.
            log::warn!("output of a terminal is lost: {error}");
            complained = true;
        }
    }
}

/// From the client to the terminal, until the client's end of file, which is then typed.
pub(super) async fn input(terminal: &AsyncFd<OwnedFd>, client: &Client) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = client.read(&mut buffer).await?;
        if length == 0 {
            return end_of_file(terminal).await;
        }
        type_in(terminal, &buffer[..length]).await?;
    }
}

/// The terminal's own character for it (`^D`). In the middle of a line the first one only hands the line on, and a
/// reader that asks again after the end would wait, where that of a pipe is told once more.
async fn end_of_file(terminal: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let settings = rustix::termios::tcgetattr(terminal.get_ref())?;
    if !settings.local_modes.contains(LocalModes::ICANON) {
        // The guest reads keys, and there is no key for this.
        return Ok(());
    }
    type_in(
        terminal,
        &[settings.special_codes[SpecialCodeIndex::VEOF]; 4],
    )
    .await
}

async fn type_in(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(terminal.get_ref().as_fd(), bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if let Ok(ready) = timeout(SECOND_LOOK, terminal.writable()).await {
                    ready?.clear_ready();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
