//! A process that runs until it is told not to, as under a service manager: when it ends, it is started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::wait_for;

/// Between an end and the next start: a process that ends at once must not keep the machine busy.
const PAUSE: Duration = Duration::from_millis(300);
/// How long one may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(15);

/// One such process. It ends with this value.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    log: PathBuf,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    /// 0 while none runs.
    process: AtomicU32,
    starts: AtomicU32,
}

impl Daemon {
    /// Starts it. Its process id is always in the file `<directory>/pids/<name>`, its output in `logs/<name>`.
    ///
    /// # Errors
    /// If its log cannot be opened.
    pub fn start(
        directory: &Path,
        name: &'static str,
        make: impl Fn() -> Command + Send + 'static,
    ) -> Result<Self> {
        let log = directory.join("logs").join(name);
        let id = directory.join("pids").join(name);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("could not open {}", log.display()))?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Acquire) {
                let child = file.try_clone().and_then(|output| {
                    let error = output.try_clone()?;
                    make()
                        .stdin(Stdio::null())
                        .stdout(Stdio::from(output))
                        .stderr(Stdio::from(error))
                        .spawn()
                });
                match child {
                    Ok(mut child) => {
                        shared.process.store(child.id(), Ordering::Release);
                        shared.starts.fetch_add(1, Ordering::AcqRel);
                        // Whoever reads it sees the old number or the new one.
                        let next = id.with_extension("new");
                        if fs::write(&next, child.id().to_string()).is_ok() {
                            fs::rename(&next, &id).ok();
                        }
                        // An end is an end, however it came about; the log has the reason.
                        child.wait().ok();
                        shared.process.store(0, Ordering::Release);
                    }
                    Err(error) => crate::runner::fault(format!("could not start {name}: {error}")),
                }
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Self {
            name,
            log,
            state,
            thread: Some(thread),
        })
    }

    /// Its process, or 0 if none runs at this moment.
    pub fn id(&self) -> u32 {
        self.state.process.load(Ordering::Acquire)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.state.starts.load(Ordering::Acquire)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            kill_process(id, signal).ok();
        }
    }

    /// Ends it by a signal and waits until its successor runs.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn restart(&self, signal: Signal) -> Result<()> {
        let starts = self.starts();
        self.signal(signal);
        wait_for(&format!("{} does not restart", self.name), PATIENCE, || {
            Ok((self.starts() > starts).then_some(()))
        })
    }
    /// Ends it, for good.
    pub(super) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.state.stop.store(true, Ordering::Release);
        self.signal(Signal::TERM);
        let ended = wait_for("it does not end", PATIENCE, || {
            Ok((self.id() == 0).then_some(()))
        });
        if ended.is_err() {
            self.signal(Signal::KILL);
        }
        if thread.join().is_err() {
            crate::runner::fault(format!("whoever watched over {} panicked", self.name));
        }
        crate::runner::keep_log(self.name, self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
