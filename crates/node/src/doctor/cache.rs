//! The folder of compiled code: is it fit for what is done with it? Nothing of this is a failure: without a
//! cache containers run, and compile at every start.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::Finding;
use super::containerd::Process;

/// Where the cache is unless the environment variable `SKIFF_CACHE_DIR` says otherwise.
pub const DEFAULT: &str = "/var/lib/skiff/cache";

/// Below this many bytes, starts of new images soon have nowhere to put their code.
const LITTLE_SPACE: u64 = 1 << 30;
/// Below this, hardly any module fits.
const NO_SPACE: u64 = 64 << 20;
const FEW_INODES: u64 = 1000;

/// What the cache's folder holds, and what a file system of its own has in its root.
const NAMES: [&str; 5] = ["entries", "locks", "lost+found", "quarantine", "secret"];

/// The folder, or the nearest one above it that exists.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The cache's folder.
    pub folder: PathBuf,
    /// The folder exists.
    pub state: State,
    /// Something in it that the cache has not put there. A folder that is not private is not used then.
    pub stranger: Option<String>,
    /// Free bytes for root.
    pub free_bytes: u64,
    /// Free inodes; `None` on file systems that do not count them.
    pub free_inodes: Option<u64>,
    /// Mounted noexec: compiled code cannot be mapped for execution.
    pub noexec: bool,
    /// Mounted read-only.
    pub read_only: bool,
    /// Nameless files (`O_TMPFILE`) can be made there.
    pub nameless_files: bool,
}

/// The folder itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made by the first shim that needs it.
    NotYet,
    /// There, with this owner and these permission bits.
    There {
        /// Owner.
        uid: u32,
        /// Permission bits.
        mode: u32,
    },
    /// Something that is not a folder.
    NotAFolder,
}

/// Where shims keep compiled code: as containerd's environment says, which they inherit; without a containerd, as
/// asked.
pub fn place(asked: Option<&Path>, process: Option<&Process>) -> PathBuf {
    let default = || PathBuf::from(DEFAULT);
    match process.and_then(|process| process.environment.as_ref()) {
        Some(environment) => environment
            .get("SKIFF_CACHE_DIR")
            .map(PathBuf::from)
            // As shims do: each has a working directory of its own.
            .filter(|path| path.is_absolute())
            .unwrap_or_else(default),
        None => asked
            .filter(|path| path.is_absolute())
            .map_or_else(default, Path::to_owned),
    }
}

/// Looks at the folder and its file system.
pub fn gather(folder: &Path) -> Facts {
    let state = match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => State::There {
            uid: metadata.uid(),
            mode: metadata.permissions().mode() & 0o7777,
        },
        Ok(_) => State::NotAFolder,
        Err(_) => State::NotYet,
    };
    let existing = folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| Path::new("/"));
    let stat = rustix::fs::statvfs(existing).ok();
    Facts {
        folder: folder.to_owned(),
        state,
        stranger: stranger(folder),
        free_bytes: stat
            .as_ref()
            .map_or(0, |stat| stat.f_bfree.saturating_mul(stat.f_frsize)),
        free_inodes: stat
            .as_ref()
            .filter(|stat| stat.f_files > 0)
            .map(|stat| stat.f_ffree),
        noexec: stat
            .as_ref()
            .is_some_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC)),
        read_only: stat
            .as_ref()
            .is_some_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY)),
        nameless_files: takes_nameless_files(existing),
    }
}

fn stranger(folder: &Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| !NAMES.contains(&name.as_str()) && !name.starts_with(".secret-"))
}

/// Makes a file without a name, which is gone when it is closed.
fn takes_nameless_files(folder: &Path) -> bool {
    let made = rustix::fs::openat(
        CWD,
        folder,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    );
    !matches!(made, Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT))
}

/// Findings on the folder, its file system and the space there.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    vec![folder(facts), file_system(facts), space(facts)]
}

fn folder(facts: &Facts) -> Finding {
    let id = "cache.folder";
    let path = facts.folder.display();
    match facts.state {
        State::NotYet => Finding::ok(
            id,
            format!("cache {path} (will be made at the first start)"),
        ),
        State::There { uid: 0, mode } if mode != 0o700 && facts.stranger.is_some() => {
            Finding::warn(
                id,
                format!(
                    "cache {path} is not the cache's alone, it holds {:?}; it is not used, and every start compiles",
                    facts.stranger.as_deref().unwrap_or_default()
                ),
                "set SKIFF_CACHE_DIR in containerd's environment to a folder of its own and restart containerd",
            )
        }
        // The cache makes its folders private itself when it is opened.
        State::There { uid: 0, mode } if mode & 0o022 == 0 => {
            Finding::ok(id, format!("cache {path}"))
        }
        State::There { uid: 0, mode } => Finding::warn(
            id,
            format!("cache {path} has mode {mode:04o}: others may have put files in it"),
            format!("chmod 0700 {path}; `skiff cache verify` sets aside what is not Skiff's"),
        ),
        State::There { uid, .. } => Finding::warn(
            id,
            format!("cache {path} belongs to user {uid}; it is not used, and every start compiles"),
            format!("chown root:root {path}"),
        ),
        State::NotAFolder => Finding::warn(
            id,
            format!("cache {path} is not a folder; every start compiles"),
            format!("move it away: mv {path} {path}.old"),
        ),
    }
}

