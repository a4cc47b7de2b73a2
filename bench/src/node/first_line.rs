//! The moment of the first line in a container's log, without polling: two processors have better things to do.

use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// The slowest of all compiles for some seconds at its first start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thread that waits for a write into a file of a directory.
pub(super) struct FirstLine(Receiver<Result<Instant>>);

impl FirstLine {
    /// Begins to wait. containerd writes a line into the log as a whole.
    pub(super) fn of(logs: &Path) -> Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, logs, inotify::WatchFlags::MODIFY)
            .with_context(|| format!("could not watch {}", logs.display()))?;
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let written = || -> Result<Instant> {
                let limit = Timespec::try_from(PATIENCE)?;
                let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit))?;
                let now = Instant::now();
                anyhow::ensure!(ready > 0, "no line within {PATIENCE:?}");
                let mut space = [MaybeUninit::uninit(); 1024];
                inotify::Reader::new(&watch, &mut space).next()?;
                Ok(now)
            };
            // The receiver is gone when the start itself failed.
            send.send(written()).ok();
        });
        Ok(Self(receive))
    }

    /// When the line was there.
    pub(super) fn wait(self) -> Result<Instant> {
        self.0.recv()?
    }
}
