//! Paths of an image, resolved with the image's root as their limit.
//!
//! An image is hostile: its symlinks lead to `/`, through `..` and into `/proc`, and its processes can
//! exchange directories while they are walked (CVE-2021-30465, CVE-2024-45310). So nothing here takes a
//! path as the name of a thing twice: the kernel resolves it below an open root (`RESOLVE_IN_ROOT`), and
//! what is missing is made step by step below descriptors that were opened without following symlinks.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// How often an `openat2` is repeated that lost a race with renames or mounts elsewhere on the node.
const RACES: usize = 128;
/// As many symlinks as the kernel follows in one path.
const MAX_SYMLINKS: usize = 40;

/// Opens `path` with `root` as its root. Absolute symlinks and `..` end at `root`; magic links are refused.
///
/// # Errors
/// What `openat2` says: `ENOENT`, `ELOOP` for magic links too, `ENOTDIR`, ….
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

fn open_resolved(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    for _ in 0..RACES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // `..` while anything on the node is renamed or mounted: the kernel cannot tell whether it
            // stayed below the root.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What is to stand at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; missing ones are made with mode 0755.
    Directory,
    /// Anything else; an empty file with mode 0644 is made where nothing is.
    File,
}

/// An `O_PATH` descriptor of `path` with `root` as its root; whatever is missing is made.
///
/// Dangling symlinks are followed within the root, and what they name is made, as other runtimes do it:
/// images with `/etc/resolv.conf` linked into an empty `/run` are common.
///
/// # Errors
/// `ENOTDIR` where a file stands in the way, `EROFS` on a read-only root, `ELOOP` after 40 symlinks.
pub fn open_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    match open_in_root(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, path, kind),
        other => other,
    }
}

/// Walks `path` one name at a time and makes what is missing.
///
/// `..` goes back to the descriptor it was entered from, never to what the directory's parent is by now.
fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let mut walked: Vec<OwnedFd> = Vec::new();
    // The names still to go, the next one last.
    let mut names: Vec<OsString> = Vec::new();
    push_names(&mut names, path);
    let mut symlinks = 0;
    while let Some(name) = names.pop() {
        if name == ".." {
            walked.pop();
            continue;
        }
        let at = walked.last().map_or(root, AsFd::as_fd);
        let last = names.is_empty();
        let name = CString::new(name.into_vec())?;
        let found = match open_name(at, &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_name(at, &name, if last { kind } else { Kind::Directory })?;
                open_name(at, &name)?
            }
            other => other?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Symlink {
            symlinks += 1;
            if symlinks > MAX_SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                walked.clear();
            }
            push_names(&mut names, &target);
        } else {
            walked.push(found);
        }
    }
    match walked.pop() {
        Some(found) => Ok(found),
        None => Ok(rustix::fs::openat(
            root,
            c".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?),
    }
}

fn push_names(names: &mut Vec<OsString>, path: &Path) {
    names.extend(
        path.components()
            .rev()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
            }),
    );
}

/// Opens one name of a directory as it is: a symlink itself, a mount on it followed.
fn open_name(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        at,
        name,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

fn make_name(at: BorrowedFd<'_>, name: &CStr, kind: Kind) -> io::Result<()> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else made it in between; what it is shows when it is opened.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether `file` is a directory.
///
/// # Errors
/// None are expected.
pub fn is_directory(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(file_type(file)? == FileType::Directory)
}

/// What `file` is.
///
/// # Errors
/// None are expected.
pub fn file_type(file: BorrowedFd<'_>) -> io::Result<FileType> {
    let stat = rustix::fs::statat(file, c"", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Whether both descriptors refer to the same file on the same mount.
///
/// # Errors
/// None are expected.
pub fn same_place(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let mask = StatxFlags::INO | StatxFlags::MNT_ID;
    let one = rustix::fs::statx(one, c"", AtFlags::EMPTY_PATH, mask)?;
    let other = rustix::fs::statx(other, c"", AtFlags::EMPTY_PATH, mask)?;
    Ok(one.stx_ino == other.stx_ino && one.stx_mnt_id == other.stx_mnt_id)
}

/// Opens the very file that an `O_PATH` descriptor refers to, through the node's `/proc`.
///
/// # Errors
/// What the file's permissions and file system say.
pub fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        through_proc(file),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A path to the very file that a descriptor of the calling thread refers to, through the node's `/proc`.
pub fn through_proc(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
}
