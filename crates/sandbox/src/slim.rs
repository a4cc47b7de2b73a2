//! A mount namespace with next to nothing in it, which containers are made from on a node with many mounts.
//!
//! A new mount namespace is a copy of the one that its maker is in: 4 µs for every mount of the node, paid again
//! when the copy is thrown away a moment later. So the process of a container first enters the slim namespace, and
//! copies that. What the container mounts was opened by the shim, in the node's own namespace, when it was created.
//!
//! The namespace outlives shims, since most shims have one container. It hangs on a file, `mounts/namespace` in the
//! run directory, and that is a mount of the node's, as is the directory around it (a file of a mount namespace can
//! only be mounted where mounts are private). Nodes with fewer than [`MANY`] mounts are left without. To take it
//! away: [`remove`], or `umount /run/skiff/mounts/namespace /run/skiff/mounts`; the next container makes it anew.
//!
//! In it are an empty, read-only root, and `proc` and `sys`: unmasked ones, without which the kernel refuses to mount
//! either in a user namespace.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::plan::{Namespace, Propagation};
use crate::sys::{mount, namespace, process};

/// From so many mounts of the node on, the slim namespace is made. Below, copying costs less than half a millisecond.
pub const MANY: usize = 100;

/// The directory in the run directory.
const DIRECTORY: &str = "mounts";
/// The file in it.
const FILE: &str = "namespace";

/// Why there is no slim namespace. Containers are made without it then, only slower.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
pub struct SlimError {
    step: String,
    #[source]
    source: io::Error,
}

fn failed<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> SlimError {
    let step = step.into();
    move |source| SlimError {
        step,
        source: source.into(),
    }
}

/// The node's slim namespace, made if the node has `many` mounts (usually [`MANY`]); `None` where it has fewer.
///
/// # Errors
/// It cannot be made or opened.
pub fn of_node(run: &Path, many: usize) -> Result<Option<OwnedFd>, SlimError> {
    if let Some(found) = open(run)? {
        return Ok(Some(found));
    }
    if !mount::at_least(many).map_err(failed("count the node's mounts"))? {
        return Ok(None);
    }
    make(run).map(Some)
}

/// Takes the node's slim namespace away, whoever made it. Those who are in it, or hold it, are not disturbed.
/// Answers whether there was one.
///
/// # Errors
/// It cannot be unmounted.
pub fn remove(run: &Path) -> Result<bool, SlimError> {
    let directory = run.join(DIRECTORY);
    let mut removed = false;
    for path in [directory.join(FILE), directory.clone()] {
        loop {
            match mount::detach_path(&path) {
                Ok(()) => removed = true,
                // Nothing is mounted there (EINVAL), or nothing is there.
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidInput
                        || error.kind() == io::ErrorKind::NotFound =>
                {
                    break;
                }
                Err(error) => return Err(failed(format!("unmount {}", path.display()))(error)),
            }
        }
    }
    // What they hung on. A container that starts now has made them anew, and keeps them.
    drop(fs::remove_file(directory.join(FILE)));
    drop(fs::remove_dir(&directory));
    Ok(removed)
}

/// The file on which the namespace hangs.
pub fn file(run: &Path) -> PathBuf {
    run.join(DIRECTORY).join(FILE)
}

/// The namespace that hangs there; `None` if none does.
fn open(run: &Path) -> Result<Option<OwnedFd>, SlimError> {
    let path = file(run);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(format!("open {}", path.display()))(error)),
    };
    // The plain file, after a restart of the node or [`remove`].
    let is_namespace = namespace::is(opened.as_fd(), Namespace::Mount)
        .map_err(failed("look at the slim namespace"))?;
    Ok(is_namespace.then_some(opened))
}

fn make(run: &Path) -> Result<OwnedFd, SlimError> {
    let directory = prepare_directory(run)?;
    // One at a time: two would hang on the same file, one over the other.
    let lock = File::open(&directory).map_err(failed(format!("open {}", directory.display())))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(failed(format!("lock {}", directory.display())))?;
    if let Some(found) = open(run)? {
        return Ok(found);
    }
    let path = file(run);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o400)
        .open(&path)
        .map_err(failed(format!("make {}", path.display())))?;
    let made = hang(&directory, &path)?;
    log::info!(
        "this node has many mounts: containers are made from a mount namespace without them, {}",
        path.display()
    );
    Ok(made)
}

