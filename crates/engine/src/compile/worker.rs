//! One run of a compile worker: a process that has its input, its output and its control socket, and
//! nothing else - no file system, no network, no privileges, a cgroup of its own, and a clock on it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use skiff_sandbox::cgroup::{Cgroup, CgroupPlan, Check, Layout, Setting};
use skiff_sandbox::control::Report;
use skiff_sandbox::launch::{Launch, Launched, launch};
use skiff_sandbox::plan::{
    Capabilities, Identity, Namespace, NewNamespaces, Plan, Propagation, Rlimit, Root, Slot,
};
use skiff_sandbox::programs::Executable;
use skiff_sandbox::sentence::readable;
use skiff_sandbox::sys::mount::{self, attribute};
use skiff_sandbox::sys::process::{self, ExitStatus};
use tokio::io::unix::AsyncFd;

use super::{BoxError, CompileOptions, Settings, blocking, leftover};
use crate::order::{CompileOrder, Compiled};

/// The user that owns nothing (`nobody`, also the kernel's overflow id).
const NOBODY: u32 = 65534;
/// Open files that a worker needs: those it inherits, and a few of the C library's.
const OPEN_FILES: u64 = 64;
/// Share of the processors while they are scarce: half of what a container has by default.
const CPU_SHARES: u64 = 512;
/// How much of the worker's words on standard error are kept for the log.
const STDERR: usize = 16 * 1024;

/// Slots of the worker's descriptors; the cgroups' follow.
const ROOT: Slot = Slot(0);
const INPUT: Slot = Slot(1);
const OUTPUT: Slot = Slot(2);
const FIRST_TASKS: u16 = 3;

/// What to run.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) settings: &'a Settings,
    pub(super) program: &'a Executable,
    /// The cgroup's path, nobody else's at this time.
    pub(super) cgroup: &'a str,
    pub(super) input: BorrowedFd<'a>,
    pub(super) output: BorrowedFd<'a>,
    pub(super) options: CompileOptions,
}

/// How a worker ended.
#[derive(Debug)]
pub(super) enum End {
    Done(Compiled),
    /// It says why in a sentence.
    Failed(String),
    Time,
    Memory,
    Output,
    /// Without an answer.
    Died(String),
}

