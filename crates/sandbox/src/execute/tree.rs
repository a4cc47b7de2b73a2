//! The mount tree of the container: pivot first, then every mount at its place inside.
//!
//! The node's tree is gone before the first path of the image or the spec is looked at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::procfs::Proc;
use super::{ExecuteError, guest, mountinfo};
use crate::control::adopt_slot;
use crate::plan::{Attach, Propagation, Root};
use crate::sys::mount::{self, Change, attribute};
use crate::sys::path::{self, Kind};

/// Makes `root` the process's mount tree; answers the open working directory.
pub(super) fn build(
    root: &Root,
    working_directory: &str,
    proc: &Proc,
) -> Result<OwnedFd, ExecuteError> {
    // The copies of the node's mounts are peers of the originals until now: what happens to them, the
    // detaching of the old root above all, must not happen there. pivot_root refuses shared ones too.
    mount::change_all_propagation(Propagation::Private).map_err(ExecuteError::step(
        || "separate the new mount namespace from the node's",
    ))?;
    let tree = adopt_slot(root.tree).map_err(ExecuteError::step(|| "find the root's mount"))?;
    // Over the present root: no directory of the node is needed as a place for it.
    mount::attach_path(tree.as_fd(), Path::new("/"))
        .map_err(ExecuteError::step(|| "attach the root's mount"))?;
    mount::pivot(tree.as_fd()).map_err(|error| pivot_error(error, proc))?;

    for attach in &root.mounts {
        attach_one(tree.as_fd(), attach, root.guest)?;
    }
    let directory = make_working_directory(tree.as_fd(), working_directory)?;
    if root.guest {
        guest::confine(tree.as_fd(), proc)?;
    }
    let change = Change {
        set: if root.read_only {
            attribute::READ_ONLY
        } else {
            0
        },
        clear: 0,
        propagation: Some(root.propagation),
    };
    mount::change(tree.as_fd(), change, false).map_err(ExecuteError::step(
        || "set the root's read-only flag and propagation",
    ))?;
    Ok(directory)
}

fn pivot_error(source: std::io::Error, proc: &Proc) -> ExecuteError {
    let text = proc.read(Path::new("self/mountinfo")).unwrap_or_default();
    if is_initial_root(&text) {
        return ExecuteError::Refused(
            "the root of this node is its initial RAM file system, which pivot_root(2) cannot leave; \
             start the node from a root file system that is mounted (switch_root)"
                .to_owned(),
        );
    }
    ExecuteError::Step {
        step: "make the container's root the root (pivot_root)".to_owned(),
        source,
    }
}

/// Whether the namespace's root was never mounted on anything: it is its own parent then.
fn is_initial_root(mountinfo: &str) -> bool {
    let entries = mountinfo::parse(mountinfo).unwrap_or_default();
    entries
        .iter()
        .any(|entry| entry.id == entry.parent && entry.fstype == "rootfs")
}

fn attach_one(root: BorrowedFd<'_>, attach: &Attach, is_guest: bool) -> Result<(), ExecuteError> {
    let at = &attach.at;
    let step = || format!("mount the volume at {at}");
    let tree = adopt_slot(attach.tree).map_err(ExecuteError::step(step))?;
    if is_guest {
        guest::check_source(tree.as_fd(), attach)?;
    }
    let (kind, thing) = if attach.directory {
        (Kind::Directory, "a directory")
    } else {
        (Kind::File, "a file")
    };
    let place =
        path::open_or_make(root, Path::new(at), kind).map_err(ExecuteError::step(|| {
            format!("find or make {at} in the container's root, to mount {thing} there")
        }))?;
    if path::is_directory(place.as_fd()).map_err(ExecuteError::step(step))? != attach.directory {
        let there = if attach.directory {
            "no directory"
        } else {
            "a directory"
        };
        return Err(ExecuteError::Refused(format!(
            "{thing} cannot be mounted at {at}: the image has {there} at this path; mount it elsewhere"
        )));
    }
    if path::same_place(root, place.as_fd()).map_err(ExecuteError::step(step))? {
        return Err(ExecuteError::Refused(format!(
            "nothing can be mounted at {at}, which is the container's root itself; mount it at a path below"
        )));
    }
    mount::attach(tree.as_fd(), place.as_fd()).map_err(ExecuteError::step(step))
}

/// The working directory inside `root`, made if it is missing, as other runtimes do.
fn make_working_directory(root: BorrowedFd<'_>, directory: &str) -> Result<OwnedFd, ExecuteError> {
    let step = || format!("find or make the working directory {directory} in the container's root");
    let directory_of = if directory.is_empty() { "/" } else { directory };
    let opened = path::open_or_make(root, Path::new(directory_of), Kind::Directory)
        .map_err(ExecuteError::step(step))?;
    if path::is_directory(opened.as_fd()).map_err(ExecuteError::step(step))? {
        Ok(opened)
    } else {
        Err(ExecuteError::Step {
            step: step(),
            source: Errno::NOTDIR.into(),
        })
    }
}

/// The working directory of a process that keeps the tree it has.
pub(super) fn open_working_directory(directory: &str) -> Result<OwnedFd, ExecuteError> {
    let directory = if directory.is_empty() { "/" } else { directory };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(ExecuteError::step(|| {
        format!("open the working directory {directory}")
    }))
}

/// Enters the working directory and looks whether the kernel agrees that it is inside.
pub(super) fn change_directory(directory: &OwnedFd, name: &str) -> Result<(), ExecuteError> {
    rustix::process::fchdir(directory).map_err(ExecuteError::step(|| {
        format!("change to the working directory {name}")
    }))?;
    // A directory that the root does not lead to is "(unreachable)": an open descriptor of the node's
    // would take the container out of its root (CVE-2024-21626).
    let path = rustix::process::getcwd(Vec::new()).map_err(ExecuteError::step(|| {
        format!("ask for the path of the working directory {name}")
    }))?;
    if path.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(ExecuteError::Refused(format!(
            "the working directory {name} leads out of the container's root"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_runs_from_its_initial_file_system_is_known() {
        assert!(is_initial_root(
            "120 120 0:2 / / rw - rootfs rootfs rw\n121 120 0:5 / /proc rw - proc proc rw\n"
        ));
        assert!(!is_initial_root(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        ));
    }
}
