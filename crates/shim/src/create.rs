//! `Create`: from containerd's request to a process that waits for its start.
//!
//! Every step holds what it made by a guard. A step that fails, or a connection that breaks (which drops
//! the call), undoes all steps before it; the answer is one sentence.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use containerd_shim_protos::api::CreateTaskRequest;
use oci_spec::runtime::Spec;
use skiff_engine::compile::CompileError;
use skiff_engine::order::{Command, Guest, HostOrder, ProgramOrder, ServiceOrder, environment};
use skiff_image::choose::Module;
use skiff_sandbox::cgroup::CgroupError;
use skiff_sandbox::control::ControlError;
use skiff_sandbox::launch::{Inside, LaunchError, Launched};
use skiff_sandbox::plan::{JoinNamespace, Namespace};
use skiff_sandbox::rootfs::{ContainerdMount, RootfsError, mount_root};
use skiff_sandbox::spec::{self, FactsError, GatherError, Refusal, Role, gather};
use ttrpc::Code;

use crate::config_file;
use crate::engine::{self, Engine, EngineError};
use crate::exec::Host;
use crate::exit_record::{self, Exit};
use crate::last_words;
use crate::launching::{self, READY_PATIENCE, Start, append, open_program, ready, start_process};
use crate::memory_cap::{self, Keeper};
use crate::module::{self, ModuleError, Program};
use crate::options::values::MemoryCap;
use crate::options::{Options, OptionsError};
use crate::pod::Pod;
use crate::process::{Body, Process};
use crate::runc::RuncError;
use crate::status::{TaskError, chain};
use crate::stdio::{Places, Stdio, StdioError};
use crate::task::{Backend, Parts, Task};
use crate::terminal::{self, DeviceError, Terminal};
use crate::termination;

use guards::{Maker, Notes};
use linux::Linux;

mod driver;
mod guards;
mod linux;

/// CRI's word for what a container is in its pod.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Why a container was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// An id that could be a path.
    #[error("its id is not made of letters, digits, '.', '_' and '-'")]
    Id,
    /// `config.json` cannot be read.
    #[error("could not read {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An id that cannot be a file's name.
    #[error("its id is {0} bytes long, and 255 are the most that the name of a file can have")]
    LongId(usize),
    /// A field of the spec that is not supported or makes no sense.
    #[error(transparent)]
    Refused(Refusal),
    /// The runtime's options.
    #[error(transparent)]
    Options(OptionsError),
    /// The streams.
    #[error(transparent)]
    Stdio(StdioError),
    /// The terminal.
    #[error(transparent)]
    Terminal(DeviceError),
    /// The node.
    #[error(transparent)]
    Facts(FactsError),
    /// The root.
    #[error(transparent)]
    Root(RootfsError),
    /// Which module to run, or its bytes.
    #[error(transparent)]
    Module(ModuleError),
    /// No engine is to run it.
    #[error(transparent)]
    Engine(EngineError),
    /// The module's code.
    #[error(transparent)]
    Compile(Box<CompileError>),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(CgroupError),
    /// Two that do not agree on who makes cgroups.
    #[error(
        "linux.cgroupsPath is {path:?}, but the handler's option SystemdCgroup = true asks for slice:prefix:name: let the kubelet's cgroupDriver and SystemdCgroup agree, or name the cgroup so"
    )]
    Driver {
        /// The path of the spec.
        path: String,
    },
    /// The thread that talks to systemd has ended.
    #[error("its cgroup could not be made")]
    Thread(#[source] io::Error),
    /// Volumes and namespaces.
    #[error(transparent)]
    Gather(GatherError),
    /// The folder with our executables.
    #[error(
        "could not find the folder of the shim's own executable, in which the engine hosts are"
    )]
    Programs(#[source] io::Error),
    /// One of our executables.
    #[error("could not open {}, which is installed together with the shim", path.display())]
    Program {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of our own in the bundle.
    #[error("could not write {}", path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The order is too long for its slots, or cannot be encoded.
    #[error("the container's order cannot be written: {0}")]
    Order(String),
    /// No process.
    #[error(transparent)]
    Launch(LaunchError),
    /// The launched process could not become the container, and says why.
    #[error("{0}")]
    Host(String),
    /// The launched process has ended without a word.
    #[error("its process ended {how} before it was ready")]
    Died {
        /// `with code 1`, `by signal 9`.
        how: String,
    },
    /// The kernel has killed it for its memory.
    #[error("its process was killed before it was ready: {}", memory(*limit))]
    Memory {
        /// The container's own limit, in bytes.
        limit: Option<i64>,
    },
    /// The filter of the spec is in force before it is ready.
    #[error(
        "its process ended {how} before it was ready: the profile in linux.seccomp may not allow what the engine needs"
    )]
    Profile {
        /// `by signal 31`.
        how: String,
    },
    /// The launched process does not answer.
    #[error("its process was not ready within {} seconds", READY_PATIENCE.as_secs())]
    TimedOut,
    /// containerd has deleted it, or shut the shim down.
    #[error("containerd gave it up while it was being created")]
    Unwanted,
    /// The node's runc, which makes Linux containers.
    #[error(transparent)]
    Runc(RuncError),
    /// The launched process says something else.
    #[error("its process sent something unexpected")]
    Control(#[source] ControlError),
}

