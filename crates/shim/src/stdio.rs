//! A task's standard streams: containerd's FIFOs, handed to the container as they are.
//!
//! No process copies. For each output FIFO the shim holds a reading and a writing end of its own while
//! the task lives, so that opening never waits for containerd, a reader that goes away (containerd is
//! restarted) costs the guest no SIGPIPE, and what it wrote stays in the pipe until a reader is back.
//! When the task has ended the ends are closed, which is the end of file that the reader waits for.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::time::{Instant, sleep};

/// Pause between looks for what a reader has fetched.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Where a task's streams go, as `Create` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Standard input; empty is none.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The file could not be opened.
    #[error("could not open {stream} at {}", path.display())]
    Open {
        /// Which stream.
        stream: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `binary://`.
    #[error(
        "{stream} is {uri}: logging programs are not started, since the shim would run them as root on the word of a client; use a FIFO or file://"
    )]
    Program {
        /// Which stream.
        stream: &'static str,
        /// What was asked for.
        uri: String,
    },
    /// Any other scheme.
    #[error("{stream} is {uri}: only paths and file:// are supported")]
    Scheme {
        /// Which stream.
        stream: &'static str,
        /// What was asked for.
        uri: String,
    },
}

/// A task's open streams.
#[derive(Debug)]
pub struct Stdio {
    /// 0, 1, 2 of the container. Dropped once it is launched.
    pub container: [OwnedFd; 3],
    /// The shim's own ends.
    pub keepers: Keepers,
}

/// The shim's own ends of the output FIFOs.
#[derive(Debug, Default)]
pub struct Keepers(Mutex<Vec<Keeper>>);

#[derive(Debug)]
struct Keeper {
    /// Closed when the task ends; what is written after that needs a reader other than the shim.
    reader: Option<OwnedFd>,
    writer: OwnedFd,
}

impl Places {
    /// Opens all three.
    ///
    /// # Errors
    /// See [`StdioError`].
    pub fn open(&self) -> Result<Stdio, StdioError> {
        let mut keepers = Vec::new();
        let stdin = open_input(&self.stdin)?;
        let stdout = open_output("stdout", &self.stdout, &mut keepers)?;
        let stderr = open_output("stderr", &self.stderr, &mut keepers)?;
        Ok(Stdio {
            container: [stdin, stdout, stderr],
            keepers: Keepers(Mutex::new(keepers)),
        })
    }
}

impl Keepers {
    /// Whether a reader has fetched everything that was written so far.
    pub fn drained(&self) -> bool {
        let keepers = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keepers.iter().all(|keeper| {
            keeper.reader.as_ref().is_none_or(|reader| {
                rustix::io::ioctl_fionread(reader).is_ok_and(|unread| unread == 0)
            })
        })
    }

    /// Waits until [`Keepers::drained`], but not longer than `patience`.
    pub async fn drained_within(&self, patience: Duration) {
        // By the clock and not by a number of looks: how long the pause between two takes is up to the timer.
        let deadline = Instant::now() + patience;
        while !self.drained() && Instant::now() < deadline {
            sleep(LOOK_PAUSE).await;
        }
    }

    /// The task has ended: its readers shall see the end of file. `true` when that is so for all of them;
    /// `false` when the reader of a FIFO is away. What was written waits there, and a client that is about to open it would
    /// wait for ever for somebody to write: the FIFO is kept then, call again later.
    pub fn release(&self) -> bool {
        let mut keepers = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keepers.retain_mut(Keeper::must_stay);
        keepers.is_empty()
    }

    /// Closes everything, and loses what nobody has read.
    pub fn close(&self) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }
}

impl Keeper {
    /// Whether there is nobody who would see the end of file: the pipe's content goes with its last descriptor, and who
    /// opens a FIFO for reading waits until somebody writes.
    fn must_stay(&mut self) -> bool {
        self.reader = None;
        // The only reading end that could still be open is containerd's; without one, poll says so.
        let mut poll = [PollFd::new(&self.writer, PollFlags::OUT)];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut poll, Some(&now)).is_ok()
            && poll[0].revents().contains(PollFlags::ERR)
    }
}

/// The file that a stream's URI names; `None` for none.
fn place(stream: &'static str, uri: &str) -> Result<Option<(PathBuf, bool)>, StdioError> {
    match uri.split_once("://") {
        None if uri.is_empty() => Ok(None),
        None => Ok(Some((PathBuf::from(uri), false))),
        Some(("fifo", path)) => Ok(Some((PathBuf::from(path), false))),
        // As the Go shims read it: what follows `?` are parameters of a logger.
        Some(("file", path)) => Ok(Some((
            PathBuf::from(path.split('?').next().unwrap_or_default()),
            true,
        ))),
        Some(("binary" | "binary-v2", _)) => Err(StdioError::Program {
            stream,
            uri: uri.to_owned(),
        }),
        Some(_) => Err(StdioError::Scheme {
            stream,
            uri: uri.to_owned(),
        }),
    }
}

fn open(stream: &'static str, path: &Path, flags: OFlags) -> Result<OwnedFd, StdioError> {
    rustix::fs::open(
        path,
        flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::RUSR | Mode::WUSR | Mode::RGRP,
    )
    .map_err(|error| StdioError::Open {
        stream,
        path: path.to_owned(),
        source: error.into(),
    })
}

fn open_input(uri: &str) -> Result<OwnedFd, StdioError> {
    let Some((path, _)) = place("stdin", uri)? else {
        return open("stdin", Path::new("/dev/null"), OFlags::RDONLY);
    };
    // Without NONBLOCK this would wait for a writer, and containerd's writer waits for this.
    let file = open("stdin", &path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    // The guest's reads shall wait, though.
    rustix::fs::fcntl_getfl(&file)
        .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK))
        .map_err(|error| StdioError::Open {
            stream: "stdin",
            path,
            source: error.into(),
        })?;
    Ok(file)
}

fn open_output(
    stream: &'static str,
    uri: &str,
    keepers: &mut Vec<Keeper>,
) -> Result<OwnedFd, StdioError> {
    let Some((path, plain_file)) = place(stream, uri)? else {
        return open(stream, Path::new("/dev/null"), OFlags::WRONLY);
    };
    if plain_file {
        return open(
            stream,
            &path,
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
        );
    }
    // A reading end never waits when opened without blocking, and with it open no writing end waits.
    let reader = open(stream, &path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let kind = rustix::fs::fstat(&reader).map_err(|error| StdioError::Open {
        stream,
        path: path.clone(),
        source: error.into(),
    })?;
    let fifo = FileType::from_raw_mode(kind.st_mode) == FileType::Fifo;
    let append = if fifo {
        OFlags::empty()
    } else {
        OFlags::APPEND
    };
    let container = open(stream, &path, OFlags::WRONLY | append)?;
    if fifo {
        // A writing end of the shim's own, for the time after the guest's is closed.
        let writer = open(stream, &path, OFlags::WRONLY | OFlags::NONBLOCK)?;
        keepers.push(Keeper {
            reader: Some(reader),
            writer,
        });
    }
    Ok(container)
}

#[cfg(test)]
mod tests;
