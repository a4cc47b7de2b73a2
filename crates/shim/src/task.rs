//! One task: a container's processes, and what they share.
//!
//! What may be done to one process when is [`crate::process`]'s. Here are the container's own things, and which
//! backend carries out the calls that each kind of container answers in its own way.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_sandbox::cgroup::Cgroup;
use skiff_sandbox::sys::process;
use tokio::sync::watch;

use crate::exec::Host;
use crate::memory_cap::Keeper;
use crate::pause::{Brake, Motion};
use crate::process::{Process, State};
use crate::runc::Runc;
use crate::status::{TaskError, Who};

/// A container.
#[derive(Debug)]
pub struct Task {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its first process.
    pub first: Arc<Process>,
    /// Who starts its processes.
    pub backend: Backend,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The cap on its guest's memory; `None` for what is no guest.
    pub memory_cap: Option<Keeper>,
    /// Its mount namespace. While this is held the kernel takes the mounts down after the exit is told,
    /// and not on the way to it.
    pub mounts: Mutex<Option<OwnedFd>>,
    /// Whether it ends with its first process by itself: its pid namespace is its own.
    pub own_pids: bool,
    /// Held by the one call that deletes it.
    pub deleting: tokio::sync::Mutex<()>,
    /// What pauses it.
    pub brake: Brake,
    /// Held by the one call that changes its limits.
    pub limits: Mutex<()>,
    execs: Mutex<BTreeMap<String, Arc<Process>>>,
    /// How many exec processes are being started or run.
    busy: watch::Sender<usize>,
}

/// Who starts a container's processes. Signals, cgroup, stats, pause, terminals and exits are the same for all.
#[derive(Debug)]
pub enum Backend {
    /// The shim itself, which launches engine hosts.
    Host(Box<Host>),
    /// The node's runc, which makes Linux containers.
    Runc(Box<Runc>),
}

/// What [`Task::new`] needs, as `Create` has made it.
#[derive(Debug)]
pub struct Parts {
    /// See [`Task::id`].
    pub id: String,
    /// See [`Task::bundle`].
    pub bundle: PathBuf,
    /// See [`Task::first`].
    pub first: Process,
    /// See [`Task::backend`].
    pub backend: Backend,
    /// See [`Task::cgroup`].
    pub cgroup: Cgroup,
    /// See [`Task::memory_cap`].
    pub memory_cap: Option<Keeper>,
    /// See [`Task::mounts`].
    pub mounts: Option<OwnedFd>,
    /// See [`Task::own_pids`].
    pub own_pids: bool,
}

/// An exec process that is being started or runs: the container's end is told after its.
#[derive(Debug)]
pub struct Busy(Arc<Task>);

