//! The branch of `Create` for a container whose entrypoint is a Linux program: the node's runc makes it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use containerd_shim_protos::api::CreateTaskRequest;
use oci_spec::runtime::Spec;
use skiff_sandbox::systemd::Scope;

use super::guards::{Maker, Notes};
use super::{CreateError, early_record};
use crate::module;
use crate::options::Options;
use crate::options::values::MemoryCap;
use crate::pod::Pod;
use crate::process::Process;
use crate::runc::{self, Runc};
use crate::stdio::{Places, Stdio};
use crate::task::{Backend, Parts, Task};
use crate::terminal;

/// What is known of the container.
pub(super) struct Linux<'a> {
    pub(super) options: &'a Options,
    pub(super) bundle: PathBuf,
    pub(super) spec: &'a Spec,
    /// Its entrypoint, for messages.
    pub(super) path: &'a str,
    /// Its root, mounted nowhere.
    pub(super) root: OwnedFd,
}

/// Makes it, up to a process that waits for its start. `streams` as in the other branch.
pub(super) async fn make(
    pod: &Pod,
    request: &CreateTaskRequest,
    places: Places,
    streams: &mut Option<Stdio>,
    linux: Linux<'_>,
) -> Result<Task, CreateError> {
    let Linux {
        options,
        bundle,
        spec,
        path,
        root,
    } = linux;
    if !options.linux_programs {
        return Err(module::forbidden(path));
    }
    let cgroup = cgroup(spec, &request.id);
    let runc = Runc::find(
        &options.runc,
        // As for a guest's cgroup, the form of its path decides.
        options.systemd_cgroup || Scope::parse(cgroup).is_some(),
        &pod.namespace,
        &bundle,
    )
    .map_err(CreateError::Runc)?;
    let opened = if request.terminal {
        terminal::places(&places).open()
    } else {
        places.open()
    };
    let stdio = streams.insert(opened.map_err(CreateError::Stdio)?);
    let notes = Notes::write(pod, request, &bundle, cgroup, Maker::Runc(&runc))?;
    // There is no host that would write to it: what an earlier container left is taken away, and room is kept for the
    // end of this one.
    drop(early_record(&bundle, MemoryCap::Off, spec)?);
    let created = runc::create(
        pod,
        runc::Wanted {
            id: &request.id,
            bundle: &bundle,
            runc: &runc,
            options: &options.runc,
            cgroup,
            // A root that is no mount is where the spec says.
            root: (!request.rootfs.is_empty()).then_some(root),
            stdio,
            places: &places,
            terminal: request.terminal,
        },
    )
    .await
    .map_err(CreateError::Runc)?;
    let (mut body, cgroup) = created.keep();
    // The container's ends are its own from here on.
    body.keepers = streams
        .take()
        .map(|stdio| stdio.keepers)
        .unwrap_or_default();
    notes.keep();
    Ok(Task::new(Parts {
        id: request.id.clone(),
        bundle,
        first: Process::first(places, request.terminal, body, None),
        backend: Backend::Runc(Box::new(runc)),
        cgroup,
        memory_cap: None,
        mounts: None,
        own_pids: runc::own_pids(spec),
    }))
}

/// The cgroup that runc will make: without a path, one of the container's name below its own.
fn cgroup<'a>(spec: &'a Spec, id: &'a str) -> &'a str {
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref())
        .and_then(|path| path.to_str());
    path.filter(|path| !path.is_empty()).unwrap_or(id)
}
