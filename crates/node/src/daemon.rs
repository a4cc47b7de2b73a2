//! The node's containerd: which program it is, which file it reads, and what it makes of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::dump::{Dump, DumpError};
use crate::doctor::containerd::{self, Version};
use crate::doctor::probe;
use crate::files::{self, FileError};
use crate::host::{Host, Program};
use crate::layout::{KNOWN, Layout};
use crate::plan::{Candidate, Snapshot};

/// How long containerd may take to print its configuration; a busy node takes a second for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the operator said of containerd; the rest is found out.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Its socket.
    pub address: Option<PathBuf>,
    /// The file that it reads.
    pub config: Option<PathBuf>,
    /// Its executable.
    pub program: Option<PathBuf>,
    /// It is not running, and need not be.
    pub offline: bool,
}

/// A containerd.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Its executable.
    pub program: Program,
    /// Its socket.
    pub address: PathBuf,
    /// The file that it reads.
    pub config: PathBuf,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Which release it is.
    pub version: Version,
}

/// Why a node's containerd cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No socket answers.
    #[error("no containerd answers at {}: start it, name its socket with --address, or say --offline if it need not run", addresses(.0))]
    NotRunning(Vec<PathBuf>),
    /// The process is in another process namespace.
    #[error("the process behind {} cannot be seen from here: run skiff-node in the node's process namespace (hostPID: true)", .0.display())]
    Unseen(PathBuf),
    /// No executable was found.
    #[error("there is no containerd on this node's PATH; `--containerd` names its executable")]
    NoProgram,
    /// The executable does not do what it should.
    #[error("`{command}` {complaint}")]
    Command {
        /// What was run.
        command: String,
        /// How it went.
        complaint: String,
    },
    /// A version that cannot be read.
    #[error("`containerd --version` printed {0:?}, which holds no version")]
    Version(String),
    /// What it printed cannot be used.
    #[error("could not read what {} is for containerd", config.display())]
    Dump {
        /// The file.
        config: PathBuf,
        /// Why.
        #[source]
        source: DumpError,
    },
    /// A file of the configuration cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A candidate could not be laid out.
    #[error(transparent)]
    File(#[from] FileError),
}

fn addresses(tried: &[PathBuf]) -> String {
    let tried: Vec<String> = tried
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    tried.join(", ")
}

impl Daemon {
    /// Finds the node's containerd: the one that answers, or, offline, the one whose configuration is there.
    ///
    /// # Errors
    /// See [`DaemonError`].
    pub fn find(host: &Host, asked: &Asked) -> Result<Self, DaemonError> {
        let (program, address, config, pid) = if asked.offline {
            at_rest(host, asked)?
        } else {
            running(host, asked)?
        };
        let line = ask(host, &program, &["--version"])?;
        let version = Version::of(&line).ok_or_else(|| DaemonError::Version(line.trim().into()))?;
        Ok(Self {
            program,
            address,
            config,
            pid,
            version,
        })
    }

    /// What containerd makes of its configuration now, or of another one.
    ///
    /// # Errors
    /// See [`DaemonError`]; containerd's own complaint is part of it.
    pub fn dump(&self, host: &Host, config: &Path) -> Result<Dump, DaemonError> {
        let text = if host.exists(config) {
            let config = config.to_string_lossy();
            ask(
                host,
                &self.program,
                &["--config", &config, "config", "dump"],
            )?
        } else {
            ask(host, &self.program, &["config", "default"])?
        };
        Dump::parse(&text).map_err(|source| DaemonError::Dump {
            config: config.to_owned(),
            source,
        })
    }

    /// What containerd would make of a configuration that is not in place.
    ///
    /// # Errors
    /// See [`DaemonError`].
    pub fn judge(&self, host: &Host, candidate: &Candidate) -> Result<Dump, DaemonError> {
        let root = Path::new(Candidate::ROOT);
        files::scratch(host, root, &candidate.root)?;
        if let Some(import) = &candidate.import {
            files::scratch(host, Path::new(Candidate::IMPORT), import)?;
        }
        let dump = self.dump(host, root);
        if let Some(folder) = root.parent() {
            files::remove_all(host, folder)?;
        }
        dump
    }

    /// Everything that a plan is made from.
    ///
    /// # Errors
    /// See [`DaemonError`].
    pub fn snapshot(&self, host: &Host) -> Result<Snapshot, DaemonError> {
        let mut texts = BTreeMap::new();
        let root = read(host, &self.config)?;
        let layout = Layout::of(&self.config, root.as_deref());
        let imported = root.as_deref().map_or_else(Vec::new, |_| Vec::new());
        let dump = self.dump(host, &self.config);
        let mut node = Snapshot {
            layout,
            containerd_major: self.version.major,
            config: self.config.clone(),
            texts: BTreeMap::new(),
            imported,
            dump: dump?,
        };
        if let Some(root) = root {
            texts.insert(self.config.clone(), root);
        }
        node.imported = imports(host, &self.config, texts.get(&self.config), &node.dump);
        let sources = node.layout.sources(&self.config);
        let drop_in = Path::new(crate::layout::K0S_DROP_INS).join(crate::plan::DROP_IN);
        for path in node.imported.iter().chain(&sources).chain([&drop_in]) {
            if let Some(text) = read(host, path)? {
                texts.insert(path.clone(), text);
            }
        }
        node.texts = texts;
        Ok(node)
    }
}

