//! Why a call of the Task service is answered with an error, and the code that containerd then sees.

use std::error::Error;
use std::fmt;

use ttrpc::Code;

use crate::create::CreateError;
use crate::exec::ExecError;
use crate::runc::RuncError;
use crate::update::UpdateError;

pub use skiff_sandbox::sentence::chain;

/// A process that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The container.
    pub id: String,
    /// The exec; empty for the container itself, which its first process stands for.
    pub exec: String,
}

impl Who {
    /// A container.
    pub fn container(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            exec: String::new(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, exec } = self;
        if exec.is_empty() {
            write!(f, "container {id}")
        } else {
            write!(f, "exec process {exec} of container {id}")
        }
    }
}

/// A call that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No such container here.
    #[error("container {id} does not exist in this shim")]
    NoTask {
        /// The container.
        id: String,
    },
    /// No such exec process.
    #[error("container {id} has no exec process {exec}")]
    NoExec {
        /// The container.
        id: String,
        /// The exec process.
        exec: String,
    },
    /// The id of an exec process is taken.
    #[error("container {id} has an exec process {exec} already")]
    ExecExists {
        /// The container.
        id: String,
        /// The exec process.
        exec: String,
    },
    /// The id is taken.
    #[error("container {id} exists already")]
    Exists {
        /// The container.
        id: String,
    },
    /// Not in this state.
    #[error("{who} {state}")]
    WrongState {
        /// The process.
        who: Who,
        /// What it is, and what cannot be done to it therefore.
        state: &'static str,
    },
    /// There is no process left to signal.
    #[error("process already finished: {who} has ended")]
    Finished {
        /// The process.
        who: Who,
    },
    /// A signal number that is none.
    #[error("{signal} is not the number of a signal")]
    NoSignal {
        /// What was asked for.
        signal: u32,
    },
    /// Not done by this release.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The shim is about to exit.
    #[error("the shim of this pod is shutting down")]
    ShuttingDown,
    /// Create failed.
    #[error("could not create container {id}")]
    Create {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: Box<CreateError>,
    },
    /// An exec process cannot be had.
    #[error("could not start {who}")]
    Exec {
        /// The process.
        who: Who,
        /// Why.
        #[source]
        source: Box<ExecError>,
    },
    /// Update failed.
    #[error("could not update container {id}")]
    Update {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: UpdateError,
    },
    /// The node's runc refused.
    #[error("could not {operation} {who}")]
    Runc {
        /// What was tried.
        operation: &'static str,
        /// The process.
        who: Who,
        /// Why not.
        #[source]
        source: Box<RuncError>,
    },
    /// The kernel refused.
    #[error("could not {operation} {who}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The process.
        who: Who,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl TaskError {
    /// What the node's runc did not do.
    pub(crate) fn runc(operation: &'static str, who: Who) -> impl FnOnce(RuncError) -> Self {
        move |source| Self::Runc {
            operation,
            who,
            source: Box::new(source),
        }
    }

    /// The code. containerd and its clients act on these: a kill that is answered with `NOT_FOUND` has
    /// done its work, a create with `ALREADY_EXISTS` is not repeated.
    pub fn code(&self) -> Code {
        match self {
            Self::NoTask { .. } | Self::NoExec { .. } | Self::Finished { .. } => Code::NOT_FOUND,
            Self::Exists { .. } | Self::ExecExists { .. } => Code::ALREADY_EXISTS,
            Self::WrongState { .. } => Code::FAILED_PRECONDITION,
            Self::NoSignal { .. } => Code::INVALID_ARGUMENT,
            Self::Unsupported(_) => Code::UNIMPLEMENTED,
            Self::ShuttingDown => Code::UNAVAILABLE,
            Self::Create { source, .. } => source.code(),
            Self::Exec { source, .. } => source.code(),
            Self::Update { source, .. } => source.code(),
            Self::Runc { source, .. } => source.code(),
            Self::Failed { .. } => Code::INTERNAL,
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    fn from(error: TaskError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "c".to_owned()
    }

    fn who() -> Who {
        Who::container("c")
    }

    #[test]
    fn codes() {
        let failed = || std::io::Error::other("x").into();
        for (error, code) in [
            (TaskError::NoTask { id: id() }, Code::NOT_FOUND),
            (
                TaskError::NoExec {
                    id: id(),
                    exec: id(),
                },
                Code::NOT_FOUND,
            ),
            (TaskError::Finished { who: who() }, Code::NOT_FOUND),
            (
                TaskError::ExecExists {
                    id: id(),
                    exec: id(),
                },
                Code::ALREADY_EXISTS,
            ),
            (TaskError::Exists { id: id() }, Code::ALREADY_EXISTS),
            (
                TaskError::WrongState {
                    who: who(),
                    state: "is running",
                },
                Code::FAILED_PRECONDITION,
            ),
            (TaskError::NoSignal { signal: 99 }, Code::INVALID_ARGUMENT),
            (TaskError::Unsupported("no"), Code::UNIMPLEMENTED),
            (TaskError::ShuttingDown, Code::UNAVAILABLE),
            (
                TaskError::Failed {
                    operation: "kill",
                    who: who(),
                    source: failed(),
                },
                Code::INTERNAL,
            ),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn causes_are_printed_once() {
        let cause = std::io::Error::from_raw_os_error(libc::EBUSY);
        let error = TaskError::Failed {
            operation: "delete",
            who: who(),
            source: cause.into(),
        };
        let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(error) else {
            panic!("an answer has a status")
        };
        assert_eq!(
            status.message,
            "could not delete container c: Device or resource busy (os error 16)"
        );
    }
}
