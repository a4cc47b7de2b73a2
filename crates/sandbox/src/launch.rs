//! The launch of a process by the shim: clone3 into new namespaces, then exec of another executable.
//!
//! The child finds its standard streams on 0-2, a control socket on 3, its order on 4 (a sealed memfd), the
//! folder of its libraries on 5 if it brings its own, and the descriptors that the order speaks of from 6 on ([`crate::plan::Slot`]). It has no others.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::control::Control;
pub use crate::plan::NewNamespaces;
use crate::plan::{CONTROL_FD, FIRST_SLOT_FD, LIBRARIES_FD, Namespace, ORDER_FD, Rlimit};
use crate::sys::clone::{self, CloneError, Program, Stage, spawn};
use crate::sys::{memory, process};

/// What to launch.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The executable, of [`crate::programs::Programs`].
    pub program: BorrowedFd<'a>,
    /// The folder of its libraries, if it brings its own; see [`LIBRARIES_FD`].
    pub libraries: Option<BorrowedFd<'a>>,
    /// `argv`.
    pub argv: &'a [&'a CStr],
    /// `KEY=value`; nothing is inherited.
    pub environment: &'a [&'a CStr],
    /// Namespaces made by the clone: [`NewNamespaces::by_launch`] of those that are new.
    pub new: NewNamespaces,
    /// A pid namespace to start in.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    /// The directory of a cgroup in the unified tree to start in.
    pub unified_cgroup: Option<BorrowedFd<'a>>,
    /// stdin, stdout, stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The order, in postcard encoding.
    pub order: &'a [u8],
    /// Slot 0, 1, ….
    pub slots: &'a [BorrowedFd<'a>],
}

/// A process that has become its executable, and has yet to execute its plan.
///
/// Dropping it closes the control socket, on which the process gives up; it does not reap the process.
#[derive(Debug)]
pub struct Launched {
    /// Its number in the caller's pid namespace.
    pub pid: u32,
    /// Readable when it has ended; see [`crate::sys::process::try_wait`].
    pub pidfd: OwnedFd,
    /// The conversation with it.
    pub control: Control,
}