impl CreateError {
    /// The code of the answer: what the caller can change, and what it cannot.
    pub fn code(&self) -> Code {
        match self {
            Self::Stdio(StdioError::Program { .. }) => Code::UNIMPLEMENTED,
            Self::Id
            | Self::LongId(_)
            | Self::Refused(_)
            | Self::Options(_)
            | Self::Engine(_)
            | Self::Driver { .. }
            | Self::Stdio(_) => Code::INVALID_ARGUMENT,
            Self::Module(_) | Self::Compile(_) | Self::Gather(_) | Self::Root(_) => {
                Code::FAILED_PRECONDITION
            }
            Self::Unwanted => Code::CANCELLED,
            Self::Runc(error) => error.code(),
            Self::Config { .. }
            | Self::Terminal(_)
            | Self::Facts(_)
            | Self::Cgroup(_)
            | Self::Thread(_)
            | Self::Programs(_)
            | Self::Program { .. }
            | Self::Bundle { .. }
            | Self::Order(_)
            | Self::Launch(_)
            | Self::Host(_)
            | Self::Died { .. }
            | Self::Memory { .. }
            | Self::Profile { .. }
            | Self::TimedOut
            | Self::Control(_) => Code::INTERNAL,
        }
    }
}

/// Creates a container, up to the event of its creation.
///
/// # Errors
/// See [`CreateError`]; nothing is left of the container then.
pub async fn create(pod: &Arc<Pod>, request: CreateTaskRequest) -> Result<u32, TaskError> {
    if !request.checkpoint.is_empty() {
        return Err(TaskError::Unsupported(
            "containers are not created from checkpoints",
        ));
    }
    let reservation = pod.reserve(&request.id)?;
    let failed = |source| TaskError::Create {
        id: request.id.clone(),
        source: Box::new(source),
    };
    let places = Places {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
    };
    let mut streams = None;
    let made = tokio::select! {
        made = make(pod, &request, places, &mut streams) => made,
        () = reservation.unwanted() => Err(CreateError::Unwanted),
    };
    if let Err(error) = &made {
        let log = if request.terminal {
            &request.stdout
        } else {
            &request.stderr
        };
        last_words::leave(streams, log, error).await;
        if !matches!(error, CreateError::Unwanted) {
            termination::leave(Path::new(&request.bundle), &chain(error));
        }
    }
    pod.created.notify_one();
    let task = Arc::new(made.map_err(failed)?);
    // Nothing waits from here to the end: the event of the creation comes before that of the exit.
    reservation.fill(Arc::clone(&task));
    pod.events.created(
        &task.id,
        &request.bundle,
        request.rootfs,
        &task.first.places,
        task.first.pid(),
    );
    let pid = task.first.pid();
    tokio::spawn(Arc::clone(pod).watch(task));
    Ok(pid)
}

