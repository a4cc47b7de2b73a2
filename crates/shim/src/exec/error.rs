//! Why an exec process was not started.

use skiff_image::choose::Refusal;
use ttrpc::Code;

use crate::create::CreateError;

/// What a shell answers for a command that is not there,
const NOT_FOUND: u8 = 127;
/// and for one that is and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Why an exec process was not started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No description of the process.
    #[error("containerd did not say what it is to be")]
    NoProcess,
    /// Another description.
    #[error(
        "what it is to be is of the type {0:?}, and only the Process of an OCI spec is understood"
    )]
    Type(String),
    /// Not what it says it is.
    #[error("what it is to be is not the Process of an OCI spec")]
    Json(#[source] serde_json::Error),
    /// No first argument.
    #[error("it has no command: give the path of a module or a program")]
    NoCommand,
    /// Nothing has this name. The words in front are those that clients of containerd look for.
    #[error("executable file not found: {name:?} is {looked}")]
    NotFound {
        /// The command.
        name: String,
        /// `no file of the container's root (…), …`.
        looked: String,
    },
    /// What has this name is no program. As above.
    #[error("permission denied: {0}")]
    NotExecutable(String),
    /// It is something that is not run.
    #[error(transparent)]
    Refused(Refusal),
    /// The container has ended in the meantime.
    #[error("the container is ending: nothing can be executed in it")]
    Ending,
    /// The program itself could not be executed.
    #[error("{0}")]
    Program(String),
    /// As with the container's first process.
    #[error(transparent)]
    Made(CreateError),
}

impl From<CreateError> for ExecError {
    fn from(error: CreateError) -> Self {
        Self::Made(error)
    }
}

impl ExecError {
    /// The code of the answer. What a container does not have is no fault of the call or of its state: other runtimes
    /// answer `UNKNOWN`, and so does this.
    pub fn code(&self) -> Code {
        match self {
            Self::NoProcess | Self::Type(_) | Self::Json(_) | Self::NoCommand => {
                Code::INVALID_ARGUMENT
            }
            Self::NotFound { .. }
            | Self::NotExecutable(_)
            | Self::Refused(_)
            | Self::Program(_) => Code::UNKNOWN,
            Self::Ending => Code::FAILED_PRECONDITION,
            Self::Made(error) => error.code(),
        }
    }

    /// The exit code for those who wait for it all the same.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }
    }
}
