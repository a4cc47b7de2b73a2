//! containerd: does its socket answer, which process is behind it, which version is that?

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Finding, RUN_AS_ROOT, privileges, probe, sentence};

/// How long a healthy containerd may take to say something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What is behind the socket.
#[derive(Debug)]
pub struct Facts {
    /// The socket.
    pub address: PathBuf,
    /// The process that listens on it.
    pub socket: Result<Process, SocketError>,
}

/// Why there is no containerd to ask.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nothing is there.
    #[error("there is no socket")]
    Absent,
    /// Something is there that cannot be connected to.
    #[error("the socket cannot be connected to")]
    Connect(#[source] io::Error),
    /// It accepts, but its server says nothing.
    #[error("the socket accepts, but nothing answers")]
    Silent(#[source] io::Error),
}

/// containerd's process.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The executable's path on the node, without the kernel's note that it was replaced.
    pub executable: Option<PathBuf>,
    /// What `containerd --version` says.
    pub version: Result<String, String>,
    /// Its environment: shims inherit it.
    /// `None` when it could not be read.
    pub environment: Option<BTreeMap<String, String>>,
    /// The configuration file that it was started with.
    pub config_file: PathBuf,
    /// The configuration was changed after the process started.
    pub stale: bool,
    /// Effective capabilities.
    pub capabilities: Option<u64>,
}

impl Process {
    /// The running executable, even when its file was replaced since.
    pub(super) fn program(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/exe", self.pid))
    }
}

impl Facts {
    /// The process, when there is one.
    pub fn process(&self) -> Option<&Process> {
        self.socket.as_ref().ok()
    }

    /// Its version, when it could be read.
    pub fn version(&self) -> Option<Version> {
        self.process()
            .and_then(|process| process.version.as_ref().ok())
            .and_then(|line| Version::of(line))
    }
}

/// Connects, listens for the first bytes of the server and looks at its process.
pub fn gather(address: &Path) -> Facts {
    Facts {
        address: address.to_owned(),
        socket: listener(address, PATIENCE).map(look_at),
    }
}

/// Begins an HTTP/2 connection, as every gRPC client does (RFC 9113, 3.4), waits for the server's SETTINGS
/// frame for at most so long (for more than nothing), and returns the id of the process that listens.
pub(crate) fn listener(address: &Path, patience: Duration) -> Result<i32, SocketError> {
    const PREFACE_AND_EMPTY_SETTINGS: &[u8] =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const SETTINGS: u8 = 4;
    let mut stream = UnixStream::connect(address).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::Absent,
        _ => SocketError::Connect(error),
    })?;
    let mut talk = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(PREFACE_AND_EMPTY_SETTINGS)?;
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        if header[3] == SETTINGS {
            Ok(())
        } else {
            Err(io::Error::other("the answer is not that of a gRPC server"))
        }
    };
    talk().map_err(SocketError::Silent)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)
        .map_err(|error| SocketError::Silent(error.into()))?;
    Ok(peer.pid.as_raw_nonzero().get())
}

fn look_at(pid: i32) -> Process {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let environment = fs::read(proc.join("environ"))
        .ok()
        .map(|bytes| variables(&bytes));
    let config_file = config_argument(&strings(
        &fs::read(proc.join("cmdline")).unwrap_or_default(),
    ))
    .unwrap_or_else(|| PathBuf::from("/etc/containerd/config.toml"));
    Process {
        pid,
        executable: fs::read_link(proc.join("exe"))
            .ok()
            .map(|path| not_deleted(&path)),
        version: probe::answer_of(&proc.join("exe"), &["--version"], PATIENCE)
            .map_err(|error| sentence(&error)),
        environment,
        stale: changed_after_start(pid, &config_file).unwrap_or(false),
        config_file,
        capabilities: privileges::of_process(&pid.to_string()),
    }
}

/// The strings of a file of procfs that ends each with a zero byte.
pub(crate) fn strings(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

fn variables(environ: &[u8]) -> BTreeMap<String, String> {
    strings(environ)
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// procfs appends this to the path of an executable whose file was replaced.
pub(crate) fn not_deleted(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text))
}

pub(crate) fn config_argument(arguments: &[String]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.trim_start_matches('-').split_once('=') {
            _ if !argument.starts_with('-') => {}
            Some(("config" | "c", value)) => return Some(PathBuf::from(value)),
            None if matches!(argument.trim_start_matches('-'), "config" | "c") => {
                return arguments.next().map(PathBuf::from);
            }
            _ => {}
        }
    }
    None
}