/// Why nothing was launched. No process, no descriptor is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A namespace that the clone cannot make.
    #[error("could not launch a process: a new {0:?} namespace cannot be made by its launch")]
    Namespace(Namespace),
    /// Socket, memory file, descriptors.
    #[error("could not prepare {what} of a new process")]
    Prepare {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `setns` of the calling thread.
    #[error("could not enter the pid namespace in which the process is to start")]
    EnterPidNamespace(#[source] io::Error),
    /// The way back failed: what this thread launches next would be in the wrong namespace.
    #[error("could not come back from another pid namespace; this thread must launch nothing more")]
    LeavePidNamespace(#[source] io::Error),
    /// `clone3`. The usual reasons are limits: `pids.max`, `RLIMIT_NPROC`, `/proc/sys/user/max_*_namespaces`.
    #[error("could not clone a process into its namespaces and cgroup")]
    Clone(#[source] io::Error),
    /// The child could not do what comes before its exec.
    #[error("the new process could not {what}")]
    Child {
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `execveat`.
    #[error("could not execute {}", argv0.to_string_lossy())]
    Exec {
        /// The first argument, for a name.
        argv0: std::ffi::CString,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Launches a process.
///
/// The kernel ties the process's life to the calling *thread* as soon as its plan is executed
/// (`PR_SET_PDEATHSIG`): call this on a thread that lives as long as the shim.
///
/// # Errors
/// See [`LaunchError`].
pub fn launch(launch: &Launch<'_>) -> Result<Launched, LaunchError> {
    start(launch, false, None)
}

/// [`launch`], with standard input as the controlling terminal of the process's session.
///
/// # Errors
/// As [`launch`]; standard input is no terminal, or another session's.
pub fn launch_at_terminal(launch: &Launch<'_>) -> Result<Launched, LaunchError> {
    start(launch, true, None)
}

/// [`launch`], or with `terminal` [`launch_at_terminal`], of a process that starts in a user namespace, as its root.
///
/// A new pid namespace belongs to the user namespace then. The rest of [`NewNamespaces`] is made by the process.
///
/// # Errors
/// As [`launch`]; what takes the node's rights is refused, or the user namespace cannot be entered.
pub fn launch_inside(
    launch: &Launch<'_>,
    terminal: bool,
    inside: &Inside<'_>,
) -> Result<Launched, LaunchError> {
    start(launch, terminal, Some(inside))
}

/// A user namespace to start in, and what is done before it is entered, with the node's rights.
#[derive(Debug)]
pub struct Inside<'a> {
    /// The user namespace.
    pub user: BorrowedFd<'a>,
    /// Namespaces of others to enter. Not those of time: a process enters those itself.
    pub join: &'a [(Namespace, BorrowedFd<'a>)],
    /// Limits that may need raising.
    pub rlimits: &'a [Rlimit],
    /// As [`crate::plan::Plan::oom_score_adj`].
    pub oom_score_adj: Option<i32>,
}

fn start(
    launch: &Launch<'_>,
    terminal: bool,
    inside: Option<&Inside<'_>>,
) -> Result<Launched, LaunchError> {
    check_namespaces(launch.new)?;
    let prepare = |what| move |source: io::Error| LaunchError::Prepare { what, source };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(io::Error::from)
    .map_err(prepare("the control socket"))?;
    let control = Control::new(ours).map_err(prepare("the control socket"))?;
    let order = memory::memfd_sealed("skiff-order", launch.order).map_err(prepare("the order"))?;

    let [stdin, stdout, stderr] = launch.stdio;
    let mut wanted = vec![
        Some(stdin),
        Some(stdout),
        Some(stderr),
        Some(theirs.as_fd()),
        Some(order.as_fd()),
        launch.libraries,
    ];
    debug_assert_eq!(
        (CONTROL_FD, ORDER_FD, LIBRARIES_FD, FIRST_SLOT_FD),
        (3, 4, 5, 6),
        "the vector above has this order"
    );
    wanted.extend(launch.slots.iter().copied().map(Some));
    let above = Above::new(&wanted, launch.program).map_err(prepare("the descriptors"))?;
    let descriptors = above.descriptors(&wanted);

    let before = inside
        .map(Before::new)
        .transpose()
        .map_err(prepare("the resource limits"))?;
    let entered = launch.pid_namespace.map(PidNamespace::enter).transpose()?;
    let spawned = spawn(&Program {
        file: above.program(launch.program),
        path: None,
        dies_with_thread: false,
        args: launch.argv,
        environment: launch.environment,
        descriptors: &descriptors,
        namespaces: process::clone_flags(launch.new),
        cgroup: launch.unified_cgroup,
        terminal,
        inside: inside
            .zip(before.as_ref())
            .map(|(inside, before)| clone::Inside {
                user: inside.user,
                join: &before.join,
                limits: &before.limits,
                oom_score_adj: before.oom_score_adj.as_bytes(),
            }),
    });
    if let Some(entered) = entered {
        entered.leave()?;
    }
    let (pid, pidfd) = spawned.map_err(|error| why(error, launch.argv))?;
    Ok(Launched {
        pid,
        pidfd,
        control,
    })
}

fn why(error: CloneError, argv: &[&CStr]) -> LaunchError {
    match error {
        CloneError::Clone(source) => LaunchError::Clone(source),
        CloneError::Child(Stage::Exec, source) => LaunchError::Exec {
            argv0: argv.first().map(|&arg| arg.to_owned()).unwrap_or_default(),
            source,
        },
        CloneError::Child(stage, source) => LaunchError::Child {
            what: what(stage),
            source,
        },
    }
}

/// What a child could not do at this stage.
fn what(stage: Stage) -> &'static str {
    match stage {
        Stage::Exec => "execute its program",
        Stage::Signals => "set up its signals",
        Stage::Descriptors => "set up its descriptors",
        Stage::Terminal => "take its controlling terminal",
        Stage::Death => "tie its end to that of its maker",
        Stage::Limits => "raise its resource limits",
        Stage::OomScore => "set its oom_score_adj",
        Stage::Join => "enter a namespace that the container's spec names",
        Stage::User => "enter the user namespace and become root there",
        Stage::Inside => "make a pid namespace in the user namespace",
    }
}

/// A program of the node to start: nothing of Skiff, and without an order.
#[derive(Debug)]
pub struct Command<'a> {
    /// Its executable, or a script.
    pub path: &'a CStr,
    /// `argv`.
    pub argv: &'a [&'a CStr],
    /// `KEY=value`; nothing is inherited.
    pub environment: &'a [&'a CStr],
    /// stdin, stdout, stderr. It gets no other descriptors.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// Starts a program of the node, in the namespaces of the caller. The kernel kills it when the calling thread ends.
