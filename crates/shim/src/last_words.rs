//! Why a container was not created, in the container's own log: who looks there first need not know of
//! containerd's events.
//!
//! Called by [`crate::create`] before it answers, with what the shim has found or a launched process has reported:
//! one line on the container's standard error.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use tokio::time::{Instant, sleep};

use skiff_engine::notes;
use skiff_sandbox::sys::process::ExitStatus;

use crate::create::CreateError;
use crate::exit_record::KILLED;
use crate::status::chain;
use crate::stdio::{Places, Stdio};
use crate::task::Task;
use crate::termination;

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

/// What became of a guest that ended badly, as far as its host or the kernel has told it: for the termination message, and
/// where only the shim can know it, for the log as well. Called when nothing of the container runs any more.
pub fn of_guest(task: &Task, status: ExitStatus, out_of_memory: bool) {
    let Some(keeper) = &task.memory_cap else {
        return;
    };
    let killed = status.shell_code() == KILLED && out_of_memory;
    let words = if killed {
        let words = out_of_memory_sentence(keeper.limit());
        say(task, &words);
        Some(words)
    } else {
        // A guest that chose its own end has nothing here, unless it was refused something before.
        notes::last_words(keeper.notes())
    };
    if let Some(words) = words {
        termination::leave(&task.bundle, &words);
    }
}

fn out_of_memory_sentence(limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!(
            "skiff: the kernel has killed the container for lack of memory: it had reached its limit of {} MiB, files in memory included (emptyDir of medium Memory, /dev/shm)",
            limit >> 20
        ),
        None => "skiff: the kernel has killed the container for lack of memory: it has no limit of its own, but its pod or the node had none left".to_owned(),
    }
}

/// Writes a line to the log of a container.
fn say(task: &Task, words: &str) {
    let first = &task.first;
    let log = if first.at_terminal {
        &first.places.stdout
    } else {
        &first.places.stderr
    };
    let places = Places {
        stderr: log.clone(),
        ..Places::default()
    };
    if let Ok(streams) = places.open() {
        let [_, _, log] = &streams.container;
        write(log, &format!("{words}\n"));
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
