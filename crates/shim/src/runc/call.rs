//! One call of runc: a process that is started without a fork, waited for, and asked for its reasons.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use serde::Deserialize;
use skiff_sandbox::cgroup::CgroupError;
use skiff_sandbox::launch::{Command, LaunchError, run};
use skiff_sandbox::sentence::readable;
use skiff_sandbox::sys::memory::memfd_sealed;
use skiff_sandbox::sys::process::{self, ExitStatus};

use ttrpc::Code;

use super::{borrowed, c_string, environment};
use crate::stdio::StdioError;
use crate::sys::watch_readable;
use crate::terminal::DeviceError;

/// The most that is read of its log or output.
const LARGEST: u64 = 1 << 20;

/// Why runc did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RuncError {
    /// No executable.
    #[error(
        "Linux containers are run by the node's runc, and {name} is not installed: it is in none of the folders {folders}; install runc on the node, or name its executable by BinaryName in the options of the runtime handler"
    )]
    NotInstalled {
        /// Its name.
        name: String,
        /// The value of `PATH`.
        folders: String,
    },
    /// It was not started.
    #[error("could not start {}", program.display())]
    Start {
        /// The executable.
        program: PathBuf,
        /// Why.
        #[source]
        source: LaunchError,
    },
    /// Something of ours that it needs.
    #[error("could not {step} for runc")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It has refused, or failed.
    #[error("{name} {command} {how}: {message}")]
    Failed {
        /// The executable's name.
        name: String,
        /// Its command.
        command: &'static str,
        /// `failed`, `ended by signal 9`.
        how: String,
        /// What it says.
        message: String,
    },
    /// The cgroup that it has made.
    #[error(transparent)]
    Cgroup(CgroupError),
    /// The terminal that it has made.
    #[error(transparent)]
    Terminal(DeviceError),
    /// The streams of a process.
    #[error(transparent)]
    Stdio(StdioError),
    /// The document of its features.
    #[error("could not understand what {} features says", program.display())]
    Features {
        /// The executable.
        program: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl RuncError {
    pub(super) fn cgroup(error: CgroupError) -> Self {
        Self::Cgroup(error)
    }

    /// The code of an answer. What runc itself refuses has none that says more, as with containerd's own shim.
    pub fn code(&self) -> Code {
        match self {
            Self::NotInstalled { .. } => Code::FAILED_PRECONDITION,
            Self::Failed { .. } => Code::UNKNOWN,
            Self::Stdio(StdioError::Program { .. }) => Code::UNIMPLEMENTED,
            Self::Stdio(_) => Code::INVALID_ARGUMENT,
            Self::Start { .. }
            | Self::Io { .. }
            | Self::Cgroup(_)
            | Self::Terminal(_)
            | Self::Features { .. } => Code::INTERNAL,
        }
    }

    pub(super) fn io<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Io {
            step,
            source: error.into(),
        }
    }
}

/// Where the streams of a call go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Streams<'a> {
    /// Those of the container that it makes, or of the process.
    Container([BorrowedFd<'a>; 3]),
    /// Something to read.
    Input(&'a [u8]),
    /// It reads nothing.
    Nothing,
}

/// runc's log, from where it ended before the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    path: Option<&'a Path>,
    from: u64,
}

impl<'a> Log<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        Self {
            path: Some(path),
            from: path.metadata().map_or(0, |metadata| metadata.len()),
        }
    }

    pub(super) fn none() -> Self {
        Self {
            path: None,
            from: 0,
        }
    }

    /// The last error in it, which is the one that ended the call.
    fn error(&self) -> Option<String> {
        let mut file = File::open(self.path?).ok()?;
        file.seek(SeekFrom::Start(self.from)).ok()?;
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).ok()?;
        last_error(&text)
    }
}

#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// The last error in lines of JSON. What is no such line is passed over.
pub(super) fn last_error(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic"))
        .map(|line| line.msg.trim().to_owned())
        .rfind(|message| !message.is_empty())
}

/// What runc says without "runc create failed: ", which our own sentence begins with.
pub(super) fn without_prefix<'a>(message: &'a str, command: &str) -> &'a str {
    let rest = message
        .strip_prefix("runc ")
        .and_then(|rest| rest.strip_prefix(command))
        .and_then(|rest| rest.strip_prefix(" failed: "));
    rest.unwrap_or(message)
}

/// A call that is put together.
#[derive(Debug)]
pub(super) struct Call<'a> {
    program: &'a Path,
    command: &'static str,
    log: Log<'a>,
    /// Before the command.
    global: Vec<OsString>,
    /// After it.
    own: Vec<OsString>,
}

impl<'a> Call<'a> {
    pub(super) fn new(program: &'a Path, command: &'static str, log: Log<'a>) -> Self {
        Self {
            program,
            command,
            log,
            global: Vec::new(),
            own: Vec::new(),
        }
    }

    pub(super) fn flag(&mut self, flag: &str) {
        self.global.push(flag.into());
    }

    pub(super) fn before(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.global.extend([option.into(), value.as_ref().into()]);
    }

