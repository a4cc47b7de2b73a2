//! The mount tree of Linux programs in a container of a Wasm guest.
//!
//! Made from the guest's own, which the process has entered: the same root and volumes, cloned, without the flags that
//! only a guest has; proc, sys, dev and their like beside them. The guest lives on in the tree that it has, and may
//! change what lies in it while it is looked at here: paths are resolved with the root as their limit, and what the
//! guest could put in the place of a mount is its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::ExecuteError;
use crate::control::adopt_slot;
use crate::plan::{Content, Device, LinuxTree, Namespace, NewNamespaces, Place, Propagation};
use crate::sys::mount::{self, Change, Context, attribute};
use crate::sys::path::{self, Kind};
use crate::sys::process;

/// The flags of a guest's tree, which programs cannot be executed under.
const GUEST: u64 = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;

/// What every container has in `/dev`, whatever its spec says.
const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

/// The file systems of a tree that are new, detached, in the order of their places.
#[derive(Debug, Default)]
pub(super) struct Fresh(Vec<OwnedFd>);

impl Fresh {
    pub(super) fn make(tree: &LinuxTree) -> Result<Self, ExecuteError> {
        let made = tree.places.iter().filter_map(|place| match &place.what {
            Content::New {
                fstype,
                options,
                attributes,
            } => Some(
                new(fstype, options, *attributes).map_err(ExecuteError::step(|| {
                    format!("make the {fstype} for {}", place.at)
                })),
            ),
            _ => None,
        });
        Ok(Self(made.collect::<Result<_, _>>()?))
    }
}

/// Puts the tree together in a new mount namespace, and lives in it.
pub(super) fn build(tree: &LinuxTree, fresh: Fresh) -> Result<(), ExecuteError> {
    // All that is cloned is cloned before the namespace is left: in a copy that belongs to another user namespace
    // the flags could not be taken off.
    let root = mount::clone_path(Path::new("/"), false)
        .map_err(ExecuteError::step(|| "clone the container's root"))?;
    let guests = path_root()?;
    let mut fresh = fresh.0.into_iter();
    let trees = tree
        .places
        .iter()
        .map(|place| make(place, guests.as_fd(), &mut fresh))
        .collect::<Result<Vec<_>, _>>()?;
    drop(guests);
    let writable = Change {
        set: 0,
        clear: GUEST | attribute::READ_ONLY,
        propagation: Some(Propagation::Private),
    };
    mount::change(root.as_fd(), writable, false).map_err(ExecuteError::step(
        || "set the flags of the container's root",
    ))?;

    process::unshare(NewNamespaces::NONE.with(Namespace::Mount))
        .map_err(ExecuteError::step(|| "make a mount namespace"))?;
    mount::change_all_propagation(Propagation::Private).map_err(ExecuteError::step(
        || "separate the new mount namespace from the guest's",
    ))?;
    mount::attach_path(root.as_fd(), Path::new("/"))
        .map_err(ExecuteError::step(|| "attach the container's root"))?;
    mount::pivot(root.as_fd())
        .map_err(ExecuteError::step(|| "make the container's root the root"))?;

    for (place, made) in tree.places.iter().zip(trees) {
        attach(root.as_fd(), place, &made)?;
    }
    rustix::process::umask(Mode::empty());
    for device in &tree.devices {
        make_device(root.as_fd(), device)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    link(root.as_fd())?;
    for path in &tree.masked {
        mask(root.as_fd(), path).map_err(ExecuteError::step(|| format!("mask {path}")))?;
    }
    for path in &tree.read_only_paths {
        protect(root.as_fd(), path)
            .map_err(ExecuteError::step(|| format!("make {path} read-only")))?;
    }
    if tree.read_only {
        mount::change(root.as_fd(), Change::set(attribute::READ_ONLY), false)
            .map_err(ExecuteError::step(|| "make the root read-only"))?;
    }
    Ok(())
}

/// The root of the tree that the process is in.
fn path_root() -> Result<OwnedFd, ExecuteError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty())
        .map_err(ExecuteError::step(|| "open the container's root"))
}

/// A detached tree for a place, and directories to attach in it.
struct Made {
    tree: OwnedFd,
    inside: Vec<(String, OwnedFd)>,
}

fn make(
    place: &Place,
    guests: BorrowedFd<'_>,
    fresh: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Made, ExecuteError> {
    let alone = |tree| Made {
        tree,
        inside: Vec::new(),
    };
    match &place.what {
        Content::Guests { recursive, clear } => {
            let step = || format!("take over the volume at {}", place.at);
            let at = path::open_in_root(guests, Path::new(&place.at), OFlags::PATH)
                .map_err(ExecuteError::step(step))?;
            let tree = mount::clone_fd(at.as_fd(), *recursive).map_err(ExecuteError::step(step))?;
            let change = Change {
                clear: *clear,
                ..Change::default()
            };
            if !change.is_empty() {
                mount::change(tree.as_fd(), change, false).map_err(ExecuteError::step(step))?;
            }
            Ok(alone(tree))
        }
        Content::New { fstype, .. } => fresh.next().map(alone).ok_or_else(|| {
            let sentence = format!("the {fstype} for {} was not made", place.at);
            ExecuteError::Refused(sentence)
        }),
        Content::Cgroup {
            directories,
            attributes,
        } => {
            let step = || format!("mount the container's cgroup at {}", place.at);
            if let [(name, slot)] = directories.as_slice()
                && name.is_empty()
            {
                return adopt_slot(*slot)
                    .map(alone)
                    .map_err(ExecuteError::step(step));
            }
            let mode = ("mode".to_owned(), Some("755".to_owned()));
            let tree = new("tmpfs", &[mode], attributes & !attribute::READ_ONLY)
                .map_err(ExecuteError::step(step))?;
            let inside = directories
                .iter()
                .map(|(name, slot)| Ok((name.clone(), adopt_slot(*slot)?)))
                .collect::<std::io::Result<_>>()
                .map_err(ExecuteError::step(step))?;
            Ok(Made { tree, inside })
        }
    }
}

fn new(
    fstype: &str,
    options: &[(String, Option<String>)],
    attributes: u64,
) -> std::io::Result<OwnedFd> {
    let context = Context::open(fstype)?;
    context.set("source", fstype)?;
    for (key, value) in options {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.set_flag(key)?,
        }
    }
    context.mount(attributes)
}

