//! A container's terminal: [`device`] makes it, [`copy`] moves what is typed and shown.
//!
//! Made by [`crate::create`] for `terminal: true`; a container without one knows nothing of this. The shim holds
//! the master until the container is deleted. Clients come and go (`ctr task attach`, a containerd that restarts):
//! the shim's own writing end of the input FIFO keeps that from being an end of file, until `CloseIO`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_spec::runtime::Process as ProcessSpec;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::process::Process;
use crate::status::TaskError;
use crate::stdio::{Places, Stdio};
use crate::sys::watch_own;
use crate::task::Task;
use copy::Client;
use device::{failed, resize};

pub use device::{Device, DeviceError};

mod copy;
mod device;

/// A terminal with its two copies under way.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
    /// The shim's own writing end of the client's input.
    stdin_keeper: Mutex<Option<OwnedFd>>,
    /// Its sender goes when all output is copied.
    showing: watch::Receiver<()>,
    copies: Vec<AbortHandle>,
}

/// Makes the terminal of a process, as its spec says.
///
/// # Errors
/// See [`Device::open`].
pub fn device(process: Option<&ProcessSpec>) -> Result<Device, DeviceError> {
    let uid = process.map_or(0, |process| process.user().uid());
    let (rows, columns) = size(process);
    Device::open(uid, rows, columns)
}

/// Makes it in the container's own `/dev/pts`, where its programs find it by name.
///
/// # Errors
/// See [`Device::open_in`].
pub fn device_of(terminals: BorrowedFd<'_>, process: &ProcessSpec) -> Result<Device, DeviceError> {
    let (rows, columns) = size(Some(process));
    Device::open_in(terminals, process.user().uid(), rows, columns)
}

fn size(process: Option<&ProcessSpec>) -> (u16, u16) {
    let size = process.and_then(|process| process.console_size());
    let cells = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    size.map_or((0, 0), |size| (cells(size.height()), cells(size.width())))
}

/// `ResizePty`.
///
/// # Errors
/// It has no terminal, or nobody could have one of this size.
pub fn resize_of(task: &Task, process: &Process, width: u32, height: u32) -> Result<(), TaskError> {
    let Some(terminal) = process.terminal() else {
        let state = if process.at_terminal {
            "has no terminal yet that could be resized: it was not started"
        } else {
            "has no terminal that could be resized: it was created without one"
        };
        return Err(TaskError::WrongState {
            who: task.who(process),
            state,
        });
    };
    let cells = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    terminal
        .resize(cells(height), cells(width))
        .map_err(|source| TaskError::Failed {
            operation: "resize the terminal of",
            who: task.who(process),
            source: source.into(),
        })
}

/// Where the streams of a container with a terminal go: errors are shown where everything is.
#[must_use]
pub fn places(asked: &Places) -> Places {
    Places {
        stderr: asked.stdout.clone(),
        ..asked.clone()
    }
}

impl Terminal {
    /// Begins to copy between a terminal's master and the client's ends, which are those of `stdio`.
    ///
    /// # Errors
    /// The event loop has no room, or a FIFO is gone.
    pub fn start(master: OwnedFd, stdio: &Stdio, asked: &Places) -> Result<Self, DeviceError> {
        Self::copy(master, stdio, asked).map_err(failed("watch the streams"))
    }

    fn copy(master: OwnedFd, stdio: &Stdio, asked: &Places) -> io::Result<Self> {
        let [stdin, stdout, _] = &stdio.container;
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Arc::new(watch_own(master, both)?);
        let mut copies = Vec::new();
        let mut stdin_keeper = None;
        if !asked.stdin.is_empty() {
            stdin_keeper = keep_open(stdin, &asked.stdin)?;
            let client = Client::new(stdin.try_clone()?, Interest::READABLE)?;
            let terminal = Arc::clone(&master);
            copies.push(tokio::spawn(async move {
                if let Err(error) = copy::input(&terminal, &client).await {
                    log::debug!("a terminal's input has ended: {error}");
                }
            }));
        }
        let client = Client::new(stdout.try_clone()?, Interest::WRITABLE)?;
        let (sender, showing) = watch::channel(());
        let terminal = Arc::clone(&master);
        copies.push(tokio::spawn(async move {
            if let Err(error) = copy::output(&terminal, &client).await {
                log::warn!("a terminal's output has ended: {error}");
            }
            // The client's end first: whoever waits lets its reader see the end of file.
            drop(client);
            drop(sender);
        }));
        Ok(Self {
            master,
            stdin_keeper: Mutex::new(stdin_keeper),
            showing,
            copies: copies.iter().map(|copy| copy.abort_handle()).collect(),
        })
    }

    /// Sets its size.
    ///
    /// # Errors
    /// None are expected.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        resize(self.master.get_ref().as_fd(), rows, columns)
    }

    /// The input ends with the last client that writes.
    pub fn close_input(&self) {
        drop(
            self.stdin_keeper
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Waits until all that was shown is in the client's FIFO, which comes after the end of the container, or until
    /// the terminal is closed.
    pub async fn copied(&self) {
        let mut showing = self.showing.clone();
        while showing.changed().await.is_ok() {}
    }

    /// [`Terminal::copied`], but not longer than `patience`.
    pub async fn copied_within(&self, patience: Duration) {
        drop(timeout(patience, self.copied()).await);
    }

    /// Ends both copies, and loses what nobody has read.
    pub fn close(&self) {
        for copy in &self.copies {
            copy.abort();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}

/// A writing end of the shim's own of a process's input. Files other than FIFOs need none: they have an end.
pub(crate) fn keep_open(stdin: &OwnedFd, uri: &str) -> io::Result<Option<OwnedFd>> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(stdin)?.st_mode);
    if kind != FileType::Fifo {
        return Ok(None);
    }
    let path = uri.strip_prefix("fifo://").unwrap_or(uri);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(Some(rustix::fs::open(path, flags, Mode::empty())?))
}