fn file_system(facts: &Facts) -> Finding {
    let id = "cache.file_system";
    let path = facts.folder.display();
    let elsewhere = "set SKIFF_CACHE_DIR in containerd's environment to a folder on another file system and restart containerd";
    if facts.read_only {
        return Finding::warn(
            id,
            format!("the file system of {path} is mounted read-only; every start compiles"),
            elsewhere,
        );
    }
    if facts.noexec {
        return Finding::warn(
            id,
            format!(
                "the file system of {path} is mounted noexec; compiled code cannot be mapped from it, and every start compiles"
            ),
            elsewhere,
        );
    }
    if !facts.nameless_files {
        return Finding::warn(
            id,
            format!(
                "the file system of {path} has no nameless files (O_TMPFILE), by which entries are made whole or not at all; every start compiles"
            ),
            elsewhere,
        );
    }
    Finding::ok(id, "the cache's file system takes and maps compiled code")
}

fn space(facts: &Facts) -> Finding {
    let id = "cache.space";
    let path = facts.folder.display();
    let mebibytes = facts.free_bytes >> 20;
    let next = "free some space, or remove code that is not used with `skiff cache prune`";
    let inodes = facts.free_inodes.unwrap_or(u64::MAX);
    if facts.free_bytes < NO_SPACE || inodes == 0 {
        return Finding::warn(
            id,
            format!(
                "{mebibytes} MiB and {inodes_text} inodes are free at {path}; every start compiles",
                inodes_text = counted(facts.free_inodes)
            ),
            next,
        );
    }
    if facts.free_bytes < LITTLE_SPACE || inodes < FEW_INODES {
        return Finding::warn(
            id,
            format!(
                "only {mebibytes} MiB and {} inodes are free at {path}",
                counted(facts.free_inodes)
            ),
            next,
        );
    }
    Finding::ok(
        id,
        format!("{} GiB are free for compiled code", facts.free_bytes >> 30),
    )
}

fn counted(inodes: Option<u64>) -> String {
    inodes.map_or_else(|| "enough".to_owned(), |inodes| inodes.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn healthy() -> Facts {
        Facts {
            folder: DEFAULT.into(),
            state: State::There {
                uid: 0,
                mode: 0o700,
            },
            stranger: None,
            free_bytes: 10 << 30,
            free_inodes: Some(1_000_000),
            noexec: false,
            read_only: false,
            nameless_files: true,
        }
    }

    #[test]
    fn judgements() {
        use Status::{Ok, Warn};
        type Fault = fn(&mut Facts);
        let table: [(&str, Fault, Status); 18] = [
            ("cache.folder", |_| (), Ok),
            ("cache.folder", |facts| facts.state = State::NotYet, Ok),
            (
                "cache.folder",
                |facts| facts.state = State::NotAFolder,
                Warn,
            ),
            (
                "cache.folder",
                |facts| {
                    facts.state = State::There {
                        uid: 1000,
                        mode: 0o700,
                    }
                },
                Warn,
            ),
            (
                "cache.folder",
                |facts| {
                    facts.state = State::There {
                        uid: 0,
                        mode: 0o755,
                    }
                },
                Ok,
            ),
            (
                "cache.folder",
                |facts| {
                    facts.state = State::There {
                        uid: 0,
                        mode: 0o770,
                    }
                },
                Warn,
            ),
            (
                "cache.folder",
                |facts| facts.stranger = Some("theirs".to_owned()),
                Ok,
            ),
            (
                "cache.folder",
                |facts| {
                    facts.stranger = Some("theirs".to_owned());
                    facts.state = State::There {
                        uid: 0,
                        mode: 0o755,
                    }
                },
                Warn,
            ),
            ("cache.file_system", |_| (), Ok),
            ("cache.file_system", |facts| facts.read_only = true, Warn),
            ("cache.file_system", |facts| facts.noexec = true, Warn),
            (
                "cache.file_system",
                |facts| facts.nameless_files = false,
                Warn,
            ),
            ("cache.space", |_| (), Ok),
            ("cache.space", |facts| facts.free_bytes = 500 << 20, Warn),
            ("cache.space", |facts| facts.free_bytes = 1 << 20, Warn),
            ("cache.space", |facts| facts.free_inodes = Some(10), Warn),
            ("cache.space", |facts| facts.free_inodes = Some(0), Warn),
            ("cache.space", |facts| facts.free_inodes = None, Ok),
        ];
        for (id, fault, expected) in table {
            let mut facts = healthy();
            fault(&mut facts);
            let finding = judge(&facts)
                .into_iter()
                .find(|finding| finding.id == id)
                .unwrap();
            assert_eq!(finding.status, expected, "{facts:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above() {
        let above = tempfile::tempdir().unwrap();
        let facts = gather(&above.path().join("a/b/c"));
        assert_eq!(facts.state, State::NotYet);
        assert!(facts.nameless_files && facts.free_bytes > 0, "{facts:?}");
        assert!(!above.path().join("a").exists(), "looking made a folder");
    }

    #[test]
    fn a_folder_of_others_is_known() {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(gather(folder.path()).stranger, None);
        fs::write(folder.path().join("theirs"), "").unwrap();
        assert_eq!(gather(folder.path()).stranger.as_deref(), Some("theirs"));
    }

    #[test]
    fn a_relative_path_is_none() {
        assert_eq!(place(Some(Path::new("cache")), None), Path::new(DEFAULT));
        assert_eq!(place(Some(Path::new("/cache")), None), Path::new("/cache"));
    }

    #[test]
    fn a_file_is_not_a_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(gather(file.path()).state, State::NotAFolder);
    }
}
