//! containerd's Task service: each call, translated to the pod and back.
//!
//! Served under two names: `containerd.task.v3.Task`, and `containerd.task.v2.Task`, which is all that
//! containerd 1.7 speaks. The messages are the same.
//!
//! A call is dropped when its connection breaks or its time is up. What must not stop half way does not
//! wait, or undoes itself when dropped.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::{Task as TaskService, create_task};
use ttrpc::r#async::{Service as Methods, TtrpcContext};

use crate::create::create;
use crate::pause::{Motion, pause, resume};
use crate::pod::Pod;
use crate::stats::metrics;
use crate::status::TaskError;
use crate::task::State;
use crate::terminal;
use crate::update::update;

/// The name that the generated code knows, and the one that containerd 1.7 asks for.
const NAMES: (&str, &str) = ("containerd.task.v3.Task", "containerd.task.v2.Task");

/// The service of one pod.
#[derive(Clone, Debug)]
pub struct Service {
    pod: Arc<Pod>,
}

/// The service under both of its names.
pub fn services(pod: &Arc<Pod>) -> HashMap<String, Methods> {
    let make = || {
        create_task(Arc::new(Service {
            pod: Arc::clone(pod),
        }) as Arc<dyn TaskService + Send + Sync>)
    };
    let mut services = make();
    if let Some(methods) = make().remove(NAMES.0) {
        services.insert(NAMES.1.to_owned(), methods);
    }
    services
}

/// Exec has its place in the calls, and comes later: until then no exec process exists.
fn no_exec(id: &str, exec: &str) -> Result<(), TaskError> {
    if exec.is_empty() {
        Ok(())
    } else {
        Err(TaskError::NoExec {
            id: id.to_owned(),
            exec: exec.to_owned(),
        })
    }
}

fn unsupported<T>(sentence: &'static str) -> ttrpc::Result<T> {
    Err(TaskError::Unsupported(sentence).into())
}

#[async_trait]
impl TaskService for Service {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        no_exec(&request.id, &request.exec_id)?;
        let task = self.pod.task(&request.id)?;
        let mut response = StateResponse::new();
        response.id.clone_from(&task.id);
        response.bundle = task.bundle.display().to_string();
        response.pid = task.pid;
        response.stdin.clone_from(&task.places.stdin);
        response.stdout.clone_from(&task.places.stdout);
        response.stderr.clone_from(&task.places.stderr);
        response.status = match task.state() {
            State::Created => Status::CREATED,
            State::Running => match task.brake.motion() {
                Motion::Goes | Motion::Killed => Status::RUNNING,
                Motion::Stopping => Status::PAUSING,
                Motion::Stands => Status::PAUSED,
            },
            State::Stopped(exit) => {
                response.exit_status = exit.code.into();
                response.exited_at = MessageField::some(exit.timestamp());
                Status::STOPPED
            }
        }
        .into();
        Ok(response)
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let id = request.id.clone();
        log::debug!("creating container {id}");
        let pid = create(&self.pod, request).await.inspect_err(|error| {
            log::error!("{}", crate::status::chain(error));
        })?;
        log::debug!("container {id} is created, process {pid}");
        let mut response = CreateTaskResponse::new();
        response.pid = pid;
        Ok(response)
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        no_exec(&request.id, &request.exec_id)?;
        let task = self.pod.task(&request.id)?;
        task.start()?;
        // No wait since the start: the exit, however early, is told after it.
        self.pod.events.started(&task.id, task.pid);
        let mut response = StartResponse::new();
        response.pid = task.pid;
        Ok(response)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        no_exec(&request.id, &request.exec_id)?;
        let task = self.pod.task(&request.id)?;
        let mut receiver = task.exit();
        let exit = receiver
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| exit.clone());
        let exit = exit.ok_or_else(|| TaskError::NoTask {
            id: request.id.clone(),
        })?;
        let mut response = WaitResponse::new();
        response.exit_status = exit.code.into();
        response.exited_at = MessageField::some(exit.timestamp());
        Ok(response)
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        no_exec(&request.id, &request.exec_id)?;
        self.pod
            .task(&request.id)?
            .kill(request.signal, request.all)?;
        Ok(Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        no_exec(&request.id, &request.exec_id)?;
        let exit = self.pod.delete(&request.id).await?;
        let mut response = DeleteResponse::new();
        response.pid = exit.pid;
        response.exit_status = exit.code.into();
        response.exited_at = MessageField::some(exit.timestamp());
        Ok(response)
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let task = self.pod.task(&request.id)?;
        let process = |pid| ProcessInfo {
            pid,
            ..ProcessInfo::default()
        };
        let mut response = PidsResponse::new();
        response.processes = task.pids().into_iter().map(process).collect();
        Ok(response)
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let task = self.pod.task(&request.id)?;
        let stats = task.cgroup.stats().map_err(|error| TaskError::Failed {
            operation: "measure",
            id: request.id.clone(),
            source: error.into(),
        })?;
        let mut response = StatsResponse::new();
        response.stats = MessageField::some(metrics(&stats));
        Ok(response)
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> ttrpc::Result<ConnectResponse> {
        let mut response = ConnectResponse::new();
        response.shim_pid = std::process::id();
        // containerd asks when it restarts, and takes an error for a dead shim.
        response.task_pid = self.pod.task(&request.id).map_or(0, |task| task.pid);
        Ok(response)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.pod.shut_down();
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        no_exec(&request.id, &request.exec_id)?;
        // The guest reads the FIFO itself: it sees the end of file when the client closes its end, before
        // or after this call.
        let task = self.pod.task(&request.id)?;
        if let Some(terminal) = task.terminal.as_ref().filter(|_| request.stdin) {
            terminal.close_input();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, _: ExecProcessRequest) -> ttrpc::Result<Empty> {
        unsupported("exec into a Wasm container is not supported yet")
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        no_exec(&request.id, &request.exec_id)?;
        let task = self.pod.task(&request.id)?;
        terminal::resize_of(&task, request.width, request.height)?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        pause(&*self.pod.task(&request.id)?, &self.pod.events).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        resume(&*self.pod.task(&request.id)?, &self.pod.events).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        unsupported("checkpoints of Wasm containers are not supported")
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let task = self.pod.task(&request.id)?;
        let facts = self.pod.facts().map_err(|error| TaskError::Failed {
            operation: "update",
            id: request.id.clone(),
            source: error.into(),
        })?;
        update(task, facts, &request.resources).await?;
        Ok(Empty::new())
    }
}
