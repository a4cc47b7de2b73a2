//! The socket on which a pod's shim serves: where it lies, and who may have it.
//!
//! `start` claims it and hands it, listening, to the daemon; the daemon removes it when it ends; `delete`
//! removes it after a crash. All three hold a lock on the directory while they look and change, so two
//! starts of one pod at the same time make one shim.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Longest path of a socket: `sun_path` has 108 bytes, the last of which is 0.
const LONGEST_PATH: usize = 107;

/// Connections that may wait while the daemon is starting.
const BACKLOG: i32 = 128;

/// A socket could not be claimed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A stranger listens there.
    #[error("the socket {} is served by user {uid}: it was made by someone else, remove it", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who serves it.
        uid: u32,
    },
    /// Others could put a socket of theirs in the place of ours.
    #[error("{} is not a directory that only its owner can change, and that this user owns: remove it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The place is taken by something else.
    #[error("{} is not a socket: remove it", path.display())]
    NotASocket {
        /// The place.
        path: PathBuf,
    },
}

impl SocketError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

/// What [`claim`] found.
#[derive(Debug)]
pub enum Claim {
    /// A shim serves the pod already.
    Served,
    /// Nobody did: this socket listens now, mode 0600.
    Ours(UnixListener),
}

/// The file that a socket is, to tell it from one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// Where the shim of a group of containers listens. `containerd` is the path of containerd's own socket;
/// the group is a pod's sandbox id, or the id of a container that is alone.
pub fn path(directory: Option<&Path>, containerd: &str, namespace: &str, group: &str) -> PathBuf {
    path_below(directory, containerd, namespace, group, &run_directory())
}

/// Where Skiff keeps what lives as long as the node runs.
pub fn run_directory() -> PathBuf {
    std::env::var_os("SKIFF_RUN_DIR").map_or_else(|| PathBuf::from("/run/skiff"), PathBuf::from)
}

fn path_below(
    directory: Option<&Path>,
    containerd: &str,
    namespace: &str,
    group: &str,
    run: &Path,
) -> PathBuf {
    let name = name(containerd, namespace, group);
    let containerd = containerd.strip_prefix("unix://").unwrap_or(containerd);
    let beside = || {
        Path::new(containerd)
            .parent()
            .unwrap_or_else(|| Path::new("/"))
            .join("s")
    };
    let path = directory.map_or_else(beside, Path::to_owned).join(&name);
    let fits = path.as_os_str().len() <= LONGEST_PATH && path.is_absolute();
    if fits && path.parent().is_some_and(is_private) {
        return path;
    }
    // The name alone tells sockets apart, also of two containerds.
    run.join("s").join(name)
}

/// Whether nobody else can put a socket there, or something in the place of ours. What is missing is made so.
fn is_private(directory: &Path) -> bool {
    match fs::metadata(directory) {
        Ok(metadata) => {
            metadata.is_dir()
                && metadata.uid() == rustix::process::geteuid().as_raw()
                && metadata.mode() & 0o022 == 0
        }
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// 128 bits, so that the name leaves room for long directories.
fn name(containerd: &str, namespace: &str, group: &str) -> String {
    let containerd = containerd.strip_prefix("unix://").unwrap_or(containerd);
    let mut hasher = blake3::Hasher::new_derive_key("skiff shim, name of a socket");
    for part in [containerd, namespace, group] {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Makes sure that someone listens at `path`: the shim that does already, or the caller.
///
/// # Errors
/// See [`SocketError`].
pub fn claim(path: &Path) -> Result<Claim, SocketError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| SocketError::Io {
            operation: "create directory",
            path: directory.to_owned(),
            source,
        })?;
    if !is_private(directory) {
        return Err(SocketError::Directory {
            path: directory.to_owned(),
        });
    }
    let _lock = lock(directory)?;
    match probe(path)? {
        Probe::Served(_) => return Ok(Claim::Served),
        Probe::Dead => remove_file(path)?,
        Probe::Nothing => {}
    }
    let address = SocketAddrUnix::new(path).map_err(SocketError::io("name socket", path))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(SocketError::io("make socket", path))?;
    rustix::net::bind(&socket, &address).map_err(SocketError::io("bind socket", path))?;
    // Before anyone can connect, whatever the umask is.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)
        .map_err(SocketError::io("set the mode of socket", path))?;
    rustix::net::listen(&socket, BACKLOG).map_err(SocketError::io("listen on socket", path))?;
    Ok(Claim::Ours(UnixListener::from(socket)))
}

/// Removes the socket if nobody serves it. Twice is fine.
///
/// # Errors
/// See [`SocketError`]; a live socket is no error.
pub fn remove_dead(path: &Path) -> Result<(), SocketError> {
    let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
        return Ok(());
    };
    let _lock = lock(directory)?;
    match probe(path)? {
        Probe::Dead => remove_file(path),
        Probe::Served(_) | Probe::Nothing => Ok(()),
    }
}

/// Removes the socket if it is still the one that `identity` names.
///
/// # Errors
/// See [`SocketError`].
pub fn remove_own(path: &Path, identity: Identity) -> Result<(), SocketError> {
    let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
        return Ok(());
    };
    let _lock = lock(directory)?;
    if Identity::of(path) == Some(identity) {
        remove_file(path)
    } else {
        Ok(())
    }
}

