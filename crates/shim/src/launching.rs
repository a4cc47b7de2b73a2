//! From an order to a process that has carried it out and says that it is ready.
//!
//! Called by [`crate::create`] for the first process of a container, by [`crate::exec`] for those that join it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oci_spec::runtime::Spec;
use skiff_sandbox::cgroup::Cgroup;
use skiff_sandbox::control::{ControlError, Report};
use skiff_sandbox::launch::{Inside, Launch, Launched, launch, launch_at_terminal, launch_inside};
use skiff_sandbox::plan::{NewNamespaces, Slot};
use skiff_sandbox::programs::Executable;
use skiff_sandbox::sentence::readable;
use skiff_sandbox::sys::process::{self, ExitStatus};
use tokio::time::timeout;

use crate::create::CreateError;
use crate::engine::Engine;
use crate::pod::Pod;
use crate::stdio::Stdio;
use crate::sys::watch_readable;
use crate::terminal::Device;

/// How long a launched process may take to say that it is ready. Compiling is done before.
pub(crate) const READY_PATIENCE: Duration = Duration::from_secs(60);

/// One of our executables.
pub(crate) fn open_program(pod: &Pod, name: &str) -> Result<OwnedFd, CreateError> {
    let programs = pod.programs()?;
    programs.open(name).map_err(|source| CreateError::Program {
        path: programs.path().join(name),
        source,
    })
}

/// An engine's host, and its name.
pub(crate) fn open_host(pod: &Pod, engine: &Engine) -> Result<(String, Executable), CreateError> {
    open_of_engine(pod, "host", engine)
}

/// An engine's host that serves HTTP, and its name.
pub(crate) fn open_server(pod: &Pod, engine: &Engine) -> Result<(String, Executable), CreateError> {
    open_of_engine(pod, "serve", engine)
}

fn open_of_engine(
    pod: &Pod,
    role: &str,
    engine: &Engine,
) -> Result<(String, Executable), CreateError> {
    let name = format!("skiff-{role}-{}", engine.name);
    let programs = pod.programs()?;
    let program = programs.of_engine(role, &engine.name, engine.version.as_deref());
    let program = program.map_err(|source| CreateError::Program {
        path: programs.path().join(&name),
        source,
    })?;
    Ok((name, program))
}

/// The program that becomes a container without a guest, and its name.
pub(crate) fn open_init(pod: &Pod) -> Result<(String, Executable), CreateError> {
    let name = "skiff-init";
    let program = Executable {
        file: open_program(pod, name)?,
        libraries: None,
    };
    Ok((name.to_owned(), program))
}

/// Puts a descriptor into the next slot.
pub(crate) fn append<'a>(
    slots: &mut Vec<BorrowedFd<'a>>,
    file: BorrowedFd<'a>,
) -> Result<Slot, CreateError> {
    let index = u16::try_from(slots.len())
        .map_err(|_| CreateError::Order("it has too many mounts".to_owned()))?;
    slots.push(file);
    Ok(Slot(index))
}

/// What to launch.
pub(crate) struct Start<'a> {
    /// What `ps` on the node shows,
    pub(crate) name: &'a str,
    /// and behind it the container's id.
    pub(crate) id: &'a str,
    /// One of our executables.
    pub(crate) program: &'a Executable,
    /// Namespaces that the launch makes.
    pub(crate) new: NewNamespaces,
    /// A user namespace to launch into.
    pub(crate) inside: Option<&'a Inside<'a>>,
    /// A pid namespace to launch into; a pidfd of a process in it will do.
    pub(crate) pid_namespace: Option<BorrowedFd<'a>>,
    /// The container's.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// Its streams,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// the first of which is the terminal that controls its session.
    pub(crate) at_terminal: bool,
    /// See [`Launch::order`].
    pub(crate) order: &'a [u8],
    /// See [`Launch::slots`].
    pub(crate) slots: &'a [BorrowedFd<'a>],
}

/// The standard streams of a process: the terminal's end if it has one.
pub(crate) fn streams<'a>(stdio: &'a Stdio, terminal: Option<&'a Device>) -> [BorrowedFd<'a>; 3] {
    match terminal {
        Some(device) => [device.slave.as_fd(); 3],
        None => stdio.container.each_ref().map(AsFd::as_fd),
    }
}

