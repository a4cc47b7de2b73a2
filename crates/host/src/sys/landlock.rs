//! Landlock: the guest's file tree is `/` and what is mounted below it, and in it nothing is executed and no
//! device is made. <https://docs.kernel.org/userspace-api/landlock.html>
//!
//! Three system calls, written out: the rules never vary.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};

const CREATE_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;

/// `LANDLOCK_ACCESS_FS_*` bits that a guest keeps: every one of the kernel's but those below.
const EXECUTE: u64 = 1;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
const DENIED: u64 = EXECUTE | MAKE_CHAR | MAKE_BLOCK | IOCTL_DEVICE;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL`: neither reaches out of this process.
const SCOPES: u64 = 3;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// What became of [`restrict_to_root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// In force, with this version of the kernel's interface.
    Enforced(u32),
    /// The kernel has none, or one (version 1, kernels before 5.19) under which no file could be moved
    /// from one directory to another.
    Unavailable,
}

/// Restricts the process, for good, to files below `/`. Needs `no_new_privs`.
///
/// # Errors
/// The kernel has Landlock and refuses this use of it.
pub fn restrict_to_root() -> io::Result<Landlock> {
    let Some(version) = version() else {
        return Ok(Landlock::Unavailable);
    };
    if version < 2 {
        return Ok(Landlock::Unavailable);
    }
    let mut handled = (REFER << 1) - 1;
    if version >= 3 {
        handled |= TRUNCATE;
    }
    if version >= 5 {
        handled |= IOCTL_DEVICE;
    }
    let attr = RulesetAttr {
        handled_access_fs: handled,
        handled_access_net: 0,
        scoped: if version >= 6 { SCOPES } else { 0 },
    };
    let ruleset = create(&attr, version)?;
    let root = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let rule = PathBeneathAttr {
        allowed_access: handled & !DENIED,
        parent_fd: root.as_fd().as_raw_fd(),
    };
    // SAFETY: `rule` is the structure of this rule type and outlives the call; both descriptors are open.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    })?;
    // SAFETY: an integer descriptor and no flags.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) })?;
    Ok(Landlock::Enforced(version))
}

fn version() -> Option<u32> {
    // SAFETY: with this flag the kernel reads no structure and returns its version, or an error.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_VERSION,
        )
    };
    u32::try_from(version).ok()
}

fn create(attr: &RulesetAttr, version: u32) -> io::Result<OwnedFd> {
    // Each version knows the structure up to its own newest field, and refuses unknown fields only if set.
    let size = if version >= 6 {
        size_of::<RulesetAttr>()
    } else {
        size_of::<u64>()
    };
    // SAFETY: `attr` is readable for `size` bytes.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::from_ref(attr),
            size,
            0u32,
        )
    })?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
