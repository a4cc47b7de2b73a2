//! What a shim that dies would leave behind, written down before it is made.
//!
//! One small file for each container, in the bundle for which the shim was started: containerd calls
//! `delete` for that bundle when the shim is gone, and not always for those of the pod's other
//! containers. Processes and mounts of Wasm containers go with the shim by themselves; cgroups have to be removed,
//! and Linux containers, which live on.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runc::Runc;

/// Directory of the files.
const DIRECTORY: &str = "skiff";

/// What one container leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its cgroup, as its plan has it.
    pub cgroup: String,
    /// The directories above the cgroup that were not there either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<PathBuf>,
    /// Who has made it, if not the shim itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runc: Option<Runc>,
}

/// Writes down what container `id` will leave behind.
///
/// # Errors
/// What the file system answers.
pub fn remember(shim_bundle: &Path, id: &str, leftover: &Leftover) -> io::Result<()> {
    let directory = shim_bundle.join(DIRECTORY);
    if let Err(error) = fs::DirBuilder::new().mode(0o700).create(&directory)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    fs::write(directory.join(id), serde_json::to_vec(leftover)?)
}

/// Container `id` has left nothing behind. The directory goes with its last file.
pub fn forget(shim_bundle: &Path, id: &str) {
    let directory = shim_bundle.join(DIRECTORY);
    match fs::remove_file(directory.join(id)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log::warn!("could not remove the note of container {id}: {error}"),
    }
    // Fails while others are in it, as it should.
    drop(fs::remove_dir(&directory));
}

/// All that is written down, by container.
pub fn all(shim_bundle: &Path) -> Vec<(String, Leftover)> {
    let Ok(entries) = fs::read_dir(shim_bundle.join(DIRECTORY)) else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| {
        let id = entry.file_name().into_string().ok()?;
        let leftover = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
        Some((id, leftover))
    };
    entries.flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_forgotten() {
        let bundle = tempfile::tempdir().unwrap();
        let leftover = |n: u32| Leftover {
            bundle: format!("/run/b/{n}").into(),
            cgroup: format!("/pod/{n}"),
            above: vec![format!("/sys/fs/cgroup/pod/{n}").into()],
            runc: None,
        };
        assert!(all(bundle.path()).is_empty());
        remember(bundle.path(), "a", &leftover(1)).unwrap();
        remember(bundle.path(), "b", &leftover(2)).unwrap();
        let mut found = all(bundle.path());
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(
            found,
            [("a".to_owned(), leftover(1)), ("b".to_owned(), leftover(2))]
        );
        forget(bundle.path(), "a");
        forget(bundle.path(), "a");
        forget(bundle.path(), "b");
        assert!(all(bundle.path()).is_empty());
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 0);
    }
}