/// Launches a process.
pub(crate) fn start_process(start: &Start<'_>) -> Result<ProcessGuard, CreateError> {
    let text = |text| CString::new(text).map_err(|error| CreateError::Order(error.to_string()));
    let (name, id) = (text(start.name)?, text(start.id)?);
    let argv: [&CStr; 2] = [&name, &id];
    let unified = start.cgroup.map(Cgroup::unified).transpose();
    let unified = unified.map_err(CreateError::Cgroup)?.flatten();
    let what = Launch {
        program: start.program.file.as_fd(),
        libraries: start.program.libraries.as_ref().map(AsFd::as_fd),
        argv: &argv,
        environment: &[],
        new: start.new,
        pid_namespace: start.pid_namespace,
        unified_cgroup: unified.as_ref().map(AsFd::as_fd),
        stdio: start.stdio,
        order: start.order,
        slots: start.slots,
    };
    let launched = match (start.inside, start.at_terminal) {
        (Some(inside), at_terminal) => launch_inside(&what, at_terminal, inside),
        (None, true) => launch_at_terminal(&what),
        (None, false) => launch(&what),
    };
    Ok(ProcessGuard::new(launched.map_err(CreateError::Launch)?))
}

/// Waits until the process says that it is ready.
pub(crate) async fn ready(
    launched: &Launched,
    cgroup: &Cgroup,
    spec: &Spec,
) -> Result<(), CreateError> {
    match timeout(READY_PATIENCE, report(launched)).await {
        Err(_) => Err(CreateError::TimedOut),
        Ok(Ok(Report::Ready)) => Ok(()),
        // The process makes it so itself; but it has read an image's bytes.
        Ok(Ok(Report::Failed(sentence))) => Err(CreateError::Host(readable(&sentence))),
        Ok(Ok(Report::Done(_))) => Err(CreateError::Host(
            "it answered as a compile worker does".to_owned(),
        )),
        Ok(Err(ControlError::Closed)) => Err(death(launched, cgroup, spec)),
        Ok(Err(error)) => Err(CreateError::Control(error)),
    }
}

/// The next thing that the process has to say.
pub(crate) async fn report(launched: &Launched) -> Result<Report, ControlError> {
    let control = watch_readable(launched.control.as_fd()).map_err(ControlError::Socket)?;
    loop {
        if let Some(report) = launched.control.try_receive()? {
            return Ok(report);
        }
        control
            .readable()
            .await
            .map_err(ControlError::Socket)?
            .clear_ready();
    }
}

/// How a process ended that has closed its end of the conversation, and why if that can be known. It may take a
/// moment to be gone.
fn death(launched: &Launched, cgroup: &Cgroup, spec: &Spec) -> CreateError {
    let patience = Some(Duration::from_secs(1));
    let ended = process::wait_readable(launched.pidfd.as_fd(), patience).unwrap_or(false);
    let status = process::try_wait(launched.pidfd.as_fd());
    let status = status.ok().flatten().filter(|_| ended);
    let how = match status {
        Some(ExitStatus::Code(code)) => format!("with code {code}"),
        Some(ExitStatus::Signal(signal)) => format!("by signal {signal}"),
        None => "in a way that is not known".to_owned(),
    };
    let linux = spec.linux().as_ref();
    // A host handles its signals: it exits with 128 and their number.
    match status
        .map(ExitStatus::shell_code)
        .map(|code| i32::from(code) - 128)
    {
        Some(libc::SIGKILL) if cgroup.oom_kills().is_ok_and(|kills| kills > 0) => {
            let resources = linux.and_then(|linux| linux.resources().as_ref());
            let memory = resources.and_then(|resources| resources.memory().as_ref());
            let limit = memory.and_then(|memory| memory.limit());
            CreateError::Memory {
                limit: limit.filter(|limit| *limit > 0),
            }
        }
        Some(libc::SIGSYS | libc::SIGSEGV | libc::SIGABRT)
            if linux.is_some_and(|linux| linux.seccomp().is_some()) =>
        {
            CreateError::Profile { how }
        }
        _ => CreateError::Died { how },
    }
}

/// A launched process that is killed and reaped unless it is kept.
pub(crate) struct ProcessGuard(Option<Launched>);

impl ProcessGuard {
    pub(crate) fn new(launched: Launched) -> Self {
        Self(Some(launched))
    }

    pub(crate) fn launched(&self) -> &Launched {
        self.0
            .as_ref()
            .expect("taken only by keep, which consumes the guard")
    }

    pub(crate) fn keep(mut self) -> Launched {
        self.0.take().expect("taken only here, once")
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        let Some(launched) = &self.0 else { return };
        // ESRCH means that it has ended; ECHILD below that it is reaped as well.
        if let Err(error) = process::send_signal(launched.pidfd.as_fd(), libc::SIGKILL) {
            log::debug!("could not kill process {}: {error}", launched.pid);
        }
        if let Err(error) = process::wait(launched.pidfd.as_fd()) {
            log::debug!("could not reap process {}: {error}", launched.pid);
        }
    }
}
