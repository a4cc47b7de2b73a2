//! What is done to the processes of a cgroup: listed, killed, frozen, watched for lack of memory.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::process::{Pid, Signal};

use super::directory::{children, is_gone, read, write};
use super::{Cgroup, CgroupError};

/// Rounds of killing without `cgroup.kill`: a process that was being forked is met in the next.
const KILL_ROUNDS: usize = 10;

/// How long a cgroup may take to freeze: 1 ms each.
const FREEZE_POLLS: usize = 500;

impl Cgroup {
    /// Process ids in the cgroup and below it, each once. Empty if it is gone.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        if let Some(path) = self.paths().next() {
            collect(path, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills every process of the cgroup and below it. Does not wait for their end.
    ///
    /// One write where there is a unified tree and a kernel from 5.14 on; else the cgroup is frozen, so
    /// that no process can fork or give its id to another, and each process is sent the signal.
    ///
    /// # Errors
    /// The kernel refuses, or processes are born faster than they are killed.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(unified) = &self.unified {
            match write(&unified.join("cgroup.kill"), "1") {
                // A cgroup that somebody has frozen dies when it thaws.
                Ok(()) => return self.set_freezer("THAWED"),
                // The file is missing in older kernels, and with the whole cgroup.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    return Err(CgroupError::io("kill the processes of", unified)(error));
                }
            }
        }
        for _ in 0..KILL_ROUNDS {
            self.set_freezer("FROZEN")?;
            let pids = self.pids();
            for pid in pids
                .iter()
                .flatten()
                .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
            {
                // Gone already: what was wanted.
                if let Err(error) = rustix::process::kill_process(pid, Signal::KILL) {
                    log::debug!("could not kill {pid:?}: {error}");
                }
            }
            self.set_freezer("THAWED")?;
            if pids?.is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Tells the freezer, if the cgroup has one. A process frozen by v1 takes a signal when it thaws.
    fn set_freezer(&self, state: &'static str) -> Result<(), CgroupError> {
        let (file, value) = match (self.directory("freezer"), &self.unified) {
            (Some(freezer), _) => (freezer.join("freezer.state"), state),
            (None, Some(unified)) => (
                unified.join("cgroup.freeze"),
                if state == "FROZEN" { "1" } else { "0" },
            ),
            (None, None) => return Ok(()),
        };
        match write(&file, value) {
            Err(error) if !is_gone(&error) => Err(CgroupError::io("freeze or thaw", file)(error)),
            _ => Ok(()),
        }
    }

    /// Stops all processes of the cgroup until [`Cgroup::thaw`]. Waits until they stand still.
    ///
    /// # Errors
    /// There is no freezer, or a process does not stop within half a second.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// There is no freezer.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        for _ in 0..FREEZE_POLLS {
            if self.try_set_frozen(frozen)? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        if frozen {
            self.try_set_frozen(false)?;
        }
        let place = self.paths().next().unwrap_or_else(|| Path::new(""));
        Err(CgroupError::io(freezing(frozen), place)(
            ErrorKind::TimedOut.into(),
        ))
    }

    /// One attempt of [`Cgroup::freeze`] or [`Cgroup::thaw`], without waiting: whether it is done. It is repeated
    /// until it is, or taken back by one with `false`. A cgroup that is gone holds nobody.
    ///
    /// # Errors
    /// There is no freezer.
    pub fn try_set_frozen(&self, frozen: bool) -> Result<bool, CgroupError> {
        let (file, value, state, wanted) = if let Some(freezer) = self.directory("freezer") {
            let file = freezer.join("freezer.state");
            let word = if frozen { "FROZEN" } else { "THAWED" };
            (file.clone(), word, file, word)
        } else if let Some(unified) = &self.unified {
            let (value, wanted) = if frozen {
                ("1", "frozen 1")
            } else {
                ("0", "frozen 0")
            };
            (
                unified.join("cgroup.freeze"),
                value,
                unified.join("cgroup.events"),
                wanted,
            )
        } else {
            return Err(CgroupError::NoController {
                field: "pausing a container",
                controller: "freezer".to_owned(),
            });
        };
        // Written each time: v1 may have stopped half way, at a process that was being forked.
        let written = write(&file, value).map_err(|error| (error, freezing(frozen), file));
        let lines = written.and_then(|()| read(&state).map_err(|error| (error, "read", state)));
        match lines {
            Ok(lines) => Ok(lines.lines().any(|line| line == wanted)),
            // systemd removes a scope when its last process has ended, which may be at once when it was killed:
            // nobody is held there any more.
            Err((error, ..)) if !frozen && is_gone(&error) => Ok(true),
            Err((error, step, file)) => Err(CgroupError::io(step, file)(error)),
        }
    }

    /// Lets one process of a frozen cgroup go to its end, which was sent SIGKILL.
    ///
    /// With v2 it goes by itself. The freezer of v1 holds it, and lets it go when it leaves for the cgroup above.
    ///
    /// # Errors
    /// The cgroup above is gone, or refuses it.
    pub fn release(&self, pid: u32) -> Result<(), CgroupError> {
        let Some(above) = self.directory("freezer").and_then(Path::parent) else {
            return Ok(());
        };
        let file = above.join("cgroup.procs");
        match write(&file, &pid.to_string()) {
            // Gone already: what was wanted.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map_err(CgroupError::io("let a process out by", file)),
        }
    }

    /// How many processes of the cgroup the kernel has killed for lack of memory.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(directory) = self.directory("memory") else {
            return Ok(0);
        };
        let file = directory.join(if self.unified_directory("memory").is_some() {
            "memory.events"
        } else {
            "memory.oom_control"
        });
        let text = read(&file).map_err(CgroupError::io("read", &file))?;
        Ok(text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
            .unwrap_or(0))
    }

    /// What tells of lack of memory. `None` without a memory controller.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn oom_events(&self) -> Result<Option<MemoryEvents>, CgroupError> {
        let Some(directory) = self.directory("memory") else {
            return Ok(None);
        };
        if self.unified_directory("memory").is_some() {
            let file = directory.join("memory.events");
            let file = std::fs::File::open(&file).map_err(CgroupError::io("open", file))?;
            return Ok(Some(MemoryEvents {
                file: file.into(),
                before_killing: false,
            }));
        }
        let control = directory.join("memory.oom_control");
        let watched = std::fs::File::open(&control).map_err(CgroupError::io("open", &control))?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| CgroupError::io("make an eventfd for", &control)(error.into()))?;
        let register = directory.join("cgroup.event_control");
        write(
            &register,
            &format!("{} {}", event.as_raw_fd(), watched.as_raw_fd()),
        )
        .map_err(CgroupError::io("write", register))?;
        Ok(Some(MemoryEvents {
            file: event,
            before_killing: true,
        }))
    }
}

/// What tells of lack of memory, to whoever waits for it in an event loop.
#[derive(Debug)]
pub struct MemoryEvents {
    /// Becomes readable, anew each time: a non-blocking eventfd of v1, which is readable when the cgroup is removed
    /// too; `memory.events` of v2, which the kernel says is readable at any time and tells of each change of.
    pub file: OwnedFd,
    /// It tells before the kernel has killed, as v1 does, so that [`Cgroup::oom_kills`] is not yet told.
    pub before_killing: bool,
}

fn freezing(frozen: bool) -> &'static str {
    if frozen { "freeze" } else { "thaw" }
}

/// Processes outside of this process' own pid namespace are listed as 0.
fn visible(pid: &u32) -> bool {
    *pid != 0
}

fn collect(path: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let file = path.join("cgroup.procs");
    match read(&file) {
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<u32>().ok().filter(visible)),
        ),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(CgroupError::io("read", file)(error)),
    }
    children(path)
        .iter()
        .try_for_each(|child| collect(child, pids))
}
