//! The making of a process that joins a container: its plan, its launch, its word that it runs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use oci_spec::runtime::{Process as ProcessSpec, Spec};
use rustix::fs::{Mode, OFlags};
use skiff_engine::options::GuestOptions;
use skiff_engine::order::{Command, Guest, HostOrder, ProgramOrder, environment};
use skiff_sandbox::control::{ControlError, Report};
use skiff_sandbox::launch::{LaunchError, Launched, NewNamespaces};
use skiff_sandbox::plan::{JoinNamespace, Namespace, Plan};
use skiff_sandbox::programs::Executable;
use skiff_sandbox::sentence::readable;
use skiff_sandbox::spec::{Joiner, Role, joiner};
use skiff_sandbox::sys::process as sys;
use tokio::time::timeout;

use super::search::{self, Found};
use super::{ExecError, Host, linux, toolbox};
use crate::create::{CreateError, read_spec};
use crate::launching::{self, READY_PATIENCE, Start, append, ready, report, start_process};
use crate::module;
use crate::pod::Pod;
use crate::process::{Body, Process};
use crate::task::Task;
use crate::terminal::{self, Device, Terminal, keep_open};

/// What is launched.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) file: Executable,
}

/// Makes the process and lets it run. Dropped half way, it ends.
pub(super) async fn join(
    pod: &Pod,
    task: &Task,
    host: &Host,
    process: &Process,
) -> Result<Body, ExecError> {
    let wanted = process.spec.as_deref().ok_or(ExecError::NoProcess)?;
    let spec = read_spec(&task.bundle.join("config.json"))?;
    let root = root_of(task)?;
    // What takes long comes before what has to be undone.
    match search::find(pod, task, host, wanted, root.as_fd()).await? {
        Found::Module {
            module,
            engine,
            is_tool,
        } => {
            let mut env = environment(wanted.env().as_deref().unwrap_or_default());
            if is_tool {
                let command = wanted.args().as_ref().and_then(|args| args.first());
                env.extend(toolbox::environment(
                    task,
                    command.map_or("", String::as_str),
                ));
            }
            let plan = plan(pod, &spec, wanted, Role::Guest)?;
            let (name, file) = launching::open_host(pod, &engine)?;
            let program = Program { name, file };
            let joining = Joining {
                task,
                process,
                wanted,
                spec: &spec,
                program: &program,
                pids: plan.pids,
            };
            joining.guest(plan.plan, &module, env, host).await
        }
        Found::Program(path) => {
            let plan = plan(pod, &spec, wanted, Role::Program)?;
            let (name, file) = launching::open_init(pod)?;
            let program = Program { name, file };
            let mounts = linux::mounts(task, host, &spec, &plan, &program).await?;
            let joining = Joining {
                task,
                process,
                wanted,
                spec: &spec,
                program: &program,
                pids: plan.pids,
            };
            joining.program(plan.plan, path, &mounts).await
        }
    }
}

/// The root as the container's processes have it.
fn root_of(task: &Task) -> Result<OwnedFd, ExecError> {
    let path = format!("/proc/{}/root", task.first.pid());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| ExecError::Ending)?;
    // If it is there still, the number was its when the path was opened.
    let there = task.first.pidfd().is_some_and(|pidfd| {
        sys::wait_readable(pidfd, Some(std::time::Duration::ZERO)).is_ok_and(|ended| !ended)
    });
    there.then_some(root).ok_or(ExecError::Ending)
}

fn plan(pod: &Pod, spec: &Spec, wanted: &ProcessSpec, role: Role) -> Result<Joiner, ExecError> {
    Ok(joiner(spec, wanted, role, pod.facts()?).map_err(CreateError::Refused)?)
}

/// A process on its way into a container.
struct Joining<'a> {
    task: &'a Task,
    process: &'a Process,
    wanted: &'a ProcessSpec,
    spec: &'a Spec,
    program: &'a Program,
    /// Whether the container has a pid namespace to launch into.
    pids: bool,
}

/// Kills a process of a container that is paused, where one that is reaped would be waited for in vain.
struct Released<'a> {
    task: &'a Task,
    launched: u32,
    pidfd: BorrowedFd<'a>,
    kept: bool,
}

