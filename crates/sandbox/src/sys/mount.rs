//! Mounts as file descriptors: made, cloned, changed and attached without a path of the node's mount table.
//!
//! A detached mount lives as long as its descriptor. Whoever holds it can attach it in its own mount
//! namespace with [`attach`].

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::plan::Propagation;

/// `MOUNT_ATTR_*`: the flags of a mount (`linux/mount.h`).
pub mod attribute {
    /// Read-only.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities have no effect.
    pub const NO_SUID: u64 = 0x2;
    /// Device files cannot be opened.
    pub const NO_DEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// The bits that hold one of the access time modes; `clear` it whenever one of them is set.
    pub const ATIME: u64 = 0x70;
    /// Access times are updated if older than the modification time. The value of the mode is 0.
    pub const RELATIVE_ATIME: u64 = 0x0;
    /// Access times are never updated.
    pub const NO_ATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICT_ATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NO_DIR_ATIME: u64 = 0x80;
    /// Symlinks are not followed.
    pub const NO_SYMLINKS: u64 = 0x20_0000;
}

/// Change of a mount's flags and propagation, as `mount_setattr(2)` takes it. Cleared first, then set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// [`attribute`] bits to set.
    pub set: u64,
    /// [`attribute`] bits to clear.
    pub clear: u64,
    /// New propagation, if it changes.
    pub propagation: Option<Propagation>,
}

impl Change {
    /// Sets these [`attribute`] bits, changes nothing else.
    pub const fn set(set: u64) -> Self {
        Self {
            set,
            clear: 0,
            propagation: None,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Shows the ids of a detached mount as a user namespace maps them, or with `recursive` those of all below as well.
///
/// # Errors
/// `EINVAL` for a file system that cannot (or a mount that is not detached), `EPERM` for a mount that is mapped already.
pub fn map_ids(mount: BorrowedFd<'_>, user: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    /// `MOUNT_ATTR_IDMAP`.
    const MAP_IDS: u64 = 0x10_0000;
    let attr = MountAttr {
        attr_set: MAP_IDS,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(user.as_raw_fd().cast_unsigned()),
    };
    set_attr(mount, c"", &attr, flags(recursive))
}

/// Changes one mount, or with `recursive` it and all below.
///
/// # Errors
/// `EINVAL` for flags the kernel does not know, `EPERM` for flags locked by another user namespace.
pub fn change(mount: BorrowedFd<'_>, change: Change, recursive: bool) -> io::Result<()> {
    change_at(mount, c"", change, flags(recursive))
}

fn flags(recursive: bool) -> i32 {
    libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 }
}

/// Changes the propagation of every mount of the caller's namespace.
///
/// # Errors
/// None are expected for a process with the right to mount.
pub fn change_all_propagation(propagation: Propagation) -> io::Result<()> {
    let change = Change {
        propagation: Some(propagation),
        ..Change::default()
    };
    change_at(CWD, c"/", change, libc::AT_RECURSIVE)
}

fn change_at(directory: BorrowedFd<'_>, path: &CStr, change: Change, flags: i32) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change
            .propagation
            .map_or(0, |propagation| match propagation {
                Propagation::Private => libc::MS_PRIVATE,
                Propagation::Slave => libc::MS_SLAVE,
                Propagation::Shared => libc::MS_SHARED,
                Propagation::Unbindable => libc::MS_UNBINDABLE,
            }),
        userns_fd: 0,
    };
    set_attr(directory, path, &attr, flags)
}

fn set_attr(
    directory: BorrowedFd<'_>,
    path: &CStr,
    attr: &MountAttr,
    flags: i32,
) -> io::Result<()> {
    // SAFETY: the path is NUL-terminated, the structure is initialised, of the size given, and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const *attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A detached clone of the mount at `path`, of what lies at and below `path`; `recursive`: with all mounts below.
/// A symlink at the end of `path` is followed.
///
/// # Errors
/// The path does not exist, or the mount is unbindable.
pub fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(CWD, path, clone_flags(recursive))?)
}

