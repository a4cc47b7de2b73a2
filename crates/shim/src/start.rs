//! `start`: makes sure that a shim serves the pod, and says where.
//!
//! One shim serves all containers of a pod. Whoever is first makes it: a copy of this same process, which keeps
//! the socket that listens already, so that containerd can connect as soon as it has the answer. It is not
//! executed anew: that would cost every start of a pod half a millisecond of a C library getting ready.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use skiff_sandbox::cgroup::{Cgroup, CgroupError, Layout};
use skiff_sandbox::sys::process;

use crate::bootstrap::{self, BootstrapError};
use crate::command_line::Flags;
use crate::config_file;
use crate::socket::{self, Claim, SocketError};
use crate::sys;

/// Variable with the address of containerd's ttrpc socket.
const EVENTS_VARIABLE: &str = "TTRPC_ADDRESS";
/// CRI's annotation with the id of the pod that a container belongs to.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// File in the bundle with the shim's address. containerd reads it for shims of version 2.
pub const ADDRESS_FILE: &str = "address";

/// There is no shim.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// containerd's parameters.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// No id.
    #[error("containerd did not say for which container: -id and -namespace are needed")]
    NoIdentity,
    /// `config.json`.
    #[error("could not read {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The cgroup of the options.
    #[error("could not put the shim into the cgroup of the option ShimCgroup = {path}")]
    Cgroup {
        /// The cgroup.
        path: String,
        /// Why.
        #[source]
        source: CgroupError,
    },
    /// The daemon.
    #[error("could not start the shim's daemon")]
    Spawn(#[source] io::Error),
    /// The address file.
    #[error("could not write {}", path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What the process is after `start`: there are two then, if a shim was made.
#[derive(Debug)]
pub enum Started {
    /// The one that containerd called and waits for: this is to be printed.
    Answer(Vec<u8>),
    /// The shim itself.
    Daemon(Daemon),
}

/// What a shim's daemon has from `start`.
#[derive(Debug)]
pub struct Daemon {
    /// Listens.
    pub listener: UnixListener,
    /// The file of the listener.
    pub path: PathBuf,
    /// containerd's own gRPC socket, a path.
    pub address: String,
    /// containerd's ttrpc socket for events, a path.
    pub events: String,
    /// Log more.
    pub debug: bool,
}

/// Carries out `start` in the bundle that is the working directory. Call it before there is a second thread.
///
/// # Errors
/// See [`StartError`].
pub fn start(flags: &Flags, input: impl Read) -> Result<Started, StartError> {
    if flags.id.is_empty() || flags.namespace.is_empty() {
        return Err(StartError::NoIdentity);
    }
    let input = bootstrap::read_input(input)?;
    let parameters = bootstrap::parameters(&input, flags, std::env::var(EVENTS_VARIABLE).ok())?;
    let bundle = Path::new(".");
    let group = group(&bundle.join("config.json"))?.unwrap_or_else(|| flags.id.clone());
    let path = socket::path(
        parameters.socket_directory.as_deref(),
        &parameters.address,
        &flags.namespace,
        &group,
    );
    let address = format!("unix://{}", path.display());
    if let Claim::Ours(listener) = socket::claim(&path)?
        && let Some(listener) = enter(bootstrap::shim_cgroup(&input, parameters.protocol))
            .and_then(|()| fork(listener).map_err(StartError::Spawn))
            .inspect_err(|_| {
                // Nobody listens any more. A failure to remove it shows at the next start.
                drop(socket::remove_dead(&path));
            })?
    {
        return Ok(Started::Daemon(Daemon {
            listener,
            path,
            address: parameters.address,
            events: parameters.events,
            debug: parameters.debug,
        }));
    }
    let file = bundle.join(ADDRESS_FILE);
    fs::write(&file, &address).map_err(|source| StartError::Address { path: file, source })?;
    Ok(Started::Answer(bootstrap::answer(
        parameters.protocol,
        &address,
    )))
}

/// Joins the cgroup that the shim is to be in: the daemon is born there.
fn enter(cgroup: Option<String>) -> Result<(), StartError> {
    let Some(path) = cgroup else { return Ok(()) };
    Layout::of_node()
        .and_then(|layout| Cgroup::open(&path, layout))
        .and_then(|cgroup| cgroup.join())
        .map_err(|source| StartError::Cgroup { path, source })
}

/// The pod that the container belongs to. A bundle without a spec is a container alone.
fn group(config: &Path) -> Result<Option<String>, StartError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<HashMap<String, String>>,
    }
    let failed = |source| StartError::Config {
        path: config.to_owned(),
        source,
    };
    let text = match config_file::read(config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let config: Config = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    let group = config
        .annotations
        .and_then(|mut annotations| annotations.remove(SANDBOX_ID));
    Ok(group.filter(|group| !group.is_empty()))
}

/// Makes the daemon, in which the listener comes back. It has nothing else of what containerd gave this process:
/// containerd waits until nobody has its pipes any more.
fn fork(listener: UnixListener) -> io::Result<Option<UnixListener>> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // A shim that keeps the rank it has is no reason to start no container.
    drop(rank_after_containerd());
    if let sys::Fork::Parent = sys::fork()? {
        // Not waited for: it outlives this process, and init takes it over.
        return Ok(None);
    }
    // Nobody is told of an error from here on, except by the log.
    rustix::stdio::dup2_stderr(log_pipe().as_ref().unwrap_or(&null))?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stdin(&listener)?;
    drop((null, listener));
    // Whatever containerd, or who started it, forgot to close on exec: containers would be next.
    process::close_from(3)?;
    socket::adopt(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?).and_then(
        |listener| {
            let null =
                rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::stdio::dup2_stdin(null)?;
            Ok(Some(listener))
        },
    )
}

/// Has the kernel, out of memory, take this process and what it makes before containerd, which all pods need.
fn rank_after_containerd() -> io::Result<()> {
    const LAST: i32 = 1000;
    let containerd = std::os::unix::process::parent_id();
    let rank = fs::read_to_string(format!("/proc/{containerd}/oom_score_adj"))?;
    let rank: i32 = rank.trim().parse().map_err(io::Error::other)?;
    let own = rank.saturating_add(1).min(LAST);
    fs::write("/proc/self/oom_score_adj", own.to_string())
}

/// The bundle's `log` FIFO, which containerd has made and reads. For reading too: the daemon's lines then
/// wait in it while containerd restarts, and opening and writing never wait.
fn log_pipe() -> Option<OwnedFd> {
    rustix::fs::open(
        "log",
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_a_pod_have_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        assert_eq!(group(&config).unwrap(), None);
        for (text, expected) in [
            ("{}", None),
            (r#"{"annotations":null}"#, None),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":""}}"#,
                None,
            ),
            (
                r#"{"ociVersion":"1.2.0","annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#,
                Some("pod"),
            ),
        ] {
            fs::write(&config, text).unwrap();
            assert_eq!(group(&config).unwrap().as_deref(), expected, "{text}");
        }
        fs::write(&config, "{").unwrap();
        group(&config).unwrap_err();
    }
}