/// A text file of the node's.
pub(crate) fn read(host: &Host, path: &Path) -> Result<Option<String>, DaemonError> {
    let failed = |source| DaemonError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = host.read(path).map_err(failed)?;
    bytes
        .map(|bytes| String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error))))
        .transpose()
}

/// The files that the root file imports, in order.
fn imports(host: &Host, config: &Path, root: Option<&String>, dump: &Dump) -> Vec<PathBuf> {
    let folder = config.parent().unwrap_or_else(|| Path::new("/"));
    let written = root
        .and_then(|text| crate::config::Document::parse(text).ok()?.imports())
        .map(|(imports, _)| imports)
        .unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in dump.imports().iter().chain(&written) {
        let pattern = folder.join(pattern);
        for path in matching(host, &pattern) {
            if path != config && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Files that a pattern means. containerd takes stars in the last part of a path; so do we.
fn matching(host: &Host, pattern: &Path) -> Vec<PathBuf> {
    let name = pattern
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some((before, after)) = name.split_once('*') else {
        return if host.exists(pattern) {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        };
    };
    let folder = pattern.parent().unwrap_or_else(|| Path::new("/"));
    let entries = host.entries(folder).into_iter();
    let matching = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
    });
    matching.collect()
}

fn ask(host: &Host, program: &Program, arguments: &[&str]) -> Result<String, DaemonError> {
    let mut command = host.command(program);
    command.args(arguments);
    probe::answer(&mut command, PATIENCE).map_err(|error| DaemonError::Command {
        command: format!("{} {}", program.path.display(), arguments.join(" ")),
        complaint: error.to_string(),
    })
}

/// Where this process reaches the containerd that answers.
pub fn socket(host: &Host, asked: &Asked) -> Option<PathBuf> {
    let (address, _) = answering(host, asked)?;
    host.place(&address).ok()
}

/// The first socket that somebody answers at, and who.
fn answering(host: &Host, asked: &Asked) -> Option<(PathBuf, i32)> {
    addresses_of(asked).into_iter().find_map(|address| {
        let place = host.place(&address).ok()?;
        let pid = containerd::listener(&place, containerd::PATIENCE).ok()?;
        Some((address, pid))
    })
}

fn addresses_of(asked: &Asked) -> Vec<PathBuf> {
    let mut addresses: Vec<PathBuf> = match &asked.address {
        Some(address) => vec![address.clone()],
        None => KNOWN
            .iter()
            .map(|known| PathBuf::from(known.address))
            .collect(),
    };
    addresses.dedup();
    addresses
}

type Found = (Program, PathBuf, PathBuf, Option<i32>);

fn running(host: &Host, asked: &Asked) -> Result<Found, DaemonError> {
    let Some((address, pid)) = answering(host, asked) else {
        return Err(DaemonError::NotRunning(addresses_of(asked)));
    };
    let process = PathBuf::from(format!("/proc/{pid}"));
    let (Some(pid), Ok(executable)) = (pid_of(pid), fs::read_link(process.join("exe"))) else {
        return Err(DaemonError::Unseen(address));
    };
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let words = containerd::strings(&line);
    let folder = fs::read_link(process.join("cwd")).unwrap_or_else(|_| "/".into());
    let config = containerd::config_argument(&words)
        .unwrap_or_else(|| PathBuf::from("/etc/containerd/config.toml"));
    let program = match &asked.program {
        Some(path) => Program::at(path),
        None => Program {
            path: containerd::not_deleted(&executable),
            called: words.first().map(OsString::from),
            running: Some(pid),
        },
    };
    let config = asked.config.clone().unwrap_or_else(|| folder.join(config));
    Ok((program, address, config, Some(pid)))
}

fn pid_of(pid: i32) -> Option<i32> {
    (pid > 0).then_some(pid)
}

fn at_rest(host: &Host, asked: &Asked) -> Result<Found, DaemonError> {
    let known = KNOWN.iter().find(|known| match &asked.config {
        Some(config) => config == Path::new(known.config),
        None => host.exists(Path::new(known.config)),
    });
    let config = asked.config.clone().unwrap_or_else(|| {
        PathBuf::from(known.map_or("/etc/containerd/config.toml", |known| known.config))
    });
    let own = known
        .and_then(|known| known.program)
        .map(PathBuf::from)
        .filter(|path| host.exists(path));
    let program = asked
        .program
        .clone()
        .or(own)
        .or_else(|| host.find_program("containerd"))
        .ok_or(DaemonError::NoProgram)?;
    let address = asked.address.clone().unwrap_or_else(|| {
        PathBuf::from(known.map_or("/run/containerd/containerd.sock", |known| known.address))
    });
    Ok((Program::at(program), address, config, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_files() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/c/conf.d")).unwrap();
        for name in ["b.toml", "a.toml", "c.toml.bak", ".toml"] {
            fs::write(root.path().join("etc/c/conf.d").join(name), "").unwrap();
        }
        let host = Host::new(root.path());
        let names = |pattern: &str| -> Vec<String> {
            let found = matching(&host, Path::new(pattern));
            found
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            names("/etc/c/conf.d/*.toml"),
            [
                "/etc/c/conf.d/.toml",
                "/etc/c/conf.d/a.toml",
                "/etc/c/conf.d/b.toml"
            ]
        );
        assert_eq!(names("/etc/c/conf.d/a.toml"), ["/etc/c/conf.d/a.toml"]);
        assert!(names("/etc/c/nothing/*.toml").is_empty());
    }
}
