//! `Exec`: a process that joins a container.
//!
//! Called by [`crate::service`]: [`add`] takes the wish, [`start`] makes the process and lets it run. [`search`] says
//! what a command means in a container, [`join`] makes the process.

use std::future::pending;
use std::sync::Arc;

use containerd_shim_protos::api::ExecProcessRequest;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::Process as ProcessSpec;
use skiff_image::view::ImageView;
use tokio::io::Interest;

pub use error::ExecError;

use crate::engine::Engine;
use crate::options::Options;
use crate::pod::Pod;
use crate::process::Process;
use crate::runc;
use crate::status::TaskError;
use crate::stdio::Places;
use crate::sys::watch_own;
use crate::task::{Backend, Task};

mod error;
mod join;
mod linux;
mod search;
mod toolbox;

/// What the type's name ends with. containerd has had different addresses before it.
const TYPE: &str = "/Process";

/// What the processes of a container have in common that the shim launches itself.
#[derive(Debug)]
pub struct Host {
    /// The options that it was created with.
    pub options: Options,
    /// What runs its guest, and modules that are executed in it.
    pub engine: Engine,
    /// The mounts of Linux programs, once one was executed.
    linux: tokio::sync::Mutex<Option<Arc<linux::Mounts>>>,
    /// Its image, once it was asked for.
    image: tokio::sync::OnceCell<ImageView>,
}

impl Host {
    /// Of a container with these options and this engine.
    pub fn new(options: Options, engine: Engine) -> Self {
        Self {
            options,
            engine,
            linux: tokio::sync::Mutex::default(),
            image: tokio::sync::OnceCell::new(),
        }
    }

    /// The container is deleted: what it had mounted for Linux programs goes.
    pub async fn close(&self) {
        drop(self.linux.lock().await.take());
    }
}

/// Takes note of a process that is to join.
///
/// # Errors
/// Its id is taken, it makes no sense, or the container does not run.
pub fn add(task: &Task, request: ExecProcessRequest) -> Result<(), TaskError> {
    task.takes_execs()?;
    let spec = spec(request.spec.as_ref()).map_err(|source| TaskError::Exec {
        who: task.who_of(&request.exec_id),
        source: Box::new(source),
    })?;
    let places = Places {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    task.add(Process::exec(
        request.exec_id,
        places,
        request.terminal,
        Some(Box::new(spec)),
    ))
}

fn spec(any: Option<&Any>) -> Result<ProcessSpec, ExecError> {
    let any = any.ok_or(ExecError::NoProcess)?;
    if !any.type_url.ends_with(TYPE) {
        return Err(ExecError::Type(any.type_url.clone()));
    }
    serde_json::from_slice(&any.value).map_err(ExecError::Json)
}

/// Makes the process and lets it run, up to the event of its start.
///
/// # Errors
/// It was started before, or cannot be.
pub async fn start(
    pod: &Arc<Pod>,
    task: &Arc<Task>,
    process: &Arc<Process>,
) -> Result<(), TaskError> {
    task.takes_execs()?;
    let host = match &task.backend {
        Backend::Host(host) => host,
        Backend::Runc(runc) => return runc::start_exec(pod, runc, task, process).await,
    };
    let begun = process.begin();
    let starting = begun.map_err(|state| TaskError::WrongState {
        who: task.who(process),
        state,
    })?;
    // From here on the container's end waits for this one's.
    let busy = task.busy();
    let made = tokio::select! {
        made = join::join(pod, task, host, process) => made,
        // A module may be compiled for it just now: nobody wants that any more.
        () = gone(task) => Err(ExecError::Ending),
    };
    match made {
        Ok(body) => {
            // Nothing waits from here to the end: the event of the start comes before that of the exit.
            starting.runs_as(body);
            pod.events
                .exec_started(&task.id, &process.exec, process.pid());
            let watch = Arc::clone(pod).watch_exec(Arc::clone(task), Arc::clone(process), busy);
            tokio::spawn(watch);
            Ok(())
        }
        Err(source) => {
            starting.failed(source.exit_code());
            Err(TaskError::Exec {
                who: task.who(process),
                source: Box::new(source),
            })
        }
    }
}

/// Waits until the container's first process has ended.
async fn gone(task: &Task) {
    // A descriptor of its own: the event loop takes each once, and the watch over the process has the other.
    let copy = task.first.pidfd().map(|pidfd| pidfd.try_clone_to_owned());
    let Some(Ok(copy)) = copy else {
        return pending().await;
    };
    match watch_own(copy, Interest::READABLE) {
        Ok(watched) => drop(watched.readable().await),
        Err(_) => pending().await,
    }
}
