//! Why a container was not created, in the container's own log: who looks there first need not know of
//! containerd's events.
//!
//! Called by [`crate::create`] before it answers, with what the shim has found or a launched process has reported:
//! one line on the container's standard error.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use tokio::time::{Instant, sleep};

use crate::create::CreateError;
use crate::status::chain;
use crate::stdio::{Places, Stdio};

/// How long the answer may wait for a reader of the line: containerd stops reading when it has the answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Writes why, and waits a moment until it is read. Nothing comes of a log that cannot be written.
///
/// `streams` are the container's if they are open already, which must be so if it was launched: a reader
/// that sees all writers gone does not wait for another. Else `stderr` says where they would be.
pub async fn leave(streams: Option<Stdio>, stderr: &str, error: &CreateError) {
    if matches!(error, CreateError::Unwanted) {
        return;
    }
    let places = Places {
        stderr: stderr.to_owned(),
        ..Places::default()
    };
    let Some(streams) = streams.or_else(|| places.open().ok()) else {
        return;
    };
    let [_, _, log] = &streams.container;
    write(log, &format!("{}\n", chain(error)));
    if is_fifo(log) {
        let patience = Instant::now() + PATIENCE;
        // Bytes that are in the FIFO; the end that is asked does not matter.
        while rustix::io::ioctl_fionread(log).is_ok_and(|unread| unread > 0)
            && Instant::now() < patience
        {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

fn write(log: &OwnedFd, line: &str) {
    // Nobody else has this open file any more, or will: a full FIFO is an error to it from now on.
    let written = rustix::fs::fcntl_getfl(log)
        .and_then(|flags| rustix::fs::fcntl_setfl(log, flags | OFlags::NONBLOCK))
        .and_then(|()| rustix::io::write(log, line.as_bytes()));
    if let Err(error) = written {
        log::debug!("could not write to the container's log: {error}");
    }
}

fn is_fifo(log: &OwnedFd) -> bool {
    rustix::fs::fstat(log).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

#[cfg(test)]
mod tests;
