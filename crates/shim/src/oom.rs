//! Lack of memory: containerd is told once for each container in which the kernel has killed a process for it.
//!
//! Called by [`crate::pod`] while a task runs, and again at its end. The kernel's word comes before it has killed (v1),
//! and may be about a cgroup above, so that only its count of killed processes is believed.

use std::convert::Infallible;
use std::future::pending;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skiff_sandbox::cgroup::MemoryEvents;
use tokio::time::sleep;

use crate::events::Events;
use crate::status::chain;
use crate::sys::watch_readable;
use crate::task::Task;

/// A container that lives shorter is only looked at when it has ended: watching it would cost its start.
const BEGIN: Duration = Duration::from_millis(50);
/// How long the kernel may take from its word to the end of a process, and how often that is looked for.
const KILLING: (usize, Duration) = (50, Duration::from_millis(10));

/// Whether containerd was told of one task.
#[derive(Debug, Default)]
pub struct Told(AtomicBool);

impl Told {
    /// Tells it, if the kernel has killed a process of the task. Whether containerd knows now.
    pub fn tell(&self, task: &Task, events: &Events) -> bool {
        if self.0.load(Ordering::Relaxed) {
            return true;
        }
        let killed = task.cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        if killed {
            self.0.store(true, Ordering::Relaxed);
            events.out_of_memory(&task.id);
        }
        killed
    }
}

/// Watches a task, which may live on when another of its processes was killed. Never ends: it is dropped.
pub async fn watch(task: &Task, events: &Events, told: &Told) -> Infallible {
    sleep(BEGIN).await;
    match task.cgroup.oom_events() {
        Ok(Some(words)) => until_told(task, events, told, &words).await,
        Ok(None) => {}
        Err(error) => log::debug!(
            "lack of memory in container {} is told at its end only: {}",
            task.id,
            chain(&error)
        ),
    }
    pending().await
}

async fn until_told(task: &Task, events: &Events, told: &Told, words: &MemoryEvents) {
    let Ok(watched) = watch_readable(words.file.as_fd()) else {
        return;
    };
    // What was before the kernel was asked to tell.
    if told.tell(task, events) {
        return;
    }
    while let Ok(mut ready) = watched.readable().await {
        ready.clear_ready();
        if !words.before_killing {
            if told.tell(task, events) {
                return;
            }
            continue;
        }
        let mut number = [0; 8];
        // Reading makes it wait for the next word; who cannot read it has had it.
        let _: Option<usize> = rustix::io::read(&words.file, &mut number).ok();
        for _ in 0..KILLING.0 {
            if told.tell(task, events) {
                return;
            }
            sleep(KILLING.1).await;
        }
    }
}