impl Joining<'_> {
    async fn guest(
        &self,
        plan: Plan,
        module: &module::Found,
        env: Vec<String>,
        host: &Host,
    ) -> Result<Body, ExecError> {
        let container = self.container()?;
        let tasks = self.task.cgroup.tasks().map_err(CreateError::Cgroup)?;
        let mut slots: Vec<BorrowedFd<'_>> = vec![container];
        slots.extend(tasks.iter().map(AsFd::as_fd));
        // Only the container's own code outlives a shim.
        let nowhere = nowhere()?;
        let order = HostOrder {
            plan,
            guest: Guest {
                kind: module.code.kind,
                code: append(&mut slots, module.code.file.as_fd())?,
                name: module.name.clone(),
                function: module.function.clone(),
                args: self.wanted.args().clone().unwrap_or_default(),
                env,
                working_directory: self.wanted.cwd().display().to_string(),
                exit_record: append(&mut slots, nowhere.as_fd())?,
                // The cap and the time are the container's own guest's.
                options: GuestOptions {
                    memory_cap: None,
                    time_limit: None,
                    ..host.options.guest()
                },
            },
        };
        let order =
            postcard::to_stdvec(&order).map_err(|error| CreateError::Order(error.to_string()))?;
        let device = self.device(None)?;
        self.launch(&order, &slots, device, false).await
    }

    /// A Linux program of the container's root, at `path`.
    async fn program(
        &self,
        mut plan: Plan,
        path: String,
        mounts: &linux::Mounts,
    ) -> Result<Body, ExecError> {
        let container = self.container()?;
        let tasks = self.task.cgroup.tasks().map_err(CreateError::Cgroup)?;
        let mut slots: Vec<BorrowedFd<'_>> = vec![container];
        slots.extend(tasks.iter().map(AsFd::as_fd));
        // Not the guest's mounts, under which no program can be executed.
        if let Some(container) = &mut plan.join_process {
            container.kinds = container.kinds.without(Namespace::Mount);
        }
        plan.join.push(JoinNamespace {
            kind: Namespace::Mount,
            from: append(&mut slots, mounts.namespace.as_fd())?,
        });
        let order = ProgramOrder {
            plan,
            program: Command::Path(path),
            args: self.wanted.args().clone().unwrap_or_default(),
            env: environment(self.wanted.env().as_deref().unwrap_or_default()),
        };
        let order =
            postcard::to_stdvec(&order).map_err(|error| CreateError::Order(error.to_string()))?;
        let device = self.device(mounts.terminals.as_ref())?;
        self.launch(&order, &slots, device, true).await
    }

    /// Its terminal, if it is to have one: of the container's own ones where there are any.
    fn device(&self, terminals: Option<&OwnedFd>) -> Result<Option<Device>, ExecError> {
        if !self.process.at_terminal {
            return Ok(None);
        }
        let device = match terminals {
            Some(terminals) => terminal::device_of(terminals.as_fd(), self.wanted),
            None => terminal::device(Some(self.wanted)),
        };
        Ok(Some(device.map_err(CreateError::Terminal)?))
    }

    fn container(&self) -> Result<BorrowedFd<'_>, ExecError> {
        self.task.first.pidfd().ok_or(ExecError::Ending)
    }

    /// `becomes_program`: it executes another program before it runs.
    async fn launch(
        &self,
        order: &[u8],
        slots: &[BorrowedFd<'_>],
        device: Option<Device>,
        becomes_program: bool,
    ) -> Result<Body, ExecError> {
        let (task, process) = (self.task, self.process);
        let opened = if device.is_some() {
            terminal::places(&process.places).open()
        } else {
            process.places.open()
        };
        let stdio = opened.map_err(CreateError::Stdio)?;
        let mut input = None;
        if device.is_none() && !process.places.stdin.is_empty() {
            input = keep_open(&stdio.container[0], &process.places.stdin).map_err(|source| {
                CreateError::Bundle {
                    path: Path::new(&process.places.stdin).to_owned(),
                    source,
                }
            })?;
        }
        let pid_namespace = self.pids.then(|| self.container()).transpose()?;
        let started = start_process(&Start {
            // It enters the container's itself.
            inside: None,
            name: &self.program.name,
            id: &task.id,
            program: &self.program.file,
            new: NewNamespaces::NONE,
            pid_namespace,
            cgroup: Some(&task.cgroup),
            stdio: launching::streams(&stdio, device.as_ref()),
            at_terminal: device.is_some(),
            order,
            slots,
        })
        .map_err(ending)?;
        let mut released = Released {
            task,
            launched: started.launched().pid,
            pidfd: started.launched().pidfd.as_fd(),
            kept: false,
        };
        // The container's end is its own: with it, the output ends.
        let master = device.map(|device| device.master);
        ready(started.launched(), &task.cgroup, self.spec).await?;
        let terminal = master
            .map(|master| Terminal::start(master, &stdio, &process.places))
            .transpose()
            .map_err(CreateError::Terminal)?;
        let control = &started.launched().control;
        control.go().map_err(CreateError::Control)?;
        if becomes_program {
            executed(started.launched()).await?;
        }
        released.kept = true;
        drop(released);
        let Launched { pid, pidfd, .. } = started.keep();
        Ok(Body {
            pid,
            pidfd,
            keepers: stdio.keepers,
            terminal,
            input: Mutex::new(input),
        })
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = sys::send_signal(self.pidfd, libc::SIGKILL) {
            log::debug!("could not kill process {}: {error}", self.launched);
        }
        let released = self.task.brake.killed_one(&self.task.cgroup, self.launched);
        if let Err(error) = released {
            log::warn!("could not let process {} end: {error}", self.launched);
        }
    }
}

/// Waits until the process is its program, which closes its end of the conversation.
async fn executed(launched: &Launched) -> Result<(), ExecError> {
    match timeout(READY_PATIENCE, report(launched)).await {
        Ok(Err(ControlError::Closed)) => Ok(()),
        Ok(Ok(Report::Failed(sentence))) => Err(ExecError::Program(readable(&sentence))),
        Ok(Ok(_)) => Err(ExecError::Program("it answered twice".to_owned())),
        Ok(Err(error)) => Err(CreateError::Control(error).into()),
        Err(_) => Err(CreateError::TimedOut.into()),
    }
}

/// The kernel has no place for a process in a pid namespace whose first process has ended.
pub(super) fn ending(error: CreateError) -> ExecError {
    let code = match &error {
        CreateError::Launch(
            LaunchError::Clone(source) | LaunchError::EnterPidNamespace(source),
        ) => source.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::ENOMEM | libc::ESRCH) => ExecError::Ending,
        _ => ExecError::Made(error),
    }
}

fn nowhere() -> Result<OwnedFd, ExecError> {
    let path = "/dev/null";
    let opened = File::options().write(true).open(path);
    let opened = opened.map_err(|source| CreateError::Bundle {
        path: path.into(),
        source,
    })?;
    Ok(opened.into())
}