/// The process that serves there: a number when the kernel knows it, 0 else; `None` when nobody does.
///
/// # Errors
/// See [`SocketError`].
pub fn server(path: &Path) -> Result<Option<u32>, SocketError> {
    match probe(path)? {
        Probe::Served(pid) => Ok(Some(pid)),
        Probe::Nothing | Probe::Dead => Ok(None),
    }
}

/// Makes an inherited socket that listens this process's own: whoever connects is told who called
/// `listen`, and that shall be the daemon, not the process that made it.
///
/// # Errors
/// It is no socket, or does not listen.
pub fn adopt(socket: OwnedFd) -> io::Result<UnixListener> {
    // Answers ENOTSOCK for anything but a socket.
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("it is a socket that does not listen"));
    }
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether `path` is where the shim of `group` listens, and not that of another group of containers.
pub fn is_of(path: &Path, containerd: &str, namespace: &str, group: &str) -> bool {
    path.file_name()
        .is_some_and(|file| file == name(containerd, namespace, group).as_str())
}

impl Identity {
    /// Of the socket at `path`, if there is one.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        metadata.file_type().is_socket().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

enum Probe {
    Nothing,
    Dead,
    Served(u32),
}

/// Who is there: tried by connecting, since a socket's file outlives its process.
fn probe(path: &Path) -> Result<Probe, SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Probe::Nothing),
        Err(source) => {
            return Err(SocketError::Io {
                operation: "look at",
                path: path.to_owned(),
                source,
            });
        }
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(SocketError::io("name socket", path))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(SocketError::io("make socket", path))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {
            // The credentials are those of the process that called listen.
            let peer = rustix::net::sockopt::socket_peercred(&socket)
                .map_err(SocketError::io("ask who serves", path))?;
            let uid = peer.uid.as_raw();
            if uid == rustix::process::geteuid().as_raw() {
                Ok(Probe::Served(
                    u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0),
                ))
            } else {
                Err(SocketError::Stranger {
                    path: path.to_owned(),
                    uid,
                })
            }
        }
        // The queue of connections is full, which takes a process that has it.
        Err(Errno::AGAIN) => Ok(Probe::Served(0)),
        Err(Errno::CONNREFUSED) => Ok(Probe::Dead),
        Err(Errno::NOENT) => Ok(Probe::Nothing),
        Err(error) => Err(SocketError::io("connect to", path)(error)),
    }
}

/// A lock on the directory itself: no file is left behind, and it ends with the process.
fn lock(directory: &Path) -> Result<OwnedFd, SocketError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(SocketError::io("open directory", directory))?;
    loop {
        match rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(error) => return Err(SocketError::io("lock directory", directory)(error)),
        }
    }
}