/// Tells a containerd that is started anew which shim this container has. It looks for it by the handler's runtime type alone
/// where the bundle does not say, gives the container up if its `PATH` has none (a handler with `runtime_path`),
/// and writes the file itself only for the container that the shim was started for.
fn name_shim(shim_bundle: &Path, bundle: &Path) {
    const FILE: &str = "shim-binary-path";
    if shim_bundle == bundle {
        return;
    }
    match fs::copy(shim_bundle.join(FILE), bundle.join(FILE)) {
        Ok(_) => {}
        // Whoever started the shim is no containerd, or one that does not ask.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log::warn!(
            "could not write {}/{FILE}: {error}; if containerd is restarted it may take the container for ended",
            bundle.display()
        ),
    }
}

/// `streams` are the container's while it is made; they stay there if it cannot be.
async fn make(
    pod: &Pod,
    request: &CreateTaskRequest,
    places: Places,
    streams: &mut Option<Stdio>,
) -> Result<Task, CreateError> {
    check_id(&request.id)?;
    let options = Options::from_any(request.options.as_ref()).map_err(CreateError::Options)?;
    let bundle = PathBuf::from(&request.bundle);
    name_shim(&pod.bundle, &bundle);
    let spec = read_spec(&bundle.join("config.json"))?;
    let role = role(&spec);
    let facts = pod.facts()?;
    // What is refused of a Wasm container may be fine for a Linux one.
    let blueprint = spec::blueprint(&spec, role, facts, &request.id).map_err(CreateError::Refused);
    // A pod's annotations come with its sandbox too, which needs no engine.
    let annotations = spec.annotations().as_ref();
    let annotations = annotations.filter(|_| role == Role::Guest);
    let engine =
        engine::choose(&pod.runtime, &options, annotations).map_err(CreateError::Engine)?;
    let found = find(pod, &engine, request, role, &spec, &bundle).await;
    if let Ok((root, Wanted::Linux(path))) = found {
        let linux = Linux {
            options: &options,
            bundle,
            spec: &spec,
            path: &path,
            root,
        };
        return linux::make(pod, request, places, streams, linux).await;
    }
    let mut blueprint = blueprint?;
    let (root, wanted) = found?;
    driver::choose(&options, &mut blueprint.cgroup, &spec, &request.id)?;
    let device = request
        .terminal
        .then(|| terminal::device(spec.process().as_ref()))
        .transpose()
        .map_err(CreateError::Terminal)?;
    let opened = if device.is_some() {
        terminal::places(&places).open()
    } else {
        places.open()
    };
    let stdio = streams.insert(opened.map_err(CreateError::Stdio)?);

    // What takes long comes before what has to be undone.
    let content = match wanted {
        Wanted::Module(module, file) => {
            Content::Guest(module::code(pod, &engine, *module, file, options.compile()).await?)
        }
        _ => Content::Pause,
    };
    let (name, program) = match &content {
        Content::Guest(found) if found.is_service() => launching::open_server(pod, &engine)?,
        Content::Guest(_) => launching::open_host(pod, &engine)?,
        Content::Pause => launching::open_init(pod)?,
    };

    let maker = Maker::Shim(&facts.cgroups);
    let notes = Notes::write(pod, request, &bundle, &blueprint.cgroup.path, maker)?;
    let (cgroup, first) = driver::make(pod, &blueprint.cgroup, &facts.cgroups, &spec).await?;
    // Nobody else runs in this bundle, or the cgroup would have been refused: its records are nobody's.
    let keeper = early_record(&bundle, options.memory_cap, &spec)?;
    let gathered = gather(&mut blueprint, root, &cgroup.cgroup).map_err(CreateError::Gather)?;
    let mut slots: Vec<BorrowedFd<'_>> = gathered.slots.iter().map(AsFd::as_fd).collect();
    let rlimits = blueprint.plan.rlimits.clone();
    let mut before_user: Vec<(Namespace, BorrowedFd<'_>)> = Vec::new();
    if let Some(slim) = pod.slim_mounts()
        && blueprint.plan.new.contains(Namespace::Mount)
    {
        if gathered.user.is_some() {
            before_user.push((Namespace::Mount, slim));
        } else {
            blueprint.plan.join.push(JoinNamespace {
                kind: Namespace::Mount,
                from: append(&mut slots, slim)?,
            });
        }
    }
    let pause;
    let order = match &content {
        Content::Guest(code) => {
            let process = spec.process().as_ref();
            let guest = Guest {
                kind: code.code.kind,
                code: append(&mut slots, code.code.file.as_fd())?,
                name: code.name.clone(),
                function: code.function.clone(),
                args: process
                    .and_then(|process| process.args().clone())
                    .unwrap_or_default(),
                env: process
                    .and_then(|process| process.env().as_deref())
                    .map(environment)
                    .unwrap_or_default(),
                working_directory: process.map_or_else(
                    || "/".to_owned(),
                    |process| process.cwd().display().to_string(),
                ),
                exit_record: append(&mut slots, keeper.notes().as_fd())?,
                options: options.guest(),
            };
            let plan = blueprint.plan;
            if code.is_service() {
                let service = options.service(spec.annotations().as_ref());
                let service = service.map_err(CreateError::Options)?;
                postcard::to_stdvec(&ServiceOrder {
                    plan,
                    guest,
                    service,
                })
            } else {
                postcard::to_stdvec(&HostOrder { plan, guest })
            }
        }
        Content::Pause => {
            pause = open_program(pod, "skiff-pause")?;
            let order = ProgramOrder {
                plan: blueprint.plan,
                program: Command::Slot(append(&mut slots, pause.as_fd())?),
                args: vec!["pause".to_owned()],
                env: Vec::new(),
            };
            postcard::to_stdvec(&order)
        }
    };
    let order = order.map_err(|error| CreateError::Order(error.to_string()))?;

    let pid_namespace = blueprint.pid_namespace.as_deref();
    let pid_namespace = pid_namespace
        .map(|path| spec::open_namespace(Namespace::Pid, path).map_err(CreateError::Gather))
        .transpose()?;
    let inside = gathered.user.as_ref().map(|user| {
        before_user.extend(user.join.iter().map(|(kind, file)| (*kind, file.as_fd())));
        Inside {
            user: user.namespace.as_fd(),
            join: &before_user,
            rlimits: &rlimits,
            oom_score_adj: blueprint.user.as_ref().and_then(|user| user.oom_score_adj),
        }
    });
    let process = start_process(&Start {
        name: &name,
        inside: inside.as_ref(),
        id: &request.id,
        program: &program,
        new: blueprint.new,
        pid_namespace: pid_namespace.as_ref().map(AsFd::as_fd),
        cgroup: Some(&cgroup.cgroup),
        stdio: launching::streams(stdio, device.as_ref()),
        at_terminal: device.is_some(),
        order: &order,
        slots: &slots,
    })?;
    // The container's end is its own: with it, the output ends.
    let master = device.map(|device| device.master);
    ready(process.launched(), &cgroup.cgroup, &spec).await?;
    drop(first);
    let terminal = master
        .map(|master| Terminal::start(master, stdio, &places))
        .transpose()
        .map_err(CreateError::Terminal)?;

    // The container's ends are its own from here on.
    let keepers = streams
        .take()
        .map(|stdio| stdio.keepers)
        .unwrap_or_default();
    let Launched {
        pid,
        pidfd,
        control,
    } = process.keep();
    // The kernel's own name for the process: it is ours and not reaped, so the number is still its.
    let mounts = fs::File::open(format!("/proc/{pid}/ns/mnt"))
        .ok()
        .map(OwnedFd::from);
    notes.keep();
    let body = Body {
        pid,
        pidfd,
        keepers,
        terminal,
        input: Mutex::default(),
    };
    Ok(Task::new(Parts {
        id: request.id.clone(),
        bundle,
        first: Process::first(places, request.terminal, body, Some(control)),
        backend: Backend::Host(Box::new(Host::new(options, engine))),
        cgroup: cgroup.keep(),
        memory_cap: matches!(role, Role::Guest).then_some(keeper),
        mounts,
        own_pids: blueprint.new.contains(Namespace::Pid),
    }))
}

/// What the container is, as far as can be told before anything is made.
enum Wanted {
    Pause,
    Module(Box<Module>, Option<OwnedFd>),
    Linux(String),
}

async fn find(
    pod: &Pod,
    engine: &Engine,
    request: &CreateTaskRequest,
    role: Role,
    spec: &Spec,
    bundle: &Path,
) -> Result<(OwnedFd, Wanted), CreateError> {
    let root = root(spec, request, bundle)?;
    let wanted = match role {
        Role::Pause | Role::Program => Wanted::Pause,
        Role::Guest => match module::choose(pod, engine, &request.id, spec, root.as_fd()).await? {
            Program::Module(module, file) => Wanted::Module(module, file),
            Program::Linux(path) => Wanted::Linux(path),
        },
    };
    Ok((root, wanted))
}

/// What the process is to run.
enum Content {
    Guest(module::Found),
    Pause,
}

/// containerd checks ids the same way; here they become file names.
fn check_id(id: &str) -> Result<(), CreateError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let starts_well = id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if id.len() > 255 {
        Err(CreateError::LongId(id.len()))
    } else if starts_well && id.bytes().all(fine) {
        Ok(())
    } else {
        Err(CreateError::Id)
    }
}