/// What could not be done, and why.
pub(super) type Failure = (&'static str, BoxError);

fn failed<E: Into<BoxError>>(operation: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| (operation, error.into())
}

/// Runs a worker to its end. When this answers, no process of it is left. Its cgroup is gone as well, or is what
/// remains of the [`Worker`] of code that somebody waits for: to be dropped before the cgroup's path is free again.
///
/// # Cancel safety
/// Dropping the future kills the worker, waits for its end and removes its cgroup.
pub(super) async fn run(job: &Job<'_>) -> Result<(End, Option<Worker>), Failure> {
    let layout = Layout::of_node().map_err(failed("find out the node's cgroups"))?;
    leftover::clean(job.cgroup, layout);
    let limits = limits(job.settings, job.cgroup).where_possible(layout);
    let cgroup =
        Cgroup::create(&limits, layout).map_err(failed("make a cgroup for the compiler"))?;
    let mut worker = Worker {
        cgroup: Some(cgroup),
        process: None,
    };
    let stderr = worker.start(job)?;

    // By the monotonic clock: setting the time of day neither ends a compilation nor prolongs it.
    let ended = tokio::time::timeout(job.settings.time, worker.ended()).await;
    let end = match ended {
        Err(_elapsed) => End::Time,
        Ok(result) => {
            let status = result?;
            let said = worker.said();
            worker.judge(status, said)
        }
    };
    let worker = if let End::Done(_) = end {
        Some(worker)
    } else {
        worker.finish().await;
        None
    };
    // One that has done its work may have something to say of it, too.
    let words = read_stderr(&stderr);
    if !words.is_empty() {
        log::warn!("the compiler of {} said: {words}", job.settings.engine);
    }
    Ok((end, worker))
}

fn limits(settings: &Settings, path: &str) -> CgroupPlan {
    let mut plan = CgroupPlan::new(path)
        .memory(settings.memory)
        .pids(settings.processes)
        .cpu_shares(CPU_SHARES);
    // As many processors as it was told to use, also if it starts more threads.
    let period = 100_000;
    for (file, value) in [
        ("cpu.cfs_period_us", period),
        ("cpu.cfs_quota_us", period * u64::from(settings.threads)),
    ] {
        plan.settings.push(Setting {
            controller: "cpu",
            file: file.to_owned(),
            value: value.to_string(),
            field: "processor limit",
            check: Check::IfPresent,
        });
    }
    plan
}

/// A worker's process and cgroup; dropped, both are gone.
#[derive(Debug)]
pub(super) struct Worker {
    cgroup: Option<Cgroup>,
    process: Option<Launched>,
}

impl Worker {
    /// Starts the process; answers the end of the pipe that is its standard error.
    fn start(&mut self, job: &Job<'_>) -> Result<OwnedFd, Failure> {
        let Some(cgroup) = &self.cgroup else {
            return Err(("use the compiler's cgroup", "it is gone".into()));
        };
        let tasks = cgroup
            .tasks()
            .map_err(failed("open the compiler's cgroup"))?;
        let unified = cgroup
            .unified()
            .map_err(failed("open the compiler's cgroup"))?;
        let root =
            root(job.settings).map_err(failed("make an empty file system for the compiler"))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open /dev/null"))?;
        // Nobody reads it before the end: a worker whose words fill it must not wait for room.
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (stderr, stderr_theirs) =
            rustix::pipe::pipe_with(flags).map_err(failed("make a pipe"))?;

        let new = [
            Namespace::Pid,
            Namespace::Ipc,
            Namespace::Uts,
            Namespace::Network,
            Namespace::Mount,
        ]
        .into_iter()
        .fold(NewNamespaces::NONE, NewNamespaces::with);
        let order = CompileOrder {
            plan: plan(job.settings, new, tasks.len()),
            input: INPUT,
            output: OUTPUT,
            threads: job.settings.threads,
            code: job.options.code,
            opt_level: job.options.opt_level,
        };
        let order = postcard::to_stdvec(&order).map_err(failed("encode the compiler's order"))?;
        let mut slots = vec![root.as_fd(), job.input, job.output];
        slots.extend(tasks.iter().map(AsFd::as_fd));
        let name = CString::new(format!("skiff-compile-{}", job.settings.engine))
            .map_err(failed("name the compiler"))?;
        let launched = launch(&Launch {
            program: job.program.file.as_fd(),
            libraries: job.program.libraries.as_ref().map(AsFd::as_fd),
            argv: &[&name],
            environment: &[],
            new: new.by_launch(false),
            pid_namespace: None,
            unified_cgroup: unified.as_ref().map(AsFd::as_fd),
            stdio: [null.as_fd(), null.as_fd(), stderr_theirs.as_fd()],
            order: &order,
            slots: &slots,
        })
        .map_err(failed("start the compiler"))?;
        self.process = Some(launched);
        Ok(stderr)
    }

    /// Waits for the end of the process and reaps it.
    async fn ended(&self) -> Result<ExitStatus, Failure> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor can change; an OwnedFd's cannot"
        )]
        let watch = || -> std::io::Result<AsyncFd<OwnedFd>> {
            let process = self.process.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
            AsyncFd::with_interest(process.pidfd.try_clone()?, tokio::io::Interest::READABLE)
        };
        let pidfd = watch().map_err(failed("watch the compiler"))?;
        loop {
            let mut ready = pidfd
                .readable()
                .await
                .map_err(failed("watch the compiler"))?;
            if let Some(status) = process::try_wait(pidfd.get_ref().as_fd())
                .map_err(failed("wait for the compiler"))?
            {
                return Ok(status);
            }
            ready.clear_ready();
        }
    }

    /// The last thing that the process said before it ended. What it sent stays in the socket.
    fn said(&self) -> Option<Report> {
        let process = self.process.as_ref()?;
        let mut last = None;
        loop {
            match process.control.try_receive() {
                Ok(Some(report)) => last = Some(report),
                Ok(None) => return last,
                Err(error) => {
                    log::debug!("end of the compiler's messages: {error}");
                    return last;
                }
            }
        }
    }

    fn judge(&self, status: ExitStatus, said: Option<Report>) -> End {
        let out_of_memory = || {
            let kills = self.cgroup.as_ref().map(Cgroup::oom_kills);
            kills.is_some_and(|kills| kills.is_ok_and(|kills| kills > 0))
        };
        match (status, said) {
            (ExitStatus::Code(0), Some(Report::Done(answer))) => {
                match postcard::from_bytes(&answer) {
                    Ok(compiled) => End::Done(compiled),
                    Err(error) => {
                        End::Died(format!("gave an answer that cannot be read ({error})"))
                    }
                }
            }
            (ExitStatus::Code(_), Some(Report::Failed(sentence))) => {
                End::Failed(readable(&sentence))
            }
            (ExitStatus::Signal(9), _) if out_of_memory() => End::Memory,
            (ExitStatus::Code(0), _) => End::Died("ended without an answer".to_owned()),
            (ExitStatus::Code(code), _) => {
                End::Died(format!("exited with {code} and without an answer"))
            }
            (ExitStatus::Signal(signal), _) => End::Died(format!("was ended by signal {signal}")),
        }
    }

    /// Ends whatever is left and waits for that without holding up other tasks.
    async fn finish(mut self) {
        if let Err(error) = blocking(move || self.end()).await {
            log::warn!("could not clean up after a compiler: {error}");
        }
    }

    /// Kills what is left of the process, reaps it, removes the cgroup. Does nothing the second time.
    fn end(&mut self) {
        if let Some(Launched { pidfd, .. }) = self.process.take() {
            // Reaped already: the pidfd answers ECHILD or ESRCH, and nothing is left to do.
            match process::send_signal(pidfd.as_fd(), 9) {
                Ok(()) => {
                    if let Err(error) = process::wait(pidfd.as_fd()) {
                        log::debug!("the compiler has ended before: {error}");
                    }
                }
                Err(error) => log::debug!("the compiler has ended: {error}"),
            }
        }
        if let Some(cgroup) = self.cgroup.take() {
            // Its pid namespace has gone with the process, and all others in it.
            if let Err(error) = cgroup.remove() {
                log::warn!("could not remove the cgroup of a compiler: {error}");
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The worker's only file system, empty. A compiler that writes nothing but paths may put as much there as its code
/// can be long, twice: LLVM writes an object, and its linker makes a library of that. It counts as the worker's memory.
fn root(settings: &Settings) -> std::io::Result<OwnedFd> {
    let context = mount::Context::open("tmpfs")?;
    let plain = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
    if settings.writes_paths {
        context.set("mode", "700")?;
        context.set("uid", &NOBODY.to_string())?;
        context.set("nr_inodes", "16")?;
        context.set("size", &settings.output.saturating_mul(2).to_string())?;
        return context.mount(plain);
    }
    context.set("mode", "555")?;
    context.set("nr_inodes", "2")?;
    context.mount(plain | attribute::READ_ONLY)
}

fn plan(settings: &Settings, new: NewNamespaces, tasks: usize) -> Plan {
    let limit = |resource, value| Rlimit {
        resource,
        soft: value,
        hard: value,
    };
    Plan {
        new: new.by_process(false),
        cgroup_tasks: (FIRST_TASKS..).take(tasks).map(Slot).collect(),
        root: Some(Root {
            tree: ROOT,
            mounts: Vec::new(),
            read_only: !settings.writes_paths,
            guest: true,
            propagation: Propagation::Private,
        }),
        rlimits: vec![
            limit(libc::RLIMIT_CORE, 0),
            limit(libc::RLIMIT_FSIZE, settings.output),
            limit(libc::RLIMIT_NOFILE, OPEN_FILES),
        ],
        identity: Identity {
            uid: NOBODY,
            gid: NOBODY,
            groups: Vec::new(),
            umask: None,
        },
        capabilities: Capabilities::default(),
        no_new_privileges: true,
        working_directory: "/".to_owned(),
        ..Plan::default()
    }
}

/// What the pipe holds, without waiting: a process that outlived the worker could keep it open.
fn read_stderr(pipe: &OwnedFd) -> String {
    let mut bytes = vec![0; STDERR];
    let mut length = 0;
    while length < bytes.len() {
        match rustix::io::read(pipe, &mut bytes[length..]) {
            Ok(count) if count > 0 => length += count,
            _ => break,
        }
    }
    readable(&String::from_utf8_lossy(&bytes[..length]))
}

/// How long to wait before the next look at a lock that another holds: longer each time, up to a tenth of
/// a second. Locks of files cannot be waited for in an event loop.
pub(super) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(2 << attempt.min(6)).min(Duration::from_millis(100))
}
