//! `Exec` in a Linux container: runc has another process join it.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::fs::MemfdFlags;
use skiff_sandbox::sys::memory::memfd_sealed;

use super::console::ConsoleSocket;
use super::container::{claim, keep_input, null, own_streams, unique};
use super::{Exec, Runc, RuncError};
use crate::pod::Pod;
use crate::process::{Body, Process};
use crate::status::TaskError;
use crate::task::Task;
use crate::terminal::{self, Terminal};

/// Starts an exec process, up to the event of its start. It is not stopped half way when the call is given up.
///
/// # Errors
/// It was started before, or cannot be.
pub(crate) async fn start(
    pod: &Arc<Pod>,
    runc: &Runc,
    task: &Arc<Task>,
    process: &Arc<Process>,
) -> Result<(), TaskError> {
    let (pod, runc) = (Arc::clone(pod), runc.clone());
    let (task, process) = (Arc::clone(task), Arc::clone(process));
    let started = tokio::spawn(async move {
        let busy = task.busy();
        let begun = process.begin();
        let starting = begun.map_err(|state| TaskError::WrongState {
            who: task.who(&process),
            state,
        })?;
        match join(&pod, &runc, &task, &process).await {
            Ok(body) => {
                let pid = body.pid;
                starting.runs_as(body);
                // No wait since the start: the exit, however early, is told after it.
                pod.events.exec_started(&task.id, &process.exec, pid);
                tokio::spawn(Arc::clone(&pod).watch_exec(task, Arc::clone(&process), busy));
                Ok(())
            }
            Err(source) => {
                // As with containerd's own shim, it goes on waiting for a start that works.
                drop(starting);
                Err(TaskError::runc("start", task.who(&process))(source))
            }
        }
    });
    started.await.unwrap_or(Err(TaskError::ShuttingDown))
}

async fn join(pod: &Pod, runc: &Runc, task: &Task, process: &Process) -> Result<Body, RuncError> {
    let mut spec = process
        .spec
        .clone()
        .ok_or_else(|| RuncError::io("read the process")(std::io::ErrorKind::InvalidData))?;
    spec.set_terminal(Some(process.at_terminal));
    let spec = serde_json::to_vec(&spec).map_err(RuncError::io("write the process"))?;
    let spec = memfd_sealed("process", &spec).map_err(RuncError::io("write the process"))?;
    let log = rustix::fs::memfd_create("log", MemfdFlags::CLOEXEC)
        .map_err(RuncError::io("make room for the log"))?;
    let opened = if process.at_terminal {
        terminal::places(&process.places).open()
    } else {
        process.places.open()
    };
    let streams = opened.map_err(RuncError::Stdio)?;
    own_streams(&streams, runc.owner)?;
    let input = keep_input(&streams, &process.places, process.at_terminal)?;
    let name = unique();
    let console = process
        .at_terminal
        .then(|| ConsoleSocket::listen(&task.bundle, format!("pty-{name}")))
        .transpose()?;
    let null = null().map_err(RuncError::io("open /dev/null"))?;
    let stdio = if process.at_terminal {
        [null.as_fd(); 3]
    } else {
        streams.container.each_ref().map(|stream| stream.as_fd())
    };
    let pid_file = PidFile(task.bundle.join(format!("exec-{name}.pid")));
    let hold = pod.orphans()?.hold();
    let exec = Exec {
        process: &path(&spec),
        pid_file: &pid_file.0,
        console: console.as_ref().map(ConsoleSocket::path),
        log: &path(&log),
    };
    runc.exec(&task.id, exec, stdio).await?;
    let (pid, pidfd) = claim(&hold, &pid_file.0)?;
    let terminal = console
        .map(|console| {
            let master = console.receive()?;
            Terminal::start(master, &streams, &process.places).map_err(RuncError::Terminal)
        })
        .transpose()?;
    Ok(Body {
        pid,
        pidfd,
        input: Mutex::new(input),
        keepers: streams.keepers,
        terminal,
    })
}

/// A file without a name, as another process opens it.
fn path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_raw_fd()
    ))
}

/// A file that goes when this is dropped.
struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        // It is not there if runc has failed.
        drop(fs::remove_file(&self.0));
    }
}
