//! The mounts of Linux programs in a container of a Wasm guest: made when the first one is executed, kept for the
//! others until the container is deleted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use skiff_engine::order::{Command, ProgramOrder};
use skiff_sandbox::launch::NewNamespaces;
use skiff_sandbox::plan::{Content, LinuxTree, Plan};
use skiff_sandbox::spec::{Joiner, flags_on_node, linux_tree};
use skiff_sandbox::sys::mount::{self, Change, attribute};

use super::join::{Program, ending};
use super::{ExecError, Host};
use crate::create::CreateError;
use crate::launching::{Start, ready, start_process};
use crate::task::Task;

/// A mount namespace, and what is needed of it besides.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The namespace.
    pub(super) namespace: OwnedFd,
    /// Its `/dev/pts`, if it has one.
    pub(super) terminals: Option<OwnedFd>,
}

/// The mounts of a container's Linux programs.
pub(super) async fn mounts(
    task: &Task,
    host: &Host,
    spec: &Spec,
    joiner: &Joiner,
    program: &Program,
) -> Result<Arc<Mounts>, ExecError> {
    let mut kept = host.linux.lock().await;
    if let Some(mounts) = &*kept {
        return Ok(Arc::clone(mounts));
    }
    let made = Arc::new(make(task, spec, joiner, program).await?);
    *kept = Some(Arc::clone(&made));
    Ok(made)
}

/// Launches a process that makes them and has nothing left to do then.
async fn make(
    task: &Task,
    spec: &Spec,
    joiner: &Joiner,
    program: &Program,
) -> Result<Mounts, ExecError> {
    let (names, directories): (Vec<_>, Vec<_>) = task.cgroup.places().into_iter().unzip();
    let plan = linux_tree(spec, joiner, &names, &flags_on_node).map_err(CreateError::Refused)?;
    let flags = cgroup_flags(&plan);
    let clone = |path: &std::path::PathBuf| {
        let tree = mount::clone_path(path, false)?;
        mount::change(tree.as_fd(), Change::set(flags), false)?;
        Ok::<_, std::io::Error>(tree)
    };
    let trees = directories
        .iter()
        .map(|path| {
            clone(path).map_err(|source| CreateError::Bundle {
                path: path.clone(),
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let container = task.first.pidfd().ok_or(ExecError::Ending)?;
    let mut slots: Vec<BorrowedFd<'_>> = vec![container];
    slots.extend(trees.iter().map(AsFd::as_fd));
    let order = ProgramOrder {
        plan,
        program: Command::Nothing,
        args: Vec::new(),
        env: Vec::new(),
    };
    let order =
        postcard::to_stdvec(&order).map_err(|error| CreateError::Order(error.to_string()))?;
    let nowhere = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| CreateError::Bundle {
            path: "/dev/null".into(),
            source: error.into(),
        })?;
    // Not in the container's cgroup: what it takes is not the container's to pay for.
    let maker = start_process(&Start {
        inside: None,
        name: &program.name,
        id: &task.id,
        program: &program.file,
        new: NewNamespaces::NONE,
        pid_namespace: joiner.pids.then_some(container),
        cgroup: None,
        stdio: [nowhere.as_fd(); 3],
        at_terminal: false,
        order: &order,
        slots: &slots,
    })
    .map_err(ending)?;
    ready(maker.launched(), &task.cgroup, spec).await?;
    let pid = maker.launched().pid;
    log::debug!("container {} has mounts for Linux programs", task.id);
    let open = |what: &str, flags| {
        let path = format!("/proc/{pid}/{what}");
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
    };
    let namespace = open("ns/mnt", OFlags::RDONLY).map_err(|_| ExecError::Ending)?;
    let terminals = open("root/dev/pts", OFlags::PATH | OFlags::DIRECTORY).ok();
    Ok(Mounts {
        namespace,
        terminals,
    })
    // The maker ends here.
}

/// The flags that the spec wants the cgroup mounted with.
fn cgroup_flags(plan: &Plan) -> u64 {
    let places = plan
        .linux_tree
        .as_ref()
        .map(|tree: &LinuxTree| tree.places.as_slice());
    let attributes = places
        .unwrap_or_default()
        .iter()
        .find_map(|place| match &place.what {
            Content::Cgroup { attributes, .. } => Some(*attributes),
            _ => None,
        });
    let flags = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
    attributes.unwrap_or(flags) & flags
}
