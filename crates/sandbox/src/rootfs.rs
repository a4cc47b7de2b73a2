//! The container's root, from the mounts that containerd asks for: one detached mount tree.
//!
//! Called by the shim at Create, in the node's mount namespace, where nothing is ever mounted: one mount is
//! made detached with the mount API; several, or what an older kernel's API cannot express, are put
//! together by [`private`] in a mount namespace that ends with the thread that made it.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::plan::Propagation;
use crate::sys::mount::{self, Change};
use crate::sys::path;

mod file_system;
mod layers;
mod options;
mod private;

/// One mount as containerd's task API describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerdMount {
    /// `overlay`, `bind`, `tmpfs`, `erofs`, ….
    pub fstype: String,
    /// Device, directory or a word.
    pub source: String,
    /// Path below the root, usually empty.
    pub target: String,
    /// `ro`, `lowerdir=…`, ….
    pub options: Vec<String>,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The root directory itself.
    #[error("could not open the root {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An option that would change what the container sees, and that is not known.
    #[error(
        "the {fstype} mount of the root has the option {option}, which is not supported: {reason}"
    )]
    Option {
        /// Type of the mount.
        fstype: String,
        /// The option, as given.
        option: String,
        /// What is wrong with it.
        reason: Cow<'static, str>,
    },
    /// One mount.
    #[error("could not mount the root: {fstype} of {source_name}{detail}")]
    Mount {
        /// Type of the mount.
        fstype: String,
        /// Its source.
        source_name: String,
        /// Which option, and what the file system itself says; may be empty.
        detail: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory whose ids cannot be shown as others.
    #[error(
        "could not show the ids of {} in the root as those of the container's user namespace; where its file system cannot, \
         run the pod with hostUsers: true",
        path.display()
    )]
    Ids {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A place for a mount inside the root.
    #[error("could not find {target} in the root, where its {fstype} mount belongs")]
    Target {
        /// Type of the mount.
        fstype: String,
        /// Path inside the root.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace or thread in which mounts are put together.
    #[error("could not {step} to put the mounts of the root together")]
    Private {
        /// What failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The detached root tree: of `mounts`, or of the directory `root_path` if there are none.
///
/// `bundle` is the container's bundle; its `rootfs` directory is the place where several mounts are put
/// together, unseen by the node.
///
/// # Errors
/// See [`RootfsError`].
pub fn mount_root(
    mounts: &[ContainerdMount],
    bundle: &Path,
    root_path: &Path,
) -> Result<OwnedFd, RootfsError> {
    let tree = match mounts {
        [] => directory(root_path)?,
        [single] if single.target.is_empty() && !layers::are_mapped(single)? => {
            match file_system::detached(single)? {
                Some(tree) => tree,
                None => private::assemble(mounts, &bundle.join("rootfs"))?,
            }
        }
        several => private::assemble(several, &bundle.join("rootfs"))?,
    };
    Ok(tree)
}

fn directory(root_path: &Path) -> Result<OwnedFd, RootfsError> {
    let error = |source| RootfsError::Open {
        path: root_path.to_owned(),
        source,
    };
    let tree = mount::clone_path(root_path, false).map_err(error)?;
    if !path::is_directory(tree.as_fd()).map_err(error)? {
        return Err(error(io::ErrorKind::NotADirectory.into()));
    }
    separate(&tree).map_err(error)?;
    Ok(tree)
}

/// A clone is a peer of its original: what is mounted in it later would appear on the node.
fn separate(tree: &OwnedFd) -> io::Result<()> {
    mount::change(
        tree.as_fd(),
        Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        },
        true,
    )
}

/// A regular file of an image, opened for reading with `root` as the limit of its path.
///
/// # Errors
/// As `openat2`; `IsADirectory` for a directory, `InvalidInput` for a device, a FIFO or a socket, which are
/// not opened: that could wait, or have an effect.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    // The path only, which has no effect on what is there; then what it is; then that very file.
    let found = path::open_in_root(root, Path::new(path), OFlags::PATH)?;
    match path::file_type(found.as_fd())? {
        FileType::RegularFile => path::reopen(found.as_fd(), OFlags::RDONLY | OFlags::NOCTTY),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
    }
}

/// Opens a directory of the node as a place to mount on.
fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
