//! A Linux container, made and taken away.
//!
//! containerd's mounts of its root are on the node, at `<bundle>/rootfs`, only while runc makes the container, which
//! takes them over into a mount namespace of its own: a node with many containers has no mounts of theirs, and a shim
//! that is killed leaves one behind only in these milliseconds.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::UnmountFlags;
use skiff_sandbox::cgroup::{Cgroup, Layout};
use skiff_sandbox::sys::{mount, process};

use super::console::ConsoleSocket;
use super::orphans::Hold;
use super::{Create, Runc, RuncError, RuncOptions};
use crate::pod::Pod;
use crate::process::Body;
use crate::status::chain;
use crate::stdio::{Keepers, Places, Stdio};
use crate::terminal::{Terminal, keep_open};

/// The number of a container's first process, in its bundle.
const PID_FILE: &str = "init.pid";
/// Where the root of a container is while it is made.
const ROOTFS: &str = "rootfs";
/// Longest file that holds a number.
const LONGEST_NUMBER: usize = 32;

/// What a container is made of.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) runc: &'a Runc,
    pub(crate) options: &'a RuncOptions,
    /// The cgroup that runc will make, as the spec names it.
    pub(crate) cgroup: &'a str,
    /// What containerd wants to have mounted as its root; none is a directory of the spec's.
    pub(crate) root: Option<OwnedFd>,
    /// Its streams.
    pub(crate) stdio: &'a Stdio,
    pub(crate) places: &'a Places,
    pub(crate) terminal: bool,
}

/// A container that waits for its start. Taken away when dropped.
#[derive(Debug)]
pub(crate) struct Created {
    undo: Undo,
    body: Body,
    cgroup: Cgroup,
}

impl Created {
    /// It is somebody else's to take away: its first process, without the shim's ends of its streams, and the cgroup
    /// that runc has made.
    pub(crate) fn keep(self) -> (Body, Cgroup) {
        let Self {
            mut undo,
            body,
            cgroup,
        } = self;
        undo.keep = true;
        (body, cgroup)
    }
}

/// Creates a container.
///
/// # Errors
/// See [`RuncError`]; nothing is left of it then.
pub(crate) async fn create(pod: &Pod, wanted: Wanted<'_>) -> Result<Created, RuncError> {
    let orphans = pod.orphans()?;
    let layout = Layout::of_node().map_err(RuncError::cgroup)?;
    own_streams(wanted.stdio, wanted.runc.owner)?;
    let input = keep_input(wanted.stdio, wanted.places, wanted.terminal)?;
    // From here on something may be left.
    let mut undo = Undo::new(&wanted);
    let hold = orphans.hold();
    let mounted = wanted
        .root
        .as_ref()
        .map(|root| Mounted::attach(root.as_fd(), wanted.bundle))
        .transpose()?;
    let console = wanted
        .terminal
        .then(|| ConsoleSocket::listen(wanted.bundle, format!("pty-{}", unique())))
        .transpose()?;
    let pid_file = wanted.bundle.join(PID_FILE);
    let null = null().map_err(RuncError::io("open /dev/null"))?;
    let stdio = if wanted.terminal {
        [null.as_fd(); 3]
    } else {
        wanted.stdio.container.each_ref().map(AsFd::as_fd)
    };
    let create = Create {
        bundle: wanted.bundle,
        pid_file: &pid_file,
        console: console.as_ref().map(ConsoleSocket::path),
        options: wanted.options,
    };
    wanted.runc.create(wanted.id, create, stdio).await?;
    let (pid, pidfd) = claim(&hold, &pid_file)?;
    undo.pid = Some(pid);
    drop(hold);
    drop(mounted);
    let cgroup = Cgroup::of_process(pid, layout).map_err(RuncError::cgroup)?;
    let terminal = console
        .map(|console| {
            let master = console.receive()?;
            Terminal::start(master, wanted.stdio, wanted.places).map_err(RuncError::Terminal)
        })
        .transpose()?;
    let body = Body {
        pid,
        pidfd,
        input: Mutex::new(input),
        keepers: Keepers::default(),
        terminal,
    };
    Ok(Created { undo, body, cgroup })
}

/// Whether a container's processes end with its first: its pid namespace is its own.
pub(crate) fn own_pids(spec: &Spec) -> bool {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten()
        .any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid
                && namespace
                    .path()
                    .as_ref()
                    .is_none_or(|path| path.as_os_str().is_empty())
        })
}

