//! One process of a container: its first, or one that joined it by exec.
//!
//! [`Process`] changes only in methods that do not wait, so with one thread no two of them mix: an exit seen by the
//! watcher comes wholly before or after a start. Waiting is done outside, on [`Process::exit`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use oci_spec::runtime::Process as ProcessSpec;
use skiff_sandbox::control::Control;
use skiff_sandbox::sys::process;
use tokio::sync::watch;

use crate::exit_record::Exit;
use crate::stdio::{Keepers, Places};
use crate::terminal::Terminal;

/// A process from Created to its end.
#[derive(Debug)]
pub struct Process {
    /// The id of an exec; empty for the container's first process.
    pub exec: String,
    /// Its streams, as the client named them.
    pub places: Places,
    /// Whether it was asked to have a terminal.
    pub at_terminal: bool,
    /// What an exec is to run; the container's first process is in the bundle's `config.json`.
    pub spec: Option<Box<ProcessSpec>>,
    /// Held by the one call that deletes it.
    pub deleting: tokio::sync::Mutex<()>,
    body: OnceLock<Body>,
    phase: Mutex<Phase>,
    exit: watch::Sender<Option<Exit>>,
}

/// What a process has from the moment that the kernel knows it. A first process has it when it is created, an exec
/// when it is started.
#[derive(Debug)]
pub struct Body {
    /// Its number, as the node counts.
    pub pid: u32,
    /// The process, for good: numbers are used again.
    pub pidfd: OwnedFd,
    /// The shim's ends of its FIFOs.
    pub keepers: Keepers,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// The shim's own writing end of its input, until `CloseIO`: an exec may ask for input before its client has come.
    pub input: Mutex<Option<OwnedFd>>,
}

/// Where a process is in its life.
#[derive(Debug)]
enum Phase {
    /// Waits for `Start`: at the other end of this conversation, if it was launched by the shim itself.
    Created(Option<Control>),
    /// `Start` is at it.
    Starting,
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

/// A process that is being started. Dropped half way, it waits for another start.
#[derive(Debug)]
pub struct Starting<'a> {
    process: &'a Process,
    control: Option<Control>,
    done: bool,
}

impl Process {
    /// A container's first process, which is there and waits for its start.
    pub fn first(places: Places, at_terminal: bool, body: Body, control: Option<Control>) -> Self {
        Self {
            body: OnceLock::from(body),
            phase: Mutex::new(Phase::Created(control)),
            ..Self::exec(String::new(), places, at_terminal, None)
        }
    }

    /// A process that is to join a container, when it is started.
    pub fn exec(
        id: String,
        places: Places,
        at_terminal: bool,
        spec: Option<Box<ProcessSpec>>,
    ) -> Self {
        Self {
            exec: id,
            places,
            at_terminal,
            spec,
            deleting: tokio::sync::Mutex::new(()),
            body: OnceLock::new(),
            phase: Mutex::new(Phase::Created(None)),
            exit: watch::Sender::new(None),
        }
    }

    /// What the kernel knows of it, once it does.
    pub fn body(&self) -> Option<&Body> {
        self.body.get()
    }

    /// Its number, as the node counts; 0 for an exec that was not started.
    pub fn pid(&self) -> u32 {
        self.body().map_or(0, |body| body.pid)
    }

    /// The process itself.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.body().map(|body| body.pidfd.as_fd())
    }

    /// Its terminal, if it has one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.body()?.terminal.as_ref()
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match (&*self.phase(), &*self.exit.borrow()) {
            (Phase::Stopped, Some(exit)) => State::Stopped(exit.clone()),
            (Phase::Created(_) | Phase::Starting, _) => State::Created,
            _ => State::Running,
        }
    }

    /// `CloseIO`: its input ends with the last client that writes.
    pub fn close_input(&self) {
        if let Some(body) = self.body() {
            if let Some(terminal) = &body.terminal {
                terminal.close_input();
            }
            drop(
                body.input
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        }
    }

    /// Its end, for any number of waiters.
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// Takes the start upon itself.
    ///
    /// # Errors
    /// Why not: what it is, and what cannot be done to it therefore.
    pub fn begin(&self) -> Result<Starting<'_>, &'static str> {
        let mut phase = self.phase();
        match &mut *phase {
            Phase::Created(control) => {
                let control = control.take();
                *phase = Phase::Starting;
                Ok(Starting {
                    process: self,
                    control,
                    done: false,
                })
            }
            Phase::Starting => Err("is being started: it cannot be started twice"),
            Phase::Running => Err("is running already: it cannot be started"),
            Phase::Stopped if self.exec.is_empty() => {
                Err("has ended: it cannot be started again, delete it and create it anew")
            }
            Phase::Stopped => Err("has ended: it cannot be started again"),
        }
    }

    /// Sends a signal. `false` when there is nothing left to signal.
    ///
    /// # Errors
    /// What the kernel says: `EINVAL` for a number that is no signal.
    pub fn signal(&self, number: i32) -> std::io::Result<bool> {
        let Some(pidfd) = self.pidfd() else {
            return Ok(false);
        };
        if matches!(*self.phase(), Phase::Stopped) {
            return Ok(false);
        }
        match process::send_signal(pidfd, number) {
            Ok(()) => Ok(true),
            // It has ended, and the watcher has yet to learn of it.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// It has ended. `false` if that was known.
    pub fn ended(&self, exit: Exit) -> bool {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Stopped) {
            return false;
        }
        *phase = Phase::Stopped;
        self.exit.send_replace(Some(exit));
        true
    }

    /// Closes the shim's ends of its streams, and loses what nobody has read.
    pub fn close(&self) {
        if let Some(body) = self.body() {
            if let Some(terminal) = &body.terminal {
                terminal.close();
            }
            body.keepers.close();
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Starting<'_> {
    /// The conversation with a first process that the shim has launched itself.
    pub fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    /// It runs.
    pub fn runs(mut self) {
        self.done = true;
        *self.process.phase() = Phase::Running;
    }

    /// An exec is there and runs, as this.
    pub fn runs_as(self, body: Body) {
        // There is none yet: only this has the start, and it ends here.
        drop(self.process.body.set(body));
        self.runs();
    }

    /// It could not be started, and never will be: whoever waits for its end is told this one.
    pub fn failed(mut self, code: u8) {
        self.done = true;
        self.process.ended(Exit::now(self.process.pid(), code));
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.done {
            *self.process.phase() = Phase::Created(self.control.take());
        }
    }
}
