//! `start`: makes sure that a shim serves the pod, and says where.
//!
//! One shim serves all containers of a pod. Whoever is first makes it: a daemon of this same executable,
//! given a socket that listens already, so that containerd can connect as soon as it has the answer.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::bootstrap::{self, BootstrapError, Parameters};
use crate::command_line::Flags;
use crate::socket::{self, Claim, SocketError};

/// Variable with the address of containerd's ttrpc socket.
pub const EVENTS_VARIABLE: &str = "TTRPC_ADDRESS";
/// CRI's annotation with the id of the pod that a container belongs to.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// File in the bundle with the shim's address. containerd reads it for shims of version 2.
pub const ADDRESS_FILE: &str = "address";
/// Longest `config.json`.
const LARGEST_CONFIG: u64 = 16 << 20;

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

/// Carries out `start` in the bundle that is the working directory. Gives what to print.
///
/// # Errors
/// See [`StartError`].
pub fn start(flags: &Flags, program: &str, input: impl Read) -> Result<Vec<u8>, StartError> {
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
    if let Claim::Ours(listener) = socket::claim(&path)? {
        spawn(flags, program, &parameters, &path, listener)
            .map_err(StartError::Spawn)
            .inspect_err(|_| {
                // Nobody listens any more. A failure to remove it shows at the next start.
                drop(socket::remove_dead(&path));
            })?;
    }
    let file = bundle.join(ADDRESS_FILE);
    fs::write(&file, &address).map_err(|source| StartError::Address { path: file, source })?;
    Ok(bootstrap::answer(parameters.protocol, &address))
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
    let mut text = Vec::new();
    match File::open(config) {
        Ok(file) => file
            .take(LARGEST_CONFIG)
            .read_to_end(&mut text)
            .map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let config: Config = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    let group = config
        .annotations
        .and_then(|mut annotations| annotations.remove(SANDBOX_ID));
    Ok(group.filter(|group| !group.is_empty()))
}

fn spawn(
    flags: &Flags,
    program: &str,
    parameters: &Parameters,
    path: &Path,
    listener: UnixListener,
) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    // The name chooses the engine.
    command.arg0(program);
    command.args([
        "-namespace",
        &flags.namespace,
        "-id",
        &flags.id,
        "-address",
        &parameters.address,
        "-socket",
    ]);
    command.arg(path);
    if parameters.debug {
        command.arg("-debug");
    }
    command.env(EVENTS_VARIABLE, &parameters.events);
    command.stdin(OwnedFd::from(listener));
    // containerd waits until nobody has its pipes any more.
    command.stdout(Stdio::null());
    command.stderr(log_pipe().map_or_else(Stdio::null, Stdio::from));
    // Not waited for: it outlives this process, and init takes it over.
    drop(command.spawn()?);
    Ok(())
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
