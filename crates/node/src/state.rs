//! What skiff-node remembers of a node, and the journal of a run that is under way.
//!
//! One file, replaced in one step, says both. Whatever a run is about to change is in it before the first change;
//! texts it may have to put back lie beside it, each under the name of its digest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Handler;
use crate::files::{self, FileError};
use crate::host::Host;
use crate::plan::{Change, Form};

/// The folder, as the node knows it.
pub const FOLDER: &str = "/var/lib/skiff/node";

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of this file's form.
    pub form: u32,
    /// What is installed, once it was proven.
    pub installed: Option<Installed>,
    /// Files that hold lines of ours, or are about to.
    pub files: BTreeMap<PathBuf, Owned>,
    /// A run that has not ended.
    pub pending: Option<Pending>,
}

/// An installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Name of the folder with the binaries.
    pub label: String,
    /// The folder above it.
    pub prefix: PathBuf,
    /// The handlers.
    pub handlers: Vec<Handler>,
    /// containerd's root file.
    pub config: PathBuf,
    /// A probe container of each handler ran.
    pub proven: bool,
}

/// A file that we change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// How it holds our handlers.
    pub form: Form,
    /// Digest of its text without us; `None` if there was no such file.
    pub backup: Option<String>,
    /// Digest of the text that we gave it.
    pub written: String,
}

/// A run under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What it does.
    pub operation: Operation,
    /// What it changes, with the digests of both texts.
    pub changes: Vec<Step>,
    /// Where the link to the binaries pointed.
    pub link_before: Option<PathBuf>,
    /// containerd does not know what its files say, or may not.
    pub restart: bool,
}

/// One change of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The file.
    pub path: PathBuf,
    /// Digest of its text before; `None` if it did not exist.
    pub before: Option<String>,
    /// Digest of its text afterwards; `None` if it is removed.
    pub after: Option<String>,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Puts handlers in.
    Install,
    /// Takes back what an install did that was not proven.
    RollBack,
    /// Takes them out.
    Uninstall,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::RollBack => "rollback",
            Self::Uninstall => "uninstall",
        })
    }
}

/// State that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("could not read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what we write.
    #[error("{} is damaged; move it away, and skiff-node finds its lines in containerd's files without it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A text that was kept is not there, or not what it was.
    #[error("the backup {} of {} is missing or damaged", backup.display(), path.display())]
    Backup {
        /// The backup.
        backup: PathBuf,
        /// The file it is of.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

const CURRENT_FORM: u32 = 1;

/// The state and the texts, on disk.
#[derive(Debug)]
pub struct Store {
    host: Host,
    folder: PathBuf,
}

impl Store {
    /// The store of a node. Nothing is made yet.
    pub fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            folder: FOLDER.into(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn text_path(&self, digest: &str) -> PathBuf {
        self.folder.join("texts").join(digest)
    }

    /// What is known; nothing, on a node that was never installed on.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.file();
        let read = self.host.read(&path);
        let bytes = read.map_err(|source| StateError::Read {
            path: path.clone(),
            source,
        })?;
        match bytes {
            None => Ok(State {
                form: CURRENT_FORM,
                ..State::default()
            }),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| StateError::Damaged { path, source }),
        }
    }

    /// Writes it. When this returns, it is there after a crash.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let mut bytes = serde_json::to_vec_pretty(state).expect("the state has string keys only");
        bytes.push(b'\n');
        files::set(&self.host, &self.file(), Some(&bytes))?;
        Ok(())
    }

    /// Keeps a text, and answers its digest.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn keep(&self, text: &str) -> Result<String, StateError> {
        let digest = digest(text);
        let path = self.text_path(&digest);
        let kept = self.host.read(&path).ok().flatten();
        if kept.as_deref() != Some(text.as_bytes()) {
            files::set(&self.host, &path, Some(text.as_bytes()))?;
        }
        Ok(digest)
    }

    /// A text that was kept; `path` is what it is of.
    ///
    /// # Errors
    /// If it is not there, or not what it was.
    pub fn text(&self, kept: &str, path: &Path) -> Result<String, StateError> {
        let backup = self.text_path(kept);
        let bytes = self.host.read(&backup).ok().flatten();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.filter(|text| digest(text) == kept)
            .ok_or_else(|| StateError::Backup {
                backup,
                path: path.to_owned(),
            })
    }

    /// Forgets texts that nothing needs any more.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn tidy(&self, state: &State) -> Result<(), StateError> {
        let backups = state
            .files
            .values()
            .filter_map(|owned| owned.backup.clone());
        let pending = state.pending.iter().flat_map(|pending| &pending.changes);
        let pending = pending.flat_map(|step| [step.before.clone(), step.after.clone()]);
        let needed: Vec<String> = backups.chain(pending.flatten()).collect();
        for path in self.host.entries(&self.folder.join("texts")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !needed.iter().any(|digest| *digest == name) {
                files::remove_all(&self.host, &path)?;
            }
        }
        Ok(())
    }

    /// Notes the changes of a run, with everything that it takes to undo them.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn steps(&self, changes: &[Change]) -> Result<Vec<Step>, StateError> {
        let keep = |text: &Option<String>| text.as_deref().map(|text| self.keep(text)).transpose();
        changes
            .iter()
            .map(|change| {
                Ok(Step {
                    path: change.path.clone(),
                    before: keep(&change.before)?,
                    after: keep(&change.after)?,
                })
            })
            .collect()
    }

    /// Forgets all.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn remove(&self) -> Result<(), StateError> {
        files::remove_all(&self.host, &self.file())?;
        files::remove_all(&self.host, &self.folder)?;
        Ok(())
    }
}

/// The name that a text is kept under.
pub fn digest(text: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(name, "{byte:02x}").expect("a string takes all that is written");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_there_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(&Host::new(root.path()));
        let mut state = store.load().unwrap();
        assert_eq!(state.form, CURRENT_FORM);
        let kept = store.keep("version = 2\n").unwrap();
        state.files.insert(
            "/etc/containerd/config.toml".into(),
            Owned {
                form: Form::Lines,
                backup: Some(kept.clone()),
                written: digest("x"),
            },
        );
        let other = store.keep("not needed").unwrap();
        store.save(&state).unwrap();
        store.tidy(&state).unwrap();
        assert_eq!(store.load().unwrap(), state);
        assert_eq!(store.text(&kept, Path::new("/x")).unwrap(), "version = 2\n");
        store.text(&other, Path::new("/x")).unwrap_err();
        store.remove().unwrap();
        assert!(store.load().unwrap().files.is_empty());
    }
}
