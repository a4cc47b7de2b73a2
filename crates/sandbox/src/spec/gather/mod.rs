//! Opens what a blueprint names, in the order of the slots.
//!
//! Called by the shim, in the node's mount namespace. Paths here are the node's, written by the kubelet or
//! the user into the spec; the ones inside the container are left to the process that lives there.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{Bind, Blueprint, Source, Tmpfs};
use crate::cgroup::{Cgroup, CgroupError};
use crate::plan::Namespace;
use crate::sys::{mount, namespace, path};

pub use user::OpenUser;
use user::Users;

mod user;

/// Something that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A volume that cannot be had.
    #[error("could not open the volume {} to mount it at {destination}", path.display())]
    Bind {
        /// On the node.
        path: PathBuf,
        /// Inside.
        destination: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A volume that a container must not have.
    #[error("the volume {} for {destination} is {what}, which a container is not given: mount a directory or a file", path.display())]
    Kind {
        /// On the node.
        path: PathBuf,
        /// Inside.
        destination: String,
        /// `a block device`.
        what: &'static str,
    },
    /// A file system in memory.
    #[error(
        "could not make the tmpfs for {destination} with the options {options:?}{}",
        said(messages)
    )]
    Tmpfs {
        /// Inside.
        destination: String,
        /// As the spec has them.
        options: String,
        /// What the kernel said of it.
        messages: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Mount flags.
    #[error("could not set the flags of the mount at {destination}")]
    Flags {
        /// Inside.
        destination: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A volume whose ids cannot be shown as others.
    #[error("could not show the ids of the volume {} at {destination} as others{}", path.display(), unmapped(source))]
    Ids {
        /// On the node.
        path: PathBuf,
        /// Inside.
        destination: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An option of a tmpfs.
    #[error(
        "the tmpfs for {destination} is to have the {option}, which the container's user namespace does not map"
    )]
    TmpfsOwner {
        /// Inside.
        destination: String,
        /// `uid=5`.
        option: String,
    },
    /// The node's proc file system.
    #[error("could not make a private proc file system")]
    Proc(#[source] io::Error),
    /// A user namespace.
    #[error("could not make a user namespace")]
    NewUser(#[source] io::Error),
    /// The user namespace of another.
    #[error("could not read the id maps of the user namespace {}", path.display())]
    UserMaps {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A spec that says something else of it.
    #[error("linux.uidMappings and linux.gidMappings are not those of the user namespace {} that the container is to join", path.display())]
    OtherMaps {
        /// Its file.
        path: PathBuf,
    },
    /// A namespace of others.
    #[error("could not open the {kind} namespace {}: the process or the pod that it belongs to may be gone", path.display())]
    Namespace {
        /// `network`.
        kind: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a namespace, or one of another kind.
    #[error("{} is not a {kind} namespace", path.display())]
    NotNamespace {
        /// `network`.
        kind: String,
        /// What the spec names.
        path: PathBuf,
    },
    /// The cgroup.
    #[error("could not open the container's cgroup")]
    Cgroup(#[source] CgroupError),
    /// A blueprint of another node, or one that was changed.
    #[error("the blueprint does not fit: {0}")]
    Blueprint(&'static str),
}

fn said(messages: &str) -> String {
    if messages.is_empty() {
        String::new()
    } else {
        format!(" ({messages})")
    }
}

fn unmapped(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            ": its file system, or one mounted below it, cannot have its ids mapped on this kernel; \
             use another volume, or run the pod with hostUsers: true"
        }
        Some(libc::EPERM) => ": they are shown as others already",
        _ => "",
    }
}

/// What a blueprint names, opened.
#[derive(Debug)]
pub struct Gathered {
    /// The index is the slot.
    pub slots: Vec<OwnedFd>,
    /// For a launch in a user namespace.
    pub user: Option<OpenUser>,
}

/// Opens what the blueprint names. `root` goes into the slot of the root.
///
/// Fills in [`crate::plan::Attach::directory`], which depends on what is found.
///
/// # Errors
/// A source is missing, is a device, or cannot be mounted: the sentence names it and its place inside.
pub fn gather(
    blueprint: &mut Blueprint,
    root: OwnedFd,
    cgroup: &Cgroup,
) -> Result<Gathered, GatherError> {
    let user = blueprint.user.as_ref().map(OpenUser::open).transpose()?;
    let mut users = Users::new(user.as_ref());
    let mut tasks: Vec<Option<OwnedFd>> = cgroup
        .tasks()
        .map_err(GatherError::Cgroup)?
        .into_iter()
        .map(Some)
        .collect();
    let mut root = Some(root);
    let mut slots = Vec::with_capacity(blueprint.sources.len());
    for (slot, source) in blueprint.sources.iter().enumerate() {
        let (opened, directory) = match source {
            Source::Root => (
                root.take()
                    .ok_or(GatherError::Blueprint("it has two roots"))?,
                true,
            ),
            Source::Proc => (mount::private_proc().map_err(GatherError::Proc)?, false),
            Source::Bind(bind) => open_bind(bind, &mut users)?,
            Source::Tmpfs(tmpfs) => {
                let root = slots
                    .first()
                    .map(OwnedFd::as_fd)
                    .ok_or(GatherError::Blueprint("the root is not first"))?;
                (make_tmpfs(tmpfs, root, user.as_ref())?, true)
            }
            Source::Namespace { kind, path } => (open_namespace(*kind, path)?, false),
            Source::CgroupTasks(index) => {
                let file = tasks.get_mut(*index).and_then(Option::take);
                (
                    file.ok_or(GatherError::Blueprint(
                        "it has another number of cgroup hierarchies",
                    ))?,
                    false,
                )
            }
        };
        slots.push(opened);
        let mounts = blueprint
            .plan
            .root
            .iter_mut()
            .flat_map(|root| &mut root.mounts);
        for attach in mounts.filter(|attach| usize::from(attach.tree.0) == slot) {
            attach.directory = directory;
        }
    }
    Ok(Gathered { slots, user })
}

/// A detached clone of the source, and whether it is a directory.
fn open_bind(bind: &Bind, users: &mut Users<'_>) -> Result<(OwnedFd, bool), GatherError> {
    let failed = |source| GatherError::Bind {
        path: bind.path.clone(),
        destination: bind.destination.clone(),
        source,
    };
    // Looked at on the clone itself: the path may lead somewhere else a moment later.
    let tree = mount::clone_path(&bind.path, bind.recursive).map_err(failed)?;
    let kind = path::file_type(tree.as_fd()).map_err(failed)?;
    let refused = |what| GatherError::Kind {
        path: bind.path.clone(),
        destination: bind.destination.clone(),
        what,
    };
    match kind {
        FileType::Directory | FileType::RegularFile => {}
        FileType::BlockDevice => return Err(refused("a block device")),
        FileType::CharacterDevice => return Err(refused("a character device")),
        FileType::Socket => return Err(refused("a socket")),
        FileType::Fifo => return Err(refused("a named pipe")),
        FileType::Symlink | FileType::Unknown => {
            return Err(refused("neither a file nor a directory"));
        }
    }
    set_flags(tree.as_fd(), bind, bind.recursive).map_err(|source| GatherError::Flags {
        destination: bind.destination.clone(),
        source,
    })?;
    if let Some(ids) = &bind.ids {
        users
            .map(tree.as_fd(), ids)
            .map_err(|source| GatherError::Ids {
                path: bind.path.clone(),
                destination: bind.destination.clone(),
                source,
            })?;
    }
    Ok((tree, kind == FileType::Directory))
}

/// Flags and propagation in as few calls as there are differences between the topmost mount and the rest.
fn set_flags(tree: BorrowedFd<'_>, bind: &Bind, recursive: bool) -> io::Result<()> {
    let (mode, all) = bind
        .propagation
        .map_or((None, false), |(mode, all)| (Some(mode), all));
    let mut everywhere = bind.recursive_change;
    let mut topmost = bind.change;
    if all {
        everywhere.propagation = mode;
    } else {
        topmost.propagation = mode;
    }
    // What the spec says of the topmost mount goes over what it says of all of them.
    if !everywhere.is_empty() {
        mount::change(tree, everywhere, recursive)?;
    }
    if !topmost.is_empty() {
        mount::change(tree, topmost, false)?;
    }
    Ok(())
}

fn make_tmpfs(
    tmpfs: &Tmpfs,
    root: BorrowedFd<'_>,
    user: Option<&OpenUser>,
) -> Result<OwnedFd, GatherError> {
    let text = |(key, value): &(String, Option<String>)| {
        value
            .as_ref()
            .map_or_else(|| key.clone(), |value| format!("{key}={value}"))
    };
    let all = match user {
        Some(user) => user.tmpfs_options(tmpfs)?,
        None => tmpfs.options.clone(),
    };
    let options: Vec<String> = all.iter().map(text).collect();
    let failed = |messages| {
        |source| GatherError::Tmpfs {
            destination: tmpfs.destination.clone(),
            options: options.join(","),
            messages,
            source,
        }
    };
    let context = mount::Context::open("tmpfs").map_err(failed(String::new()))?;
    let fill = || -> io::Result<OwnedFd> {
        // Shows up in the container's mountinfo, where a reader expects a word.
        context.set("source", "tmpfs")?;
        for (key, value) in &all {
            match value {
                Some(value) => context.set(key, value)?,
                None => context.set_flag(key)?,
            }
        }
        if !tmpfs.options.iter().any(|(key, _)| key == "mode")
            && let Some(mode) = mode_of(root, &tmpfs.destination)
        {
            context.set("mode", &format!("{mode:o}"))?;
        }
        context.mount(tmpfs.attributes)
    };
    let tree = fill().map_err(|source| failed(context.messages())(source))?;
    let (propagation, _) = tmpfs.propagation.unzip();
    let change = mount::Change {
        propagation,
        ..mount::Change::default()
    };
    mount::change(tree.as_fd(), change, false).map_err(|source| GatherError::Flags {
        destination: tmpfs.destination.clone(),
        source,
    })?;
    Ok(tree)
}

/// The mode of the directory that a tmpfs will cover, which it takes over, as with runc.
fn mode_of(root: BorrowedFd<'_>, destination: &str) -> Option<u32> {
    let inside = path::open_in_root(
        root,
        Path::new(destination),
        OFlags::PATH | OFlags::DIRECTORY,
    )
    .ok()?;
    rustix::fs::fstat(&inside)
        .ok()
        .map(|stat| stat.st_mode & 0o7777)
}

/// Opens a namespace of others.
///
/// # Errors
/// It is not there, or is something else.
pub fn open_namespace(kind: Namespace, path: &Path) -> Result<OwnedFd, GatherError> {
    // Not a path of the image: /proc/<pid>/ns/net and /run/netns/<name> are links or files of the node.
    // O_NONBLOCK: a FIFO in its place must not hold the shim up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let name = || format!("{kind:?}").to_lowercase();
    let failed = |source: io::Error| GatherError::Namespace {
        kind: name(),
        path: path.to_owned(),
        source,
    };
    let opened =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    // The kernel checks it once more when it is entered, but the process there does not know the path.
    if namespace::is(opened.as_fd(), kind).map_err(failed)? {
        Ok(opened)
    } else {
        Err(GatherError::NotNamespace {
            kind: name(),
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