/// Makes a namespace and mounts it at `path`.
///
/// The kernel mounts a namespace only in one that is older, and tells their ages by numbers of which every processor
/// takes 4,096 at a time (`ns_tree_gen_id`, Linux 6.18): one made here may seem older than our own if that was made
/// on another processor. One of the processors has the highest numbers, so each is tried.
fn hang(directory: &Path, path: &Path) -> Result<OwnedFd, SlimError> {
    let mut processors = 0..process::processors();
    let mut pin = None;
    loop {
        let made = on_thread(directory, pin)?;
        let mounted = mount::bind(&crate::sys::path::through_proc(made.as_fd()), path);
        match mounted {
            Ok(()) => return Ok(made),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && !processors.is_empty() => {
                pin = processors.next();
            }
            Err(error) => {
                let step = format!("mount the slim namespace at {}", path.display());
                return Err(failed(step)(error));
            }
        }
    }
}

/// The directory, a private mount of its own.
fn prepare_directory(run: &Path) -> Result<PathBuf, SlimError> {
    let directory = run.join(DIRECTORY);
    let step = || format!("make {}", directory.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(failed(step()))?;
    // Whoever could replace the file could choose what containers start from.
    for place in [run, directory.as_path()] {
        let metadata = fs::symlink_metadata(place).map_err(failed(step()))?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            let error = io::Error::other("it is not a directory that only root can write to");
            return Err(failed(format!("use {}", place.display()))(error));
        }
    }
    let lock = File::open(run).map_err(failed(format!("open {}", run.display())))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(failed(format!("lock {}", run.display())))?;
    let is_mount = mount::is_root_of_mount(&directory)
        .map_err(failed(format!("look at {}", directory.display())))?;
    if !is_mount {
        let itself = mount::clone_path(&directory, false).map_err(failed(step()))?;
        mount::attach_path(itself.as_fd(), &directory).map_err(failed(step()))?;
        let private = mount::Change {
            propagation: Some(Propagation::Private),
            ..mount::Change::default()
        };
        mount::change(itself.as_fd(), private, false)
            .map_err(failed(format!("make {} private", directory.display())))?;
    }
    Ok(directory)
}

/// Makes the namespace on a thread of its own, which ends in it. `place` is a directory to stand on; `pin` the
/// processor that the thread is to run on.
fn on_thread(place: &Path, pin: Option<usize>) -> Result<OwnedFd, SlimError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("mounts".to_owned())
            .spawn_scoped(scope, || {
                if let Some(processor) = pin {
                    // One that we may not use made none of the namespaces that we are in, most likely.
                    drop(process::pin_thread(processor));
                }
                process::unshare_mounts_of_thread().map_err(failed("make a mount namespace"))?;
                mount::change_all_propagation(Propagation::Private)
                    .map_err(failed("separate a mount namespace"))?;
                furnish(place).map_err(failed("make a slim mount namespace"))?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())
                    .map_err(failed("open a slim mount namespace"))
            })
            .map_err(failed("start a thread"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed("finish a thread")(io::Error::other("it panicked"))))
    })
}

/// Leaves the thread with a root that has `proc` and `sys`, and nothing else mounted.
fn furnish(place: &Path) -> io::Result<()> {
    use mount::attribute::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
    let quiet = NO_SUID | NO_DEV | NO_EXEC;
    let root = tree("tmpfs", quiet)?;
    for name in ["proc", "sys"] {
        rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o555))?;
    }
    mount::attach_path(root.as_fd(), place)?;
    mount::pivot(root.as_fd())?;
    for (fstype, at) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount::attach_path(tree(fstype, quiet)?.as_fd(), Path::new(at))?;
    }
    mount::change(root.as_fd(), mount::Change::set(READ_ONLY), false)
}

fn tree(fstype: &str, attributes: u64) -> io::Result<OwnedFd> {
    let context = mount::Context::open(fstype)?;
    context.set("source", "skiff")?;
    context.mount(attributes)
}