    pub(super) fn option(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.own.extend([option.into(), value.as_ref().into()]);
    }

    pub(super) fn argument(&mut self, argument: &str) {
        self.own.push(argument.into());
    }

    /// Runs it without holding up others. If the call is dropped, the process is killed.
    pub(super) async fn run(self, streams: Streams<'_>) -> Result<(), RuncError> {
        let running = self.start(streams)?;
        let status = running.end().await.map_err(RuncError::io("wait"))?;
        self.judge(&running, status)
    }

    /// Runs it, and waits.
    pub(super) fn run_and_wait(self, streams: Streams<'_>) -> Result<(), RuncError> {
        let running = self.start(streams)?;
        let status = process::wait(running.pidfd.as_fd()).map_err(RuncError::io("wait"))?;
        self.judge(&running, status)
    }

    /// Runs it, waits, and gives what it has written.
    pub(super) fn ask(self) -> Result<Vec<u8>, RuncError> {
        let running = self.start(Streams::Nothing)?;
        let status = process::wait(running.pidfd.as_fd()).map_err(RuncError::io("wait"))?;
        self.judge(&running, status)?;
        Ok(running.written())
    }

    fn judge(&self, running: &Running, status: ExitStatus) -> Result<(), RuncError> {
        let how = match status {
            ExitStatus::Code(0) => return Ok(()),
            ExitStatus::Code(_) => "failed".to_owned(),
            ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
        };
        let message = self.log.error().unwrap_or_else(|| {
            let written = running.written();
            let said = readable(&String::from_utf8_lossy(&written));
            match (said.is_empty(), status) {
                (false, _) => said,
                (true, ExitStatus::Code(code)) => {
                    format!("it ended with code {code} and does not say why")
                }
                (true, ExitStatus::Signal(_)) => "it does not say more".to_owned(),
            }
        });
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        Err(RuncError::Failed {
            name: name.to_string_lossy().into_owned(),
            command: self.command,
            how,
            message: readable(without_prefix(&message, self.command)),
        })
    }

    fn start(&self, streams: Streams<'_>) -> Result<Running, RuncError> {
        let bad = RuncError::io("write the arguments");
        let arguments = std::iter::once(self.program.as_os_str())
            .chain(self.global.iter().map(OsString::as_os_str))
            .chain([OsStr::new(self.command)])
            .chain(self.own.iter().map(OsString::as_os_str))
            .map(c_string)
            .collect::<io::Result<Vec<CString>>>()
            .map_err(bad)?;
        let path = c_string(self.program.as_os_str()).map_err(RuncError::io("name the file"))?;
        let environment = environment();
        let files = RuncError::io("open the streams");
        let (input, output) = match streams {
            Streams::Container(_) => (None, None),
            Streams::Nothing => (Some(nothing().map_err(files)?), Some(output()?)),
            Streams::Input(bytes) => {
                let input = memfd_sealed("runc-input", bytes).map_err(files)?;
                (Some(input), Some(output()?))
            }
        };
        let stdio = match (streams, &input, &output) {
            (Streams::Container(stdio), ..) => stdio,
            (_, Some(input), Some(output)) => [input.as_fd(), output.as_fd(), output.as_fd()],
            _ => return Err(RuncError::io("open the streams")(io::ErrorKind::Other)),
        };
        let (pid, pidfd) = run(&Command {
            path: &path,
            argv: &borrowed(&arguments),
            environment: &borrowed(&environment),
            stdio,
        })
        .map_err(|source| RuncError::Start {
            program: self.program.to_owned(),
            source,
        })?;
        log::debug!(
            "{} {} is process {pid}",
            self.program.display(),
            self.command
        );
        Ok(Running { pidfd, output })
    }
}

fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

fn output() -> Result<OwnedFd, RuncError> {
    rustix::fs::memfd_create("runc-output", MemfdFlags::CLOEXEC)
        .map_err(RuncError::io("make room for the output"))
}

/// A call under way. Dropped before its end, the process is killed, and reaped.
struct Running {
    pidfd: OwnedFd,
    output: Option<OwnedFd>,
}

impl Running {
    async fn end(&self) -> io::Result<ExitStatus> {
        let watched = watch_readable(self.pidfd.as_fd())?;
        loop {
            if let Some(status) = process::try_wait(self.pidfd.as_fd())? {
                return Ok(status);
            }
            watched.readable().await?.clear_ready();
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(output) = self.output.as_ref().and_then(|file| file.try_clone().ok()) {
            let mut file = File::from(output);
            let read = file
                .rewind()
                .and_then(|()| file.take(LARGEST).read_to_end(&mut bytes));
            if let Err(error) = read {
                log::debug!("could not read what runc says: {error}");
            }
        }
        bytes
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has been waited for answers ECHILD; one that runs, nothing.
        if matches!(process::try_wait(self.pidfd.as_fd()), Ok(None))
            && process::send_signal(self.pidfd.as_fd(), libc::SIGKILL).is_ok()
            && let Err(error) = process::wait(self.pidfd.as_fd())
        {
            log::debug!("could not reap runc: {error}");
        }
    }
}
