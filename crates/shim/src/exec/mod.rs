//! `Exec`: a process that joins a container.
//!
//! Called by [`crate::service`]: [`add`] takes the wish, [`start`] makes the process and lets it run.

use std::sync::Arc;

use containerd_shim_protos::api::ExecProcessRequest;

use crate::options::Options;
use crate::pod::Pod;
use crate::process::Process;
use crate::status::TaskError;
use crate::stdio::Places;
use crate::task::{Backend, Task};

/// What the processes of a container have in common that the shim launches itself.
#[derive(Debug)]
pub struct Host {
    /// The options that it was created with.
    pub options: Options,
}

impl Host {
    /// Of a container with these options.
    pub fn new(options: Options) -> Self {
        Self { options }
    }
}

/// Takes note of a process that is to join.
///
/// # Errors
/// Its id is taken, it makes no sense, or the container does not run.
pub fn add(task: &Task, request: ExecProcessRequest) -> Result<(), TaskError> {
    task.takes_execs()?;
    let places = Places {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    task.add(Process::exec(
        request.exec_id,
        places,
        request.terminal,
        None,
    ))
}

/// Makes the process and lets it run, up to the event of its start.
///
/// # Errors
/// It was started before, or cannot be.
pub async fn start(
    _pod: &Arc<Pod>,
    task: &Arc<Task>,
    process: &Arc<Process>,
) -> Result<(), TaskError> {
    task.takes_execs()?;
    let begun = process.begin();
    let starting = begun.map_err(|state| TaskError::WrongState {
        who: task.who(process),
        state,
    })?;
    match &task.backend {
        Backend::Host(_) => {
            starting.failed(126);
            Err(TaskError::Unsupported(
                "exec into a Wasm container is not supported yet",
            ))
        }
    }
}
