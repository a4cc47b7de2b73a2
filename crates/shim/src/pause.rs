//! `Pause` and `Resume`: all processes of a container stand still, and go on.
//!
//! Called by [`crate::service`]; [`crate::task`] says when a task was killed. A process that stands still takes
//! signals when it goes on. Only SIGKILL lets it go, to its end, as it does with runc.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skiff_sandbox::cgroup::{Cgroup, CgroupError};
use tokio::time::{Instant, sleep};

use crate::events::Events;
use crate::process::State;
use crate::status::{TaskError, Who, chain};
use crate::task::Task;

/// How long the processes of a container may take to stand still, or to go on.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(1);

/// Whether the processes of a running task go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Motion {
    /// They go.
    #[default]
    Goes,
    /// Some of them may stand still already.
    Stopping,
    /// All stand still.
    Stands,
    /// They were killed, and must not be kept from their end.
    Killed,
}

/// The brake of one task.
#[derive(Debug, Default)]
pub struct Brake {
    motion: Mutex<Motion>,
    /// Held by the one call that pauses or resumes.
    changing: tokio::sync::Mutex<()>,
}

impl Brake {
    /// Whether the task's processes go.
    pub fn motion(&self) -> Motion {
        *self.lock()
    }

    /// SIGKILL was sent. Lets the processes go to their end.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn killed(&self, cgroup: &Cgroup) -> Result<(), CgroupError> {
        let before = std::mem::replace(&mut *self.lock(), Motion::Killed);
        if matches!(before, Motion::Stopping | Motion::Stands) {
            cgroup.try_set_frozen(false)?;
        }
        Ok(())
    }

    /// SIGKILL was sent to one process of several. Lets it go to its end, and leaves the others standing.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn killed_one(&self, cgroup: &Cgroup, pid: u32) -> Result<(), CgroupError> {
        if matches!(self.motion(), Motion::Stopping | Motion::Stands) {
            cgroup.release(pid)?;
        }
        Ok(())
    }

    /// Changes from one motion to another, unless the task was killed in the meantime.
    fn change(&self, from: Motion, to: Motion) -> bool {
        let mut motion = self.lock();
        let same = *motion == from;
        if same {
            *motion = to;
        }
        same
    }

    fn lock(&self) -> MutexGuard<'_, Motion> {
        self.motion.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the processes go again if the call is dropped or fails half way.
struct Undo<'a>(&'a Task);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.0.brake.change(Motion::Stopping, Motion::Goes)
            && let Err(error) = self.0.cgroup.try_set_frozen(false)
        {
            log::warn!(
                "could not let container {} go on: {}",
                self.0.id,
                chain(&error)
            );
        }
    }
}

/// Stops all processes of a task that runs.
///
/// # Errors
/// It does not run, stands still already, or does not stop.
pub async fn pause(task: &Task, events: &Events) -> Result<(), TaskError> {
    let brake = &task.brake;
    let _changing = brake.changing.lock().await;
    let wrong = |state| Err(task.wrong_state(state));
    match (task.state(), brake.motion()) {
        (State::Created, _) => return wrong("has not been started: it cannot be paused"),
        (State::Stopped(_), _) => return wrong("has ended: it cannot be paused"),
        (State::Running, Motion::Stands) => return wrong("is paused already"),
        (State::Running, Motion::Killed) => return wrong(KILLED),
        (State::Running, Motion::Goes | Motion::Stopping) => {}
    }
    brake.change(Motion::Goes, Motion::Stopping);
    let undo = Undo(task);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Nothing waits between this look and the write.
        if brake.motion() != Motion::Stopping {
            return wrong(KILLED);
        }
        if frozen(task, "pause", true)? {
            break;
        }
        if Instant::now() >= deadline {
            return Err(failed(
                task,
                "pause",
                "a process of it does not stop".into(),
            ));
        }
        sleep(LOOK).await;
    }
    brake.change(Motion::Stopping, Motion::Stands);
    drop(undo);
    events.paused(&task.id);
    Ok(())
}

/// Lets the processes of a paused task go on.
///
/// # Errors
/// It is not paused.
pub async fn resume(task: &Task, events: &Events) -> Result<(), TaskError> {
    let brake = &task.brake;
    let _changing = brake.changing.lock().await;
    if task.state() != State::Running || brake.motion() != Motion::Stands {
        return Err(task.wrong_state("is not paused: it cannot be resumed"));
    }
    let deadline = Instant::now() + PATIENCE;
    while !frozen(task, "resume", false)? {
        if Instant::now() >= deadline {
            let why = "the cgroup above its own is frozen";
            return Err(failed(task, "resume", why.into()));
        }
        sleep(LOOK).await;
    }
    brake.change(Motion::Stands, Motion::Goes);
    events.resumed(&task.id);
    Ok(())
}

const KILLED: &str = "has been killed: it cannot be paused";

fn frozen(task: &Task, operation: &'static str, wanted: bool) -> Result<bool, TaskError> {
    task.cgroup
        .try_set_frozen(wanted)
        .map_err(|error| failed(task, operation, error.into()))
}

fn failed(
    task: &Task,
    operation: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> TaskError {
    TaskError::Failed {
        operation,
        who: Who::container(&task.id),
        source,
    }
}
