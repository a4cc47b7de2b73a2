//! `Update`: other limits for a container that is there, all of them or none.
//!
//! Called by [`crate::service`], with what containerd sends: the `linux.resources` of an OCI spec as JSON, either
//! what is to change (`ctr`) or all of it (CRI, when a pod is resized).

use std::io;
use std::sync::{Arc, PoisonError};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::{LinuxMemory, LinuxResources};
use skiff_sandbox::cgroup::CgroupError;
use skiff_sandbox::spec::{self, Facts, Refusal};
use ttrpc::Code;

use crate::process::State;
use crate::runc::RuncError;
use crate::status::TaskError;
use crate::task::{Backend, Task};

/// What the type's name ends with. containerd has had different addresses before it.
const TYPE: &str = "/LinuxResources";

/// Why limits were not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Not what can be changed here.
    #[error(
        "its new limits are of the type {kind:?}, and only the LinuxResources of an OCI spec are understood"
    )]
    Type {
        /// The type.
        kind: String,
    },
    /// Not what it says it is.
    #[error("its new limits are not the LinuxResources of an OCI spec")]
    Json(#[source] serde_json::Error),
    /// A value that is not supported, or makes no sense.
    #[error(transparent)]
    Refused(Refusal),
    /// The kernel refuses a value.
    #[error(transparent)]
    Cgroup(CgroupError),
    /// The node's runc refuses.
    #[error(transparent)]
    Runc(RuncError),
    /// The thread that writes them has ended.
    #[error("they could not be written")]
    Thread(#[source] io::Error),
}

impl UpdateError {
    /// The code of the answer.
    pub fn code(&self) -> Code {
        match self {
            Self::Type { .. } | Self::Json(_) | Self::Refused(_) => Code::INVALID_ARGUMENT,
            Self::Cgroup(
                CgroupError::Setting { .. }
                | CgroupError::Clamped { .. }
                | CgroupError::InTheWay { .. }
                | CgroupError::NoController { .. }
                | CgroupError::NotPassedOn { .. },
            ) => Code::FAILED_PRECONDITION,
            Self::Runc(error) => error.code(),
            Self::Cgroup(_) | Self::Thread(_) => Code::INTERNAL,
        }
    }
}

/// Changes the limits of a task.
///
/// # Errors
/// It has ended, or a value is refused: then all are as they were.
pub async fn update(task: Arc<Task>, facts: &Facts, resources: &Any) -> Result<(), TaskError> {
    let id = task.id.clone();
    let failed = |source| TaskError::Update { id, source };
    if matches!(task.state(), State::Stopped(_)) {
        return Err(task.wrong_state("has ended: its limits cannot be changed"));
    }
    let limits = match read(resources) {
        Ok(limits) => limits,
        Err(error) => return Err(failed(error)),
    };
    let json = resources.value.clone();
    let settings = match &task.backend {
        Backend::Runc(_) => None,
        Backend::Host(_) => match spec::update(&limits, facts) {
            Ok(settings) => Some(settings),
            Err(error) => return Err(failed(UpdateError::Refused(error))),
        },
    };
    // Taking memory away may need long. A thread of its own also goes on to the end if the call is dropped.
    let written = tokio::task::spawn_blocking(move || {
        let _one = task.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match (&task.backend, settings) {
            (Backend::Runc(runc), _) => runc.update(&task.id, &json).map_err(UpdateError::Runc),
            (Backend::Host(_), settings) => {
                task.cgroup
                    .update(&settings.unwrap_or_default())
                    .map_err(UpdateError::Cgroup)?;
                // What a limit was set to is what the guest may ask for, nearly.
                let limit = limits.memory().as_ref().and_then(LinuxMemory::limit);
                if let (Some(keeper), Some(limit)) = (&task.memory_cap, limit) {
                    keeper.limit_is(limit);
                }
                if let (Some(keeper), Some(cpu)) = (&task.memory_cap, limits.cpu()) {
                    keeper.processors_are(Some(cpu));
                }
                Ok(())
            }
        }
    });
    match written.await {
        Ok(written) => written.map_err(failed),
        Err(error) => Err(failed(UpdateError::Thread(error.into()))),
    }
}

fn read(resources: &Any) -> Result<LinuxResources, UpdateError> {
    if !resources.type_url.ends_with(TYPE) {
        return Err(UpdateError::Type {
            kind: resources.type_url.clone(),
        });
    }
    serde_json::from_slice(&resources.value).map_err(UpdateError::Json)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn any(kind: &str, value: &str) -> Any {
        let mut any = Any::new();
        kind.clone_into(&mut any.type_url);
        any.value = value.as_bytes().to_vec();
        any
    }

    #[test]
    fn what_containerd_sends() {
        let kind = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let resources = read(&any(kind, r#"{"memory":{"limit":5},"pids":{"limit":7}}"#)).unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(5));
        assert_eq!(resources.pids().unwrap().limit(), 7);
        let old = "github.com/opencontainers/runtime-spec/specs-go/LinuxResources";
        read(&any(old, "{}")).unwrap();
    }

    #[test]
    fn what_nobody_should_send() {
        let other = read(&any("types.containerd.io/x/WindowsResources", "{}")).unwrap_err();
        assert_eq!(other.code(), Code::INVALID_ARGUMENT);
        assert!(other.to_string().contains("WindowsResources"), "{other}");
        for value in ["", "{", r#"{"cpu":{"shares":-1}}"#, "7"] {
            let error = read(&any("x/LinuxResources", value)).unwrap_err();
            assert_eq!(error.code(), Code::INVALID_ARGUMENT);
            assert!(error.source().is_some(), "{error}");
        }
    }
}
