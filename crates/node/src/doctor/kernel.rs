//! The kernel: its age, and each newer call that Skiff makes.

use std::fmt;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MoveMountFlags, OpenTreeFlags};
use rustix::process::PidfdFlags;

use super::{Finding, RUN_AS_ROOT, sys};

/// The oldest kernel that Skiff is tested for.
const OLDEST: (u32, u32) = (5, 15);

/// What was asked of the kernel.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Each call, and the answer to a harmless try.
    pub calls: Vec<(Call, Answer)>,
    /// The Landlock ABI, or why there is none.
    pub landlock: Result<i64, Errno>,
    /// `/proc/sys/kernel/seccomp/actions_avail`, when seccomp filters exist.
    pub seccomp_actions: Option<String>,
    /// Whether overlay exists, and takes its lower layers one by one (`lowerdir+`).
    pub overlay: Overlay,
}

/// A system call without which no container is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opens paths of an image without leaving its root.
    Openat2,
    /// Clones mounts as descriptors.
    OpenTree,
    /// Attaches them.
    MoveMount,
    /// Changes their flags.
    MountSetattr,
    /// Makes new file systems as descriptors.
    Fsopen,
    /// Starts a container's first process.
    Clone3,
    /// Waits for processes without a race.
    Pidfd,
    /// Leaves no descriptor of the shim in a container.
    CloseRange,
}

impl Call {
    const ALL: [Self; 8] = [
        Self::Openat2,
        Self::OpenTree,
        Self::MoveMount,
        Self::MountSetattr,
        Self::Fsopen,
        Self::Clone3,
        Self::Pidfd,
        Self::CloseRange,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Openat2 => "openat2",
            Self::OpenTree => "open_tree",
            Self::MoveMount => "move_mount",
            Self::MountSetattr => "mount_setattr",
            Self::Fsopen => "fsopen",
            Self::Clone3 => "clone3",
            Self::Pidfd => "pidfd_open",
            Self::CloseRange => "close_range",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Openat2 => "opens paths of an image inside its root",
            Self::OpenTree => "clones mounts for a container",
            Self::MoveMount => "attaches mounts in a container",
            Self::MountSetattr => "makes mounts read-only, nosuid, nodev",
            Self::Fsopen => "mounts an image's root",
            Self::Clone3 => "starts containers, straight into their cgroup",
            Self::Pidfd => "waits for containers and signals them",
            Self::CloseRange => "keeps the shim's files out of containers",
        }
    }

    /// The kernel that brought the call (and, of clone3, `CLONE_INTO_CGROUP`).
    fn since(self) -> &'static str {
        match self {
            Self::Openat2 => "5.6",
            Self::OpenTree | Self::MoveMount | Self::Fsopen => "5.2",
            Self::MountSetattr => "5.12",
            Self::Clone3 => "5.7",
            Self::Pidfd => "5.3",
            Self::CloseRange => "5.9",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The kernel's answer to a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call is there.
    There,
    /// ENOSYS: the kernel is older, or a seccomp filter hides the call.
    Missing,
    /// EPERM: the asking process lacks a capability, or a seccomp filter refuses.
    Refused,
}

impl Answer {
    fn to<T>(result: &Result<T, Errno>) -> Self {
        match result {
            Err(Errno::NOSYS) => Self::Missing,
            Err(Errno::PERM) => Self::Refused,
            Ok(_) | Err(_) => Self::There,
        }
    }
}

/// How the kernel's overlay file system takes layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// One by one, with `lowerdir+` (kernel 6.8).
    OneByOne,
    /// Only as one string.
    OneString,
    /// There is no overlay file system.
    Absent,
    /// Not looked at, for want of privileges.
    Unknown,
}

/// Tries each call. Nothing is mounted, no process is made.
pub fn gather() -> Facts {
    Facts {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        calls: Call::ALL
            .into_iter()
            .map(|call| (call, attempt(call)))
            .collect(),
        landlock: sys::landlock_abi(),
        seccomp_actions: std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").ok(),
        overlay: overlay(),
    }
}

fn attempt(call: Call) -> Answer {
    let probed = |answer: Option<Errno>| Answer::to(&answer.map_or(Ok(()), Err));
    match call {
        Call::Openat2 => Answer::to(&rustix::fs::openat2(
            CWD,
            "/",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )),
        Call::OpenTree => Answer::to(&detached_root()),
        Call::MoveMount => move_mount(),
        Call::MountSetattr => probed(sys::mount_setattr()),
        Call::Fsopen => Answer::to(&rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)),
        Call::Clone3 => probed(sys::clone3()),
        Call::Pidfd => Answer::to(&rustix::process::pidfd_open(
            rustix::process::getpid(),
            PidfdFlags::empty(),
        )),
        Call::CloseRange => probed(sys::close_range()),
    }
}