impl Task {
    /// A task that waits for its start.
    pub fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            bundle: parts.bundle,
            first: Arc::new(parts.first),
            backend: parts.backend,
            cgroup: parts.cgroup,
            memory_cap: parts.memory_cap,
            mounts: Mutex::new(parts.mounts),
            own_pids: parts.own_pids,
            deleting: tokio::sync::Mutex::new(()),
            brake: Brake::default(),
            limits: Mutex::default(),
            execs: Mutex::default(),
            busy: watch::Sender::new(0),
        }
    }

    /// Where the container is in its life, which is where its first process is.
    pub fn state(&self) -> State {
        self.first.state()
    }

    /// The process of an exec id; the first for none.
    ///
    /// # Errors
    /// There is no such exec.
    pub fn process(&self, exec: &str) -> Result<Arc<Process>, TaskError> {
        if exec.is_empty() {
            return Ok(Arc::clone(&self.first));
        }
        self.execs()
            .get(exec)
            .cloned()
            .ok_or_else(|| TaskError::NoExec {
                id: self.id.clone(),
                exec: exec.to_owned(),
            })
    }

    /// The id of the exec that the process with this number is, and not of its children.
    pub fn exec_of(&self, pid: u32) -> Option<String> {
        let execs = self.execs();
        let found = execs
            .values()
            .find(|process| process.body().is_some() && process.pid() == pid);
        found.map(|process| process.exec.clone())
    }

    /// A new exec process, which waits for its start.
    ///
    /// # Errors
    /// Its id is taken, or the container does not run.
    pub fn add(&self, process: Process) -> Result<(), TaskError> {
        self.takes_execs()?;
        let mut execs = self.execs();
        if execs.contains_key(&process.exec) {
            return Err(TaskError::ExecExists {
                id: self.id.clone(),
                exec: process.exec,
            });
        }
        execs.insert(process.exec.clone(), Arc::new(process));
        Ok(())
    }

    /// An exec process is deleted.
    pub fn remove(&self, exec: &str) {
        self.execs().remove(exec);
    }

    /// Whether a process can join the container now.
    ///
    /// # Errors
    /// Why not.
    pub fn takes_execs(&self) -> Result<(), TaskError> {
        match (self.state(), self.brake.motion()) {
            (State::Created, _) => {
                Err(self.wrong_state("has not been started: nothing can be executed in it"))
            }
            (State::Stopped(_), _) => {
                Err(self.wrong_state("has ended: nothing can be executed in it"))
            }
            (State::Running, Motion::Stopping | Motion::Stands) => {
                Err(self
                    .wrong_state("is paused: nothing can be executed in it before it is resumed"))
            }
            (State::Running, Motion::Goes | Motion::Killed) => Ok(()),
        }
    }

    /// An exec process is about to be there.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.send_modify(|count| *count += 1);
        Busy(Arc::clone(self))
    }

    /// Waits until no exec process is left.
    pub async fn idle(&self) {
        // The sender is the task's own: it is there.
        drop(self.busy.subscribe().wait_for(|count| *count == 0).await);
    }

    /// Sends a signal to a process, or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`TaskError::Finished`] when there is nothing left to signal.
    pub fn kill(&self, process: &Process, signal: u32, all: bool) -> Result<(), TaskError> {
        let number = i32::try_from(signal).map_err(|_| TaskError::NoSignal { signal })?;
        let who = || self.who(process);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TaskError::Failed {
            operation: "signal",
            who: who(),
            source,
        };
        if process.body().is_none() && process.state() == State::Created {
            return Err(TaskError::WrongState {
                who: who(),
                state: "has not been started: it cannot be signalled",
            });
        }
        let mut signalled = match process.signal(number) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Err(TaskError::NoSignal { signal });
            }
            other => other.map_err(|error| failed(error.into()))?,
        };
        let first = process.exec.is_empty();
        // runc knows no `all` of an exec either.
        if all && first {
            let others = self.cgroup.pids().map_err(|error| failed(error.into()))?;
            if number == libc::SIGKILL && !others.is_empty() {
                self.cgroup.kill().map_err(|error| failed(error.into()))?;
                signalled = true;
            } else {
                for pid in others.into_iter().filter(|pid| *pid != process.pid()) {
                    // Gone meanwhile: what was wanted, or nearly so.
                    signalled |= process::open_pidfd(pid)
                        .and_then(|pidfd| process::send_signal(pidfd.as_fd(), number))
                        .is_ok();
                }
            }
        }
        if signalled && number == libc::SIGKILL {
            let thawed = if first {
                self.brake.killed(&self.cgroup)
            } else {
                self.brake.killed_one(&self.cgroup, process.pid())
            };
            thawed.map_err(|error| failed(error.into()))?;
        }
        if signalled {
            Ok(())
        } else {
            Err(TaskError::Finished { who: who() })
        }
    }

    /// Process ids of the container.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = self.cgroup.pids().unwrap_or_default();
        // A task that has ended and is not deleted yet answers with the process that it had: containerd
        // 2.x takes an empty list, when it restarts, for a task that never was, and deletes it with its
        // exit code.
        if pids.is_empty() {
            pids.push(self.first.pid());
        }
        pids
    }

    /// A process of this container, for messages.
    pub fn who(&self, process: &Process) -> Who {
        self.who_of(&process.exec)
    }

    /// One of its exec processes by its id, or the container itself for none.
    pub fn who_of(&self, exec: &str) -> Who {
        Who {
            id: self.id.clone(),
            exec: exec.to_owned(),
        }
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Process>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is in no state for a call.
    pub(crate) fn wrong_state(&self, state: &'static str) -> TaskError {
        TaskError::WrongState {
            who: self.who(&self.first),
            state,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count -= 1);
    }
}