fn remove_file(path: &Path) -> Result<(), SocketError> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(SocketError::io("remove socket", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn beside_containerds_own_socket() {
        let run = Path::new("/run/skiff");
        let path = path_below(
            None,
            "/run/containerd/containerd.sock",
            "k8s.io",
            "pod",
            run,
        );
        assert_eq!(path.parent(), Some(Path::new("/run/containerd/s")));
        assert_eq!(path.file_name().unwrap().len(), 32);
        let asked = path_below(
            Some(Path::new("/run/sockets")),
            "/run/containerd/containerd.sock",
            "k8s.io",
            "pod",
            run,
        );
        assert_eq!(asked.parent(), Some(Path::new("/run/sockets")));
        assert_eq!(asked.file_name(), path.file_name());
    }

    /// Needs root.
    #[test]
    fn not_where_others_could_replace_it() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        let beside = directory.path().join("s");
        let containerd = directory.path().join("c.sock").display().to_string();
        let path = || path_below(None, &containerd, "n", "pod", &run);
        assert!(path().starts_with(&beside));
        fs::create_dir(&beside).unwrap();
        let mode = |mode| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
        for mode_of in [0o777, 0o1777, 0o770, 0o702] {
            mode(mode_of);
            assert!(path().starts_with(&run), "{mode_of:o}");
        }
        for mode_of in [0o700, 0o711, 0o755] {
            mode(mode_of);
            assert!(path().starts_with(&beside), "{mode_of:o}");
        }
        std::os::unix::fs::chown(&beside, Some(1000), None).unwrap();
        assert!(path().starts_with(&run));
        let refused = claim(&beside.join("x")).unwrap_err();
        assert!(
            matches!(refused, SocketError::Directory { .. }),
            "{refused}"
        );
        claim(&path()).unwrap();
    }

    #[test]
    fn names_differ_with_each_part() {
        let run = Path::new("/run/skiff");
        let names: std::collections::HashSet<_> = [
            ("/a/c", "n", "g"),
            ("/b/c", "n", "g"),
            ("/a/c", "m", "g"),
            ("/a/c", "n", "h"),
            ("/a/c", "ng", ""),
        ]
        .map(|(address, namespace, group)| {
            path_below(Some(Path::new("/s")), address, namespace, group, run)
        })
        .into();
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn every_path_fits() {
        let run = Path::new("/run/skiff");
        for length in 1..300 {
            let containerd = format!("/{}/containerd.sock", "d".repeat(length));
            let path = path_below(None, &containerd, "k8s.io", "pod", run);
            assert!(path.as_os_str().len() <= LONGEST_PATH, "{path:?}");
            SocketAddrUnix::new(&path).unwrap();
            assert_eq!(path.starts_with(run), length > 71, "{length} {path:?}");
        }
        assert!(path_below(None, "containerd.sock", "n", "g", run).is_absolute());
    }

    #[test]
    fn one_of_many_starts_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").join("x");
        let claims: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| claim(&path).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let ours: Vec<_> = claims
            .into_iter()
            .filter(|claim| matches!(claim, Claim::Ours(_)))
            .collect();
        assert_eq!(ours.len(), 1);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // Dead now: the next start replaces it.
        drop(ours);
        assert_eq!(server(&path).unwrap(), None);
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)));
    }

    #[test]
    fn only_the_dead_and_the_own_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let Claim::Ours(listener) = claim(&path).unwrap() else {
            panic!("nobody else is there")
        };
        let identity = Identity::of(&path).unwrap();
        remove_dead(&path).unwrap();
        assert!(path.exists());
        drop(listener);
        remove_dead(&path).unwrap();
        remove_dead(&path).unwrap();
        assert!(!path.exists());
        let Claim::Ours(_second) = claim(&path).unwrap() else {
            panic!("nobody else is there")
        };
        if Identity::of(&path) != Some(identity) {
            remove_own(&path, identity).unwrap();
            assert!(path.exists());
        }
        remove_own(&path, Identity::of(&path).unwrap()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "important").unwrap();
        assert!(matches!(claim(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "important");
    }
}