fn changed_after_start(pid: i32, config_file: &Path) -> Option<bool> {
    let drop_ins = config_file.parent().map(|folder| folder.join("conf.d"));
    let drop_ins = drop_ins
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let changed = drop_ins
        .chain([config_file.to_owned()])
        .filter_map(|path| fs::metadata(path).ok()?.modified().ok())
        .max()?;
    // Both sides are rounded to about a second.
    Some(changed > started(pid)? + Duration::from_secs(2))
}

/// When a process started: clock ticks after the boot (field 22 of `proc_pid_stat(5)`), and the boot's time.
fn started(pid: i32) -> Option<SystemTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let seconds = boot + ticks / rustix::param::clock_ticks_per_second().max(1);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A version of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 2 of 2.4.1.
    pub major: u32,
    /// 4 of 2.4.1.
    pub minor: u32,
    /// 1 of 2.4.1.
    pub patch: u32,
}

impl Version {
    /// Reads the line that `containerd --version` prints: name, package, version, revision.
    pub fn of(line: &str) -> Option<Self> {
        let text = line.split_whitespace().nth(2)?;
        let mut numbers = text
            .trim_start_matches('v')
            .split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// First releases with the security fixes of June 2026, per line.
const FIXED: [Version; 5] = [
    Version {
        major: 1,
        minor: 7,
        patch: 33,
    },
    Version {
        major: 2,
        minor: 0,
        patch: 10,
    },
    Version {
        major: 2,
        minor: 1,
        patch: 9,
    },
    Version {
        major: 2,
        minor: 2,
        patch: 5,
    },
    Version {
        major: 2,
        minor: 3,
        patch: 2,
    },
];

/// The first release that unpacks Wasm layers.
const UNPACKS_WASM: Version = Version {
    major: 1,
    minor: 7,
    patch: 7,
};

/// Findings on socket, version and freshness of the configuration.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let address = facts.address.display();
    match &facts.socket {
        Ok(process) => {
            let mut findings = vec![
                Finding::ok(
                    "containerd.socket",
                    format!("containerd answers at {address} (process {})", process.pid),
                ),
                version(process),
            ];
            findings.extend(stale(process));
            findings
        }
        Err(error) => vec![Finding::fail(
            "containerd.socket",
            format!("containerd at {address}: {}", sentence(error)),
            cure(error),
        )],
    }
}

fn cure(error: &SocketError) -> &'static str {
    match error {
        SocketError::Absent => {
            "start containerd (`systemctl start containerd`), or name its socket with --address (k3s: /run/k3s/containerd/containerd.sock)"
        }
        SocketError::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "run doctor as root"
        }
        SocketError::Connect(_) => {
            "containerd is not running behind this socket: start it, and look at `journalctl -u containerd` when it does not stay up"
        }
        SocketError::Silent(_) => {
            "restart containerd; `journalctl -u containerd` says what it waits for"
        }
    }
}

fn version(process: &Process) -> Finding {
    let id = "containerd.version";
    let line = match &process.version {
        Ok(line) => line.trim(),
        Err(error) => {
            return Finding::warn(
                id,
                format!("containerd's version is not known: {error}"),
                RUN_AS_ROOT,
            );
        }
    };
    let Some(version) = Version::of(line) else {
        return Finding::warn(
            id,
            format!("containerd's version could not be read from {line:?}"),
            "check by hand that it is 1.7.33 or later",
        );
    };
    judge_version(version)
}

/// Whether this release can do what Skiff needs, and is without known holes.
pub(crate) fn judge_version(version: Version) -> Finding {
    let id = "containerd.version";
    if version < UNPACKS_WASM {
        return Finding::fail(
            id,
            format!(
                "containerd {version} cannot unpack Wasm layers; {UNPACKS_WASM} is the first that can"
            ),
            format!("upgrade containerd to {} or later", FIXED[0]),
        );
    }
    match FIXED
        .iter()
        .find(|fixed| (fixed.major, fixed.minor) == (version.major, version.minor))
    {
        Some(fixed) if version < *fixed => Finding::warn(
            id,
            format!("containerd {version} has known security holes that are fixed in {fixed}"),
            format!(
                "upgrade containerd to {fixed} or later (a distribution may have fixed them in this version: see its changelog)"
            ),
        ),
        _ => Finding::ok(id, format!("containerd {version}")),
    }
}

fn stale(process: &Process) -> Option<Finding> {
    process.stale.then(|| {
        Finding::warn(
            "containerd.config_age",
            format!(
                "{} was changed after containerd started; containerd does not know the change",
                process.config_file.display()
            ),
            "restart containerd (`systemctl restart containerd`); running containers stay up",
        )
    })
}

#[cfg(test)]
mod tests;
