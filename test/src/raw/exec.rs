//! Processes that join a task.

use containerd_shim_protos::TaskClient;
use containerd_shim_protos::api::{DeleteRequest, ExecProcessRequest, StartRequest, WaitRequest};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc;
use serde_json::json;

use super::{Shim, Stdio, limit};

/// Calls for the processes that join a task; a thread may have its own.
#[derive(Clone)]
pub struct Execs {
    id: String,
    client: TaskClient,
}

impl std::fmt::Debug for Execs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execs")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shim<'_> {
    /// For the processes that join this task.
    pub fn execs(&self) -> Execs {
        Execs {
            id: self.id.clone(),
            client: self.client.clone(),
        }
    }
}

impl Execs {
    /// `Exec` of a process named `name`, with root as its user and the root as its directory.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn exec(&self, name: &str, words: &[&str], stdio: &Stdio) -> ttrpc::Result<()> {
        let process = json!({
            "user": { "uid": 0, "gid": 0 },
            "args": words,
            "env": ["PATH=/bin"],
            "cwd": "/",
        });
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: name.to_owned(),
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.to_string().into_bytes(),
                ..Any::default()
            }),
            ..ExecProcessRequest::default()
        };
        self.client.exec(limit(), &request).map(drop)
    }

    /// `Start` of it; answers its process id.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn start(&self, name: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: self.id.clone(),
            exec_id: name.to_owned(),
            ..StartRequest::default()
        };
        Ok(self.client.start(limit(), &request)?.pid)
    }

    /// `Wait` for it; answers its exit code.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn wait(&self, name: &str) -> ttrpc::Result<u32> {
        let request = WaitRequest {
            id: self.id.clone(),
            exec_id: name.to_owned(),
            ..WaitRequest::default()
        };
        Ok(self.client.wait(limit(), &request)?.exit_status)
    }

    /// `Delete` of it; answers its exit code.
    ///
    /// # Errors
    /// What the shim answers.
    pub fn delete(&self, name: &str) -> ttrpc::Result<u32> {
        let request = DeleteRequest {
            id: self.id.clone(),
            exec_id: name.to_owned(),
            ..DeleteRequest::default()
        };
        Ok(self.client.delete(limit(), &request)?.exit_status)
    }
}