fn attach(root: BorrowedFd<'_>, place: &Place, made: &Made) -> Result<(), ExecuteError> {
    let step = || format!("mount what belongs at {}", place.at);
    let directory = path::is_directory(made.tree.as_fd()).map_err(ExecuteError::step(step))?;
    let kind = if directory {
        Kind::Directory
    } else {
        Kind::File
    };
    let at =
        path::open_or_make(root, Path::new(&place.at), kind).map_err(ExecuteError::step(step))?;
    mount::attach(made.tree.as_fd(), at.as_fd()).map_err(ExecuteError::step(step))?;
    for (name, tree) in &made.inside {
        let at = path::open_or_make(made.tree.as_fd(), Path::new(name), Kind::Directory)
            .map_err(ExecuteError::step(step))?;
        mount::attach(tree.as_fd(), at.as_fd()).map_err(ExecuteError::step(step))?;
        for controller in name.split(',').filter(|controller| *controller != name) {
            rustix::fs::symlinkat(name.as_str(), &made.tree, controller)
                .map_err(ExecuteError::step(step))?;
        }
    }
    if let Content::Cgroup { attributes, .. } = &place.what
        && !made.inside.is_empty()
    {
        let flags = Change::set(attributes & attribute::READ_ONLY);
        mount::change(made.tree.as_fd(), flags, false).map_err(ExecuteError::step(step))?;
    }
    Ok(())
}

/// Makes a node where none is. One that the image has is left as it is, and so is what is mounted there.
fn make_device(root: BorrowedFd<'_>, device: &Device) -> Result<(), ExecuteError> {
    let step = || format!("make the device {}", device.path);
    let file = Path::new(&device.path);
    let (Some(above), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(ExecuteError::Refused(format!(
            "{} is not the path of a device",
            device.path
        )));
    };
    let above =
        path::open_or_make(root, above, Kind::Directory).map_err(ExecuteError::step(step))?;
    let kind = rustix::fs::FileType::from_raw_mode(device.mode);
    let numbers = rustix::fs::makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(&above, name, kind, mode, numbers) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        other => other.map_err(ExecuteError::step(step))?,
    }
    if (device.uid, device.gid) != (0, 0) {
        let owner = Some(Uid::from_raw(device.uid));
        let group = Some(Gid::from_raw(device.gid));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&above, name, owner, group, flags).map_err(ExecuteError::step(step))?;
    }
    Ok(())
}

fn link(root: BorrowedFd<'_>) -> Result<(), ExecuteError> {
    for (name, target) in LINKS {
        let step = || format!("make the link /{name}");
        let name = Path::new(name);
        let above = name.parent().unwrap_or_else(|| Path::new("/"));
        let above =
            path::open_or_make(root, above, Kind::Directory).map_err(ExecuteError::step(step))?;
        match rustix::fs::symlinkat(target, &above, name.file_name().unwrap_or_default()) {
            Ok(()) | Err(Errno::EXIST) => {}
            other => other.map_err(ExecuteError::step(step))?,
        }
    }
    Ok(())
}

/// Puts an empty directory over a directory, and the null device over anything else. What is not there needs none.
fn mask(root: BorrowedFd<'_>, path: &str) -> std::io::Result<()> {
    let Some(at) = existing(root, path)? else {
        return Ok(());
    };
    let tree = if path::is_directory(at.as_fd())? {
        let quiet = GUEST | attribute::READ_ONLY;
        new("tmpfs", &[("size".to_owned(), Some("0".to_owned()))], quiet)?
    } else {
        let null = path::open_in_root(root, Path::new("/dev/null"), OFlags::PATH)?;
        mount::clone_fd(null.as_fd(), false)?
    };
    mount::attach(tree.as_fd(), at.as_fd())
}

fn protect(root: BorrowedFd<'_>, path: &str) -> std::io::Result<()> {
    let Some(at) = existing(root, path)? else {
        return Ok(());
    };
    let tree = mount::clone_fd(at.as_fd(), true)?;
    mount::change(tree.as_fd(), Change::set(attribute::READ_ONLY), false)?;
    mount::attach(tree.as_fd(), at.as_fd())
}

fn existing(root: BorrowedFd<'_>, path: &str) -> std::io::Result<Option<OwnedFd>> {
    match path::open_in_root(root, Path::new(path), OFlags::PATH) {
        Ok(at) => Ok(Some(at)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