/// Gives its number and its pidfd; whoever called waits for it.
///
/// # Errors
/// See [`LaunchError`].
pub fn run(command: &Command<'_>) -> Result<(u32, OwnedFd), LaunchError> {
    let [stdin, ..] = command.stdio;
    let stdio = command.stdio.map(Some);
    let above = Above::new(&stdio, stdin).map_err(|source| LaunchError::Prepare {
        what: "the descriptors",
        source,
    })?;
    spawn(&Program {
        file: above.program(stdin),
        path: Some(command.path),
        dies_with_thread: true,
        args: command.argv,
        environment: command.environment,
        descriptors: &above.descriptors(&stdio),
        namespaces: 0,
        cgroup: None,
        terminal: false,
        inside: None,
    })
    .map_err(|error| why(error, command.argv))
}

/// What a child that starts in a user namespace does before, as it reads it.
struct Before {
    join: Vec<clone::Join>,
    limits: Vec<clone::Limit>,
    oom_score_adj: String,
}

impl Before {
    fn new(inside: &Inside<'_>) -> io::Result<Self> {
        let join = inside.join.iter().map(|(kind, namespace)| clone::Join {
            namespace: namespace.as_raw_fd(),
            kind: process::clone_flags(NewNamespaces::NONE.with(*kind)),
        });
        let mut limits = Vec::new();
        for limit in inside.rlimits {
            let own = process::limit(limit.resource)?;
            // Only what the process cannot do itself: soft limits, and lower ones, might stand in its way before.
            if limit.hard > own.rlim_max {
                limits.push(clone::Limit {
                    resource: limit.resource,
                    value: libc::rlimit64 {
                        rlim_cur: own.rlim_cur,
                        rlim_max: limit.hard,
                    },
                });
            }
        }
        Ok(Self {
            join: join.collect(),
            limits,
            oom_score_adj: inside
                .oom_score_adj
                .map_or_else(String::new, |value| value.to_string()),
        })
    }
}

fn check_namespaces(new: NewNamespaces) -> Result<(), LaunchError> {
    let rest = new.by_process(false);
    let kinds = [
        Namespace::User,
        Namespace::Cgroup,
        Namespace::Time,
        Namespace::Mount,
    ];
    kinds
        .into_iter()
        .find(|kind| rest.contains(*kind))
        .map_or(Ok(()), |kind| Err(LaunchError::Namespace(kind)))
}

/// Copies of those descriptors whose numbers are among the child's future ones.
struct Above {
    copies: Vec<Option<OwnedFd>>,
    program: Option<OwnedFd>,
}

impl Above {
    fn new(wanted: &[Option<BorrowedFd<'_>>], program: BorrowedFd<'_>) -> io::Result<Self> {
        let count = i32::try_from(wanted.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let copy = |fd: BorrowedFd<'_>| -> io::Result<Option<OwnedFd>> {
            if fd.as_raw_fd() < count {
                Ok(Some(rustix::io::fcntl_dupfd_cloexec(fd, count)?))
            } else {
                Ok(None)
            }
        };
        let copies = wanted
            .iter()
            .map(|fd| fd.map_or(Ok(None), copy))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            copies,
            program: copy(program)?,
        })
    }

    fn descriptors<'a>(&'a self, wanted: &[Option<BorrowedFd<'a>>]) -> Vec<Option<BorrowedFd<'a>>> {
        self.copies
            .iter()
            .zip(wanted)
            .map(|(copy, fd)| copy.as_ref().map(AsFd::as_fd).or(*fd))
            .collect()
    }

    fn program<'a>(&'a self, program: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.program.as_ref().map_or(program, AsFd::as_fd)
    }
}

/// The calling thread's children start in another pid namespace until [`PidNamespace::leave`].
struct PidNamespace {
    own: File,
}

impl PidNamespace {
    fn enter(namespace: BorrowedFd<'_>) -> Result<Self, LaunchError> {
        let own = File::open("/proc/thread-self/ns/pid").map_err(LaunchError::EnterPidNamespace)?;
        process::enter(namespace, Namespace::Pid).map_err(LaunchError::EnterPidNamespace)?;
        Ok(Self { own })
    }

    fn leave(self) -> Result<(), LaunchError> {
        process::enter(self.own.as_fd(), Namespace::Pid).map_err(LaunchError::LeavePidNamespace)
    }
}
