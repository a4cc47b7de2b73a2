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
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim_async::{Task as TaskService, create_task};
use ttrpc::r#async::{Service as Methods, TtrpcContext};

use crate::create::create;
use crate::exec;
use crate::pause::{Motion, pause, resume};
use crate::pod::Pod;
use crate::process::State;
use crate::stats::metrics;
use crate::status::{TaskError, Who};
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

/// Which exec a process is, in the message that runc's shim uses and clients know: `ProcessDetails`, of one field.
fn details(exec: &str) -> Any {
    let mut value = Vec::new();
    let mut stream = CodedOutputStream::vec(&mut value);
    stream
        .write_string(1, exec)
        .and_then(|()| stream.flush())
        .expect("a vector takes everything");
    drop(stream);
    Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value,
        ..Any::default()
    }
}

fn unsupported<T>(sentence: &'static str) -> ttrpc::Result<T> {
    Err(TaskError::Unsupported(sentence).into())
}

#[async_trait]
impl TaskService for Service {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let task = self.pod.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        let mut response = StateResponse::new();
        if process.exec.is_empty() {
            response.id.clone_from(&task.id);
        } else {
            response.id.clone_from(&process.exec);
            response.exec_id.clone_from(&process.exec);
        }
        response.bundle = task.bundle.display().to_string();
        response.pid = process.pid();
        response.stdin.clone_from(&process.places.stdin);
        response.stdout.clone_from(&process.places.stdout);
        response.stderr.clone_from(&process.places.stderr);
        response.terminal = process.at_terminal;
        response.status = match process.state() {
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
        let task = self.pod.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        if process.exec.is_empty() {
            self.pod.start(&task).await?;
        } else {
            exec::start(&self.pod, &task, &process)
                .await
                .inspect_err(|error| log::warn!("{}", crate::status::chain(error)))?;
        }
        let mut response = StartResponse::new();
        response.pid = process.pid();
        Ok(response)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let task = self.pod.task(&request.id)?;
        let mut receiver = task.process(&request.exec_id)?.exit();
        drop(task);
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
        let task = self.pod.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        task.kill(&process, request.signal, request.all)?;
        Ok(Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let exit = if request.exec_id.is_empty() {
            self.pod.delete(&request.id).await?
        } else {
            self.pod.delete_exec(&request.id, &request.exec_id).await?
        };
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
            info: task.exec_of(pid).map(|exec| details(&exec)).into(),
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
            who: Who::container(&request.id),
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
        response.task_pid = self
            .pod
            .task(&request.id)
            .map_or(0, |task| task.first.pid());
        Ok(response)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.pod.shut_down();
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        // A guest reads the FIFO itself: it sees the end of file when the client closes its end, before
        // or after this call.
        let process = self.pod.task(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_input();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let task = self.pod.task(&request.id)?;
        let exec = request.exec_id.clone();
        exec::add(&task, request)?;
        self.pod.events.exec_added(&task.id, &exec);
        Ok(Empty::new())
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        let task = self.pod.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        terminal::resize_of(&task, &process, request.width, request.height)?;
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
        unsupported("checkpoints of containers are not supported")
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let task = self.pod.task(&request.id)?;
        let facts = self.pod.facts().map_err(|error| TaskError::Failed {
            operation: "update",
            who: Who::container(&request.id),
            source: error.into(),
        })?;
        update(task, facts, &request.resources).await?;
        Ok(Empty::new())
    }
}
