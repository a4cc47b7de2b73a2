//! Processes that become children of this one because the process that made them has ended.
//!
//! A shim that runs Linux containers through another program takes over what that program leaves: the containers'
//! first processes, which it claims, and whatever else loses its parent, which nobody waits for and which is reaped
//! here. Until [`adopt`] is called nothing is recorded and orphans go elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions};

static STATE: Mutex<Option<State>> = Mutex::new(None);

#[derive(Debug, Default)]
struct State {
    /// Children that somebody waits for.
    awaited: BTreeSet<u32>,
    /// Claims that are on their way.
    holds: usize,
}

/// While this lives no orphan is reaped: one of them may be what is about to be claimed.
#[derive(Debug)]
pub struct Hold(());

/// From now on orphans among this process's descendants become its children. Children that there are, and those that
/// are launched from now on, are somebody else's to wait for. Twice is the same as once.
///
/// # Errors
/// `/proc` cannot tell the children of a process on this kernel.
pub fn adopt() -> io::Result<()> {
    let mut state = lock();
    if state.is_none() {
        let awaited = children()?.into_iter().collect();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        *state = Some(State { awaited, holds: 0 });
    }
    Ok(())
}

/// Keeps [`reap`] from reaping.
pub fn hold() -> Hold {
    if let Some(state) = lock().as_mut() {
        state.holds += 1;
    }
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(state) = lock().as_mut() {
            state.holds = state.holds.saturating_sub(1);
        }
    }
}

impl Hold {
    /// An orphan that its claimer waits for.
    pub fn claim(&self, pid: u32) {
        if let Some(state) = lock().as_mut() {
            state.awaited.insert(pid);
        }
    }
}

/// Reaps the orphans that have ended. Answers how many; none while somebody holds.
///
/// # Errors
/// `/proc` cannot be read.
pub fn reap() -> io::Result<usize> {
    let mut state = lock();
    let Some(state) = state.as_mut().filter(|state| state.holds == 0) else {
        return Ok(0);
    };
    let children = children()?;
    // Numbers are used again: one that is no child any more may come back as an orphan's.
    state.awaited.retain(|pid| {
        children.contains(pid) || std::fs::exists(format!("/proc/{pid}")).unwrap_or(true)
    });
    let mut reaped = 0;
    for pid in children.iter().filter(|pid| !state.awaited.contains(*pid)) {
        let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else {
            continue;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if let Ok(Some(_)) = rustix::process::waitid(WaitId::Pid(pid), options) {
            reaped += 1;
        }
    }
    Ok(reaped)
}

/// Clones children, by a call that gives their numbers: they are the caller's to wait for. What is not above 0 is none.
pub(crate) fn cloning<const COUNT: usize>(clone: impl FnOnce() -> [i64; COUNT]) -> [i64; COUNT] {
    let mut state = lock();
    let results = clone();
    if let Some(state) = state.as_mut() {
        let pids = results.iter().filter_map(|pid| u32::try_from(*pid).ok());
        state.awaited.extend(pids.filter(|pid| *pid > 0));
    }
    results
}

/// Children are those of a thread, and go to another thread when it ends.
fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        match std::fs::read_to_string(thread.join("children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            ),
            // A kernel without such lists (`CONFIG_PROC_CHILDREN`); else the thread has just ended.
            Err(error) if thread.join("stat").exists() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(children)
}

fn lock() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