/// A detached clone of what `file` (an `O_PATH` descriptor will do) refers to.
///
/// # Errors
/// As [`clone_path`]. A detached mount can only be cloned by kernels from 6.15 on.
pub fn clone_fd(file: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(
        file,
        c"",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// A detached, read-only clone of a directory, without the mounts below it.
///
/// Executables and cache entries are opened through one: a container that gets at its `/proc/self/exe`
/// (CVE-2019-5736) or at an inherited descriptor cannot reopen it for writing, root or not.
///
/// # Errors
/// As [`clone_path`].
pub fn read_only_directory(path: &Path) -> io::Result<OwnedFd> {
    let tree = clone_path(path, false)?;
    change(
        tree.as_fd(),
        Change {
            set: attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV,
            clear: 0,
            propagation: Some(Propagation::Private),
        },
        false,
    )?;
    Ok(tree)
}

/// Attaches a detached mount at the place that `at` refers to (a directory or a file; `O_PATH` will do).
///
/// # Errors
/// `ENOTDIR` if one is a directory and the other is not.
pub fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", at, c"", flags)?)
}

/// Attaches a detached mount at a path of the caller's mount namespace. Not for paths inside a container's root.
///
/// # Errors
/// As [`attach`].
pub fn attach_path(tree: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(
        tree,
        c"",
        CWD,
        at,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// Mounts `what` once more at `at`, in the caller's mount namespace. For files that only `mount(2)` can bind: those
/// of namespaces.
///
/// # Errors
/// `EINVAL` for a mount namespace, if mounts at `at` are not private.
pub fn bind(what: &Path, at: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(what, at)?)
}

/// Whether `path` is where something is mounted.
///
/// # Errors
/// It is not there.
pub fn is_root_of_mount(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(CWD, path, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether the caller's mount namespace has `count` mounts or more.
///
/// # Errors
/// `/proc` cannot be read, on kernels before 6.8.
pub fn at_least(count: usize) -> io::Result<bool> {
    match list(count) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
        listed => return listed.map(|listed| listed >= count),
    }
    let lines = std::fs::read("/proc/self/mountinfo")?;
    Ok(lines.iter().filter(|byte| **byte == b'\n').count() >= count)
}

/// How many mounts there are, up to `most` (`listmount(2)`).
fn list(most: usize) -> io::Result<usize> {
    /// `struct mnt_id_req` of `linux/mount.h`, in its first version.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        last: u64,
    }
    /// `LSMT_ROOT`: all mounts below the root.
    const ROOT: u64 = u64::MAX;
    /// The same number on all architectures.
    const SYS_LISTMOUNT: libc::c_long = 458;
    let request = Request {
        size: 24,
        spare: 0,
        mount: ROOT,
        last: 0,
    };
    let mut ids = vec![0_u64; most];
    // SAFETY: the request is initialised and of the size that it says; the kernel writes at most `ids.len()`
    // numbers of 8 bytes to `ids`, which is as long. Both outlive the call.
    let count = unsafe {
        libc::syscall(
            SYS_LISTMOUNT,
            &raw const request,
            ids.as_mut_ptr(),
            ids.len(),
            0,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Detaches the topmost mount at `path` of the caller's namespace; what still uses it keeps it.
///
/// # Errors
/// `EINVAL` if nothing is mounted there.
pub fn detach_path(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(
        path,
        UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
    )?)
}

/// Makes `new_root` the root of the process and its mount namespace, and detaches the old one.
///
/// `new_root` must be a mount attached somewhere in the namespace. The working directory becomes the new root.
///
/// # Errors
/// `EINVAL` on a node whose root is the initial RAM file system, which has no parent to be replaced in.
pub fn pivot(new_root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(new_root)?;
    // With both paths the same, the old root ends up on top of the new one, at `.`; no directory inside
    // the container's root is needed to hold it.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    Ok(())
}

/// A proc file system of the caller's pid namespace that is mounted nowhere.
///
/// # Errors
/// `EPERM` without rights over the mount namespace.
pub fn private_proc() -> io::Result<OwnedFd> {
    Context::open("proc")?.mount(attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC)
}

/// A file system in the making (`fsopen(2)`).
#[derive(Debug)]
pub struct Context {
    fd: OwnedFd,
}

impl Context {
    /// Starts one of type `fstype`.
    ///
    /// # Errors
    /// `ENODEV` for a type that the kernel does not know.
    pub fn open(fstype: &str) -> io::Result<Self> {
        Ok(Self {
            fd: rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?,
        })
    }

    /// Sets `key=value`.
    ///
    /// # Errors
    /// The type does not know the key, or the value is longer than 255 bytes: see [`Context::messages`].
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(&self.fd, key, value)?)
    }

    /// Sets `key` without a value.
    ///
    /// # Errors
    /// As [`Context::set`].
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(&self.fd, key)?)
    }

    /// Sets `key` to an open file.
    ///
    /// # Errors
    /// As [`Context::set`]; most types and keys take strings only.
    pub fn set_fd(&self, key: &str, value: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_fd(&self.fd, key, value)?)
    }

    /// Makes the file system and a detached mount of it with these [`attribute`] bits.
    ///
    /// # Errors
    /// What the file system refuses: see [`Context::messages`].
    pub fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.fd)?;
        let attributes =
            u32::try_from(attributes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes);
        Ok(rustix::mount::fsmount(
            &self.fd,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    }

    /// What the file system has to say about failures, in its own words, joined with `; `.
    /// Empty if it said nothing.
    pub fn messages(&self) -> String {
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        // Each read gives one message, ENODATA when there are no more.
        while let Ok(length) = rustix::io::read(&self.fd, &mut buffer) {
            if length == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&buffer[..length]);
            // "e overlay: lowerdir not found": the letter is the severity.
            let text = text.trim_end();
            messages.push(
                text.split_once(' ')
                    .map_or(text, |(_, text)| text)
                    .to_owned(),
            );
        }
        messages.join("; ")
    }
}