pub(crate) fn read_spec(path: &Path) -> Result<Spec, CreateError> {
    let config = config_file::read(path).map_err(|source| CreateError::Config {
        path: path.to_owned(),
        source,
    })?;
    spec::read(&config).map_err(CreateError::Refused)
}

fn role(spec: &Spec) -> Role {
    let kind = spec
        .annotations()
        .as_ref()
        .and_then(|annotations| annotations.get(CONTAINER_TYPE));
    if kind.is_some_and(|kind| kind == "sandbox") {
        Role::Pause
    } else {
        Role::Guest
    }
}

fn root(spec: &Spec, request: &CreateTaskRequest, bundle: &Path) -> Result<OwnedFd, CreateError> {
    let mounts: Vec<_> = request
        .rootfs
        .iter()
        .map(|mount| ContainerdMount {
            fstype: mount.type_.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            options: mount.options.clone(),
        })
        .collect();
    // Relative paths of a spec are relative to the bundle.
    let path = spec
        .root()
        .as_ref()
        .map_or_else(|| bundle.join("rootfs"), |root| bundle.join(root.path()));
    mount_root(&mounts, bundle, &path).map_err(CreateError::Root)
}

/// The file that the host writes its exit code to before it exits, with the cap on the guest's memory in it.
fn early_record(bundle: &Path, cap: MemoryCap, spec: &Spec) -> Result<Keeper, CreateError> {
    let keeper = Exit::prepare(bundle)
        .and_then(|file| Keeper::new(file, cap, memory_cap::limit_of(spec)))
        .map_err(|source| CreateError::Bundle {
            path: bundle.join(exit_record::EARLY_FILE),
            source,
        })?;
    keeper.processors_are(memory_cap::processors_of(spec));
    Ok(keeper)
}

fn memory(limit: Option<i64>) -> String {
    match limit {
        Some(limit) => format!("its memory limit of {limit} bytes is too small for the engine"),
        None => "its pod or the node has no memory left for it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for id in ["a", "0123456789abcdef", "my-pod_1.2"] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "-a", ".a", "a b", "a\n", "ü"] {
            assert!(matches!(check_id(id), Err(CreateError::Id)), "{id}");
        }
        check_id(&"a".repeat(255)).unwrap();
        assert!(matches!(
            check_id(&"a".repeat(256)),
            Err(CreateError::LongId(256))
        ));
    }
}