fn detached_root() -> Result<std::os::fd::OwnedFd, Errno> {
    rustix::mount::open_tree(
        CWD,
        "/",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
}

/// Moves a detached clone to a path that cannot exist (a name below a regular file): the kernel that has
/// the call says ENOTDIR, and the clone goes away with its descriptor.
fn move_mount() -> Answer {
    match detached_root() {
        Ok(tree) => Answer::to(&rustix::mount::move_mount(
            tree,
            "",
            CWD,
            "/proc/version/nowhere",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )),
        Err(error) => Answer::to::<()>(&Err(error)),
    }
}

fn overlay() -> Overlay {
    // Before 6.5, overlay takes whatever option it is told and only finds fault when it is mounted: a kernel
    // that swallows a nonsense option says nothing by swallowing `lowerdir+`.
    match (takes_option("no-such-option"), takes_option("lowerdir+")) {
        (Ok(false), Ok(true)) => Overlay::OneByOne,
        (Ok(_), Ok(_)) => Overlay::OneString,
        (Err(Errno::NODEV), _) | (_, Err(Errno::NODEV)) => Overlay::Absent,
        _ => Overlay::Unknown,
    }
}

fn takes_option(key: &str) -> Result<bool, Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    Ok(rustix::mount::fsconfig_set_string(&context, key, "/").is_ok())
}

/// One finding for the kernel's age and one for each call and feature.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![age(&facts.release)];
    findings.extend(
        facts
            .calls
            .iter()
            .map(|(call, answer)| judge_call(*call, *answer)),
    );
    findings.push(landlock(facts.landlock));
    findings.push(seccomp(facts.seccomp_actions.as_deref()));
    findings.push(judge_overlay(facts.overlay));
    findings
}

fn age(release: &str) -> Finding {
    let (major, minor) = OLDEST;
    let upgrade = format!("upgrade the node to kernel {major}.{minor} or later");
    match parse_release(release) {
        Some(version) if version >= OLDEST => {
            Finding::ok("kernel.version", format!("kernel {release}"))
        }
        Some(_) => Finding::fail(
            "kernel.version",
            format!(
                "kernel {release} is older than {major}.{minor}, the oldest that Skiff supports"
            ),
            upgrade,
        ),
        None => Finding::warn(
            "kernel.version",
            format!("kernel {release} has a version that could not be read"),
            upgrade,
        ),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn judge_call(call: Call, answer: Answer) -> Finding {
    let id = format!("kernel.{call}");
    match answer {
        Answer::There => Finding::ok(id, format!("{call} ({})", call.purpose())),
        Answer::Missing => Finding::fail(
            id,
            format!("{call} is missing, which {}", call.purpose()),
            format!(
                "use kernel {} or later; if this kernel is newer, a seccomp filter around this command hides the call: run doctor on the node itself",
                call.since()
            ),
        ),
        Answer::Refused => Finding::warn(
            id,
            format!(
                "{call} is refused to this command, which {}",
                call.purpose()
            ),
            RUN_AS_ROOT,
        ),
    }
}

fn landlock(abi: Result<i64, Errno>) -> Finding {
    let id = "kernel.landlock";
    match abi {
        Ok(abi) => Finding::ok(
            id,
            format!("Landlock ABI {abi} (a second fence around each engine)"),
        ),
        Err(Errno::OPNOTSUPP) => Finding::warn(
            id,
            "Landlock is compiled into the kernel but switched off; engines run without this second fence",
            "add landlock to the kernel's lsm= boot parameter",
        ),
        Err(_) => Finding::warn(
            id,
            "Landlock is missing; engines run without this second fence",
            "use a kernel with CONFIG_SECURITY_LANDLOCK (5.13 or later)",
        ),
    }
}

fn seccomp(actions: Option<&str>) -> Finding {
    let id = "kernel.seccomp";
    match actions {
        Some(actions)
            if actions
                .split_whitespace()
                .any(|action| action == "kill_process") =>
        {
            Finding::ok(id, "seccomp filters")
        }
        Some(actions) => Finding::fail(
            id,
            format!(
                "seccomp filters without kill_process (the kernel offers {})",
                actions.trim()
            ),
            "use kernel 5.15 or later",
        ),
        None => Finding::fail(
            id,
            "seccomp filters are missing; no container is started without them",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn judge_overlay(overlay: Overlay) -> Finding {
    let id = "kernel.overlay";
    match overlay {
        Overlay::OneByOne => Finding::ok(id, "overlay takes layers one by one (lowerdir+)"),
        Overlay::OneString => Finding::ok(
            id,
            "overlay takes layers as one string only (lowerdir+ came with kernel 6.8); fallback in use: roots are put together in a mount namespace of their own, and one of very many layers may not fit",
        ),
        Overlay::Absent => Finding::fail(
            id,
            "overlay is missing; containerd's overlayfs snapshots cannot be mounted",
            "load it with `modprobe overlay`, or give the handler another snapshotter in containerd's configuration",
        ),
        Overlay::Unknown => Finding::warn(
            id,
            "overlay could not be tried by this command",
            RUN_AS_ROOT,
        ),
    }
}

#[cfg(test)]
mod tests;