/// A process that runc has made, and is the shim's now.
pub(super) fn claim(hold: &Hold, pid_file: &Path) -> Result<(u32, OwnedFd), RuncError> {
    let text = read_number(pid_file).map_err(RuncError::io("read the number of the process"))?;
    let bad = || io::Error::other(format!("{} does not hold a number", pid_file.display()));
    let pid: u32 = text
        .trim()
        .parse()
        .map_err(|_| RuncError::io("read the number of the process")(bad()))?;
    // It cannot be another's: it is not reaped before it is claimed.
    let pidfd = process::open_pidfd(pid).map_err(RuncError::io("open the process"))?;
    hold.claim(pid);
    Ok((pid, pidfd))
}

fn read_number(path: &Path) -> io::Result<String> {
    let mut bytes = fs::read(path)?;
    bytes.truncate(LONGEST_NUMBER);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number for a file of the bundle that no other has.
pub(super) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// As with containerd's own shim, input ends when the client says so, and not when it goes away.
pub(super) fn keep_input(
    stdio: &Stdio,
    places: &Places,
    terminal: bool,
) -> Result<Option<OwnedFd>, RuncError> {
    if terminal || places.stdin.is_empty() {
        return Ok(None);
    }
    keep_open(&stdio.container[0], &places.stdin)
        .map_err(RuncError::io("keep the standard input open"))
}

/// Gives the container's streams to the user of `IoUid` and `IoGid`, so that one that is not root can open them again.
pub(super) fn own_streams(stdio: &Stdio, (user, group): (u32, u32)) -> Result<(), RuncError> {
    if (user, group) == (0, 0) {
        return Ok(());
    }
    for stream in &stdio.container {
        let failed = RuncError::io("give the container's streams to IoUid and IoGid");
        let kind = rustix::fs::fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode));
        // Not the node's /dev/null, nor a log that the node keeps.
        if kind == Ok(FileType::Fifo) {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::fchown(stream, Some(user), Some(group)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The root of a container that is being made, mounted on the node.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    fn attach(root: BorrowedFd<'_>, bundle: &Path) -> Result<Self, RuncError> {
        let place = bundle.join(ROOTFS);
        let made = fs::DirBuilder::new().mode(0o711).create(&place);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(RuncError::io("make the directory of the container's root")(
                error,
            ));
        }
        mount::attach_path(root, &place).map_err(RuncError::io("mount the container's root"))?;
        Ok(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if let Err(error) = rustix::mount::unmount(&self.0, flags) {
            log::warn!("could not unmount {}: {error}", self.0.display());
        }
    }
}

/// Takes away what is left of a container, unless it is kept.
#[derive(Debug)]
struct Undo {
    id: String,
    runc: Runc,
    cgroup: String,
    pid: Option<u32>,
    keep: bool,
}

impl Undo {
    fn new(wanted: &Wanted<'_>) -> Self {
        Self {
            id: wanted.id.to_owned(),
            runc: wanted.runc.clone(),
            cgroup: wanted.cgroup.to_owned(),
            pid: None,
            keep: false,
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let pidfd = self.pid.and_then(|pid| process::open_pidfd(pid).ok());
        let (id, runc, cgroup) = (self.id.clone(), self.runc.clone(), self.cgroup.clone());
        // Runs on when the call is given up.
        drop(tokio::task::spawn_blocking(move || {
            clean_up(&id, &runc, &cgroup);
            if let Some(pidfd) = pidfd
                && let Err(error) = process::wait(pidfd.as_fd())
            {
                log::debug!("could not reap the process of container {id}: {error}");
            }
        }));
    }
}

/// Takes away what is left of a container in whatever state it is, with its cgroup.
fn clean_up(id: &str, runc: &Runc, cgroup: &str) {
    remove(id, runc);
    // One that was killed while it made the container has written nothing down of it.
    let removed = Layout::of_node()
        .and_then(|layout| Cgroup::open(cgroup, layout))
        .and_then(|cgroup| cgroup.kill().and_then(|()| cgroup.remove()));
    if let Err(error) = removed {
        log::warn!("container {id}: {}", chain(&error));
    }
}

/// Takes away what runc has of a container, in whatever state it is. Twice is the same as once.
pub(crate) fn remove(id: &str, runc: &Runc) {
    if let Err(error) = runc.delete_by_force(id) {
        log::warn!("container {id}: {}", chain(&error));
    }
    // Half a container is none that it would take away.
    let state = runc.root.join(id);
    if let Err(error) = fs::remove_dir_all(&state)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("could not remove {}: {error}", state.display());
    }
}
