//! One task: a container's process from Created to its end, and what may be done to it when.
//!
//! [`Task`] changes only in methods that do not wait, so with one thread no two of them mix: an exit seen
//! by the watcher comes wholly before or after a start. Waiting is done outside, on [`Task::exit`].

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skiff_sandbox::cgroup::Cgroup;
use skiff_sandbox::control::Control;
use skiff_sandbox::sys::process;
use tokio::sync::watch;

use crate::exit_record::Exit;
use crate::pause::Brake;
use crate::status::TaskError;
use crate::stdio::{Keepers, Places};
use crate::terminal::Terminal;

/// A container's process.
#[derive(Debug)]
pub struct Task {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its streams, as `Create` named them.
    pub places: Places,
    /// The process, as the node numbers it.
    pub pid: u32,
    /// The process, for good: numbers are used again.
    pub pidfd: OwnedFd,
    /// The shim's ends of its FIFOs.
    pub keepers: Keepers,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its mount namespace. While this is held the kernel takes the mounts down after the exit is told,
    /// and not on the way to it.
    pub mounts: Mutex<Option<OwnedFd>>,
    /// Held by the one call that deletes it.
    pub deleting: tokio::sync::Mutex<()>,
    /// What pauses it.
    pub brake: Brake,
    /// Held by the one call that changes its limits.
    pub limits: Mutex<()>,
    phase: Mutex<Phase>,
    exit: watch::Sender<Option<Exit>>,
}

/// What [`Task::new`] needs, as `Create` has made it.
#[derive(Debug)]
pub struct Parts {
    /// See [`Task::id`].
    pub id: String,
    /// See [`Task::bundle`].
    pub bundle: PathBuf,
    /// See [`Task::places`].
    pub places: Places,
    /// See [`Task::pid`].
    pub pid: u32,
    /// See [`Task::pidfd`].
    pub pidfd: OwnedFd,
    /// The conversation with the process, which waits for its start.
    pub control: Control,
    /// See [`Task::keepers`].
    pub keepers: Keepers,
    /// See [`Task::terminal`].
    pub terminal: Option<Terminal>,
    /// See [`Task::cgroup`].
    pub cgroup: Cgroup,
    /// See [`Task::mounts`].
    pub mounts: Option<OwnedFd>,
}

/// Where a task is in its life.
#[derive(Debug)]
enum Phase {
    /// Waits for `Start`.
    Created(Control),
    Running,
    Stopped,
}

/// [`Phase`], for those who only look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for `Start`.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Stopped(Exit),
}

impl Task {
    /// A task that waits for its start.
    pub fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            bundle: parts.bundle,
            places: parts.places,
            pid: parts.pid,
            pidfd: parts.pidfd,
            keepers: parts.keepers,
            terminal: parts.terminal,
            cgroup: parts.cgroup,
            mounts: Mutex::new(parts.mounts),
            deleting: tokio::sync::Mutex::new(()),
            brake: Brake::default(),
            limits: Mutex::default(),
            phase: Mutex::new(Phase::Created(parts.control)),
            exit: watch::Sender::new(None),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match (&*self.phase(), &*self.exit.borrow()) {
            (Phase::Stopped, Some(exit)) => State::Stopped(exit.clone()),
            (Phase::Created(_), _) => State::Created,
            _ => State::Running,
        }
    }

    /// Its end, for any number of waiters.
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// Lets the guest run.
    ///
    /// # Errors
    /// It was started before, or has ended.
    pub fn start(&self) -> Result<(), TaskError> {
        let mut phase = self.phase();
        match &*phase {
            Phase::Created(control) => {
                control.go().map_err(|source| TaskError::Failed {
                    operation: "start",
                    id: self.id.clone(),
                    source: source.into(),
                })?;
                *phase = Phase::Running;
                Ok(())
            }
            Phase::Running => Err(self.wrong_state("is running already: it cannot be started")),
            Phase::Stopped => Err(self.wrong_state(
                "has ended: it cannot be started again, delete it and create it anew",
            )),
        }
    }

    /// Sends a signal to the process, or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`TaskError::Finished`] when there is nothing left to signal.
    pub fn kill(&self, signal: u32, all: bool) -> Result<(), TaskError> {
        let number = i32::try_from(signal).map_err(|_| TaskError::NoSignal { signal })?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TaskError::Failed {
            operation: "signal",
            id: self.id.clone(),
            source,
        };
        let finished = || TaskError::Finished {
            id: self.id.clone(),
        };
        let stopped = matches!(*self.phase(), Phase::Stopped);
        let mut signalled = false;
        if !stopped {
            match process::send_signal(self.pidfd.as_fd(), number) {
                Ok(()) => signalled = true,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINVAL) => return Err(TaskError::NoSignal { signal }),
                    // It has ended, and the watcher has yet to learn of it.
                    Some(libc::ESRCH) => {}
                    _ => return Err(failed(error.into())),
                },
            }
        }
        if all {
            let others = self.cgroup.pids().map_err(|error| failed(error.into()))?;
            if number == libc::SIGKILL && !others.is_empty() {
                self.cgroup.kill().map_err(|error| failed(error.into()))?;
                signalled = true;
            } else {
                for pid in others.into_iter().filter(|pid| *pid != self.pid) {
                    // Gone meanwhile: what was wanted, or nearly so.
                    signalled |= process::open_pidfd(pid)
                        .and_then(|pidfd| process::send_signal(pidfd.as_fd(), number))
                        .is_ok();
                }
            }
        }
        if signalled && number == libc::SIGKILL {
            let thawed = self.brake.killed(&self.cgroup);
            thawed.map_err(|error| failed(error.into()))?;
        }
        if signalled { Ok(()) } else { Err(finished()) }
    }

    /// Process ids of the container.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = self.cgroup.pids().unwrap_or_default();
        // A task that has ended and is not deleted yet answers with the process that it had: containerd
        // 2.x takes an empty list, when it restarts, for a task that never was, and deletes it with its
        // exit code.
        if pids.is_empty() {
            pids.push(self.pid);
        }
        pids
    }

    /// The process has ended. `false` if that was known.
    pub fn ended(&self, exit: Exit) -> bool {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Stopped) {
            return false;
        }
        *phase = Phase::Stopped;
        self.exit.send_replace(Some(exit));
        true
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is in no state for a call.
    pub(crate) fn wrong_state(&self, state: &'static str) -> TaskError {
        TaskError::WrongState {
            id: self.id.clone(),
            state,
        }
    }
}
