//! Our executables on a node: one folder per build, a link to the one that new pods use, and old ones until the last
//! pod that runs from them has gone.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::Engine;
use crate::files::{self, FileError};
use crate::host::Host;

/// Where the folders are unless the node cannot execute files there.
pub const PREFIX: &str = "/opt/skiff";
/// The link to the folder in use. containerd's configuration names it, so that a new version changes no configuration.
pub const CURRENT: &str = "current";

/// Always installed.
const ALWAYS: [&str; 3] = ["containerd-shim-skiff-v1", "skiff-init", "skiff-pause"];
/// Engines that bring libraries of their own lie in folders below this one, by name and version.
const BUNDLES: &str = "engines";
/// Installed when they are there.
const OPTIONAL: [&str; 4] = [
    "skiff",
    "skiff-node",
    "skiff-serve-wasmtime",
    "skiff-toolbox.wasm",
];

/// Executables to install.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where they are, for this process.
    folder: PathBuf,
    /// Their names.
    names: Vec<String>,
    /// Engines whose host and compiler are among them.
    pub engines: Vec<Engine>,
    /// Hash of all of them.
    digest: String,
}

/// Executables that cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Some are missing.
    #[error("{} lacks {missing}; `--from` names the folder with all of Skiff's binaries", folder.display())]
    Missing {
        /// Where they were looked for.
        folder: PathBuf,
        /// The first that is not there.
        missing: String,
    },
    /// One cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The names of an engine's two executables.
fn pair(engine: Engine) -> [String; 2] {
    let name = engine.name();
    [
        format!("skiff-host-{name}"),
        format!("skiff-compile-{name}"),
    ]
}

impl Source {
    /// Looks at a folder.
    ///
    /// # Errors
    /// If something is missing without which no container starts.
    pub fn at(folder: &Path) -> Result<Self, SourceError> {
        let there = |name: &str| folder.join(name).is_file();
        let mut names: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
        let mut engines = Vec::new();
        for engine in [Engine::Wasmtime, Engine::Wasmedge] {
            let pair = pair(engine);
            let bundle = files_below(folder, &Path::new(BUNDLES).join(engine.name()));
            if pair.iter().all(|name| there(name)) {
                engines.push(engine);
                names.extend(pair);
            } else if !bundle.is_empty() {
                engines.push(engine);
            }
            names.extend(bundle);
        }
        let needed = names.iter().cloned().chain(if engines.is_empty() {
            pair(Engine::Wasmtime).to_vec()
        } else {
            Vec::new()
        });
        if let Some(missing) = needed.into_iter().find(|name| !there(name)) {
            return Err(SourceError::Missing {
                folder: folder.to_owned(),
                missing,
            });
        }
        engines.push(Engine::Skiff);
        names.extend(
            OPTIONAL
                .iter()
                .filter(|name| there(name))
                .map(|name| (*name).to_owned()),
        );
        names.sort();
        let digest = digest(folder, &names)?;
        Ok(Self {
            folder: folder.to_owned(),
            names,
            engines,
            digest,
        })
    }

    /// The folder's name: the version, and a piece of the hash, since two builds may call themselves the same.
    pub fn label(&self) -> String {
        format!("{}-{}", env!("CARGO_PKG_VERSION"), &self.digest[..8])
    }

    /// Puts them into a folder of their own under `prefix`, if they are not there. Nothing uses it yet.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn install(&self, host: &Host, prefix: &Path) -> Result<PathBuf, FileError> {
        let folder = prefix.join(self.label());
        if host.exists(&folder) {
            let missing = self.missing(host, prefix);
            for name in missing.iter().filter(|name| self.names.contains(name)) {
                let file = folder.join(name);
                let new = folder.join(format!(".{}.new", name.replace('/', "-")));
                files::folder(host, file.parent().unwrap_or(&folder))?;
                files::copy(host, &self.folder.join(name), &new, 0o755)?;
                files::name_folder(host, &new, &file)?;
            }
            self.link_shims(host, &folder)?;
            return Ok(folder);
        }
        let new = prefix.join(format!(".{}.new", self.label()));
        files::remove_all(host, &new)?;
        files::folder(host, &new)?;
        for name in &self.names {
            if let Some(bundle) = Path::new(name)
                .parent()
                .filter(|path| path.iter().count() > 0)
            {
                files::folder(host, &new.join(bundle))?;
            }
            files::copy(host, &self.folder.join(name), &new.join(name), 0o755)?;
        }
        self.link_shims(host, &new)?;
        files::name_folder(host, &new, &folder)?;
        Ok(folder)
    }

    /// Files of the installed folder that are not there any more, or have another length. What is damaged otherwise is
    /// found by nobody but its reader: hashing a hundred megabytes again and again is no way to look.
    pub fn missing(&self, host: &Host, prefix: &Path) -> Vec<String> {
        let folder = prefix.join(self.label());
        let length = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.len());
        let whole = |name: &&String| {
            let there = host.place(&folder.join(name)).ok();
            let there = there.and_then(|place| length(&place));
            there.is_some() && there == length(&self.folder.join(name))
        };
        let names = self.names.iter().filter(|name| !whole(name)).cloned();
        let links = self.shims().filter(|shim| {
            let path = folder.join(shim);
            files::link_target(host, &path).is_none()
        });
        names.chain(links).collect()
    }

    /// The names that the shim goes by beside its own.
    fn shims(&self) -> impl Iterator<Item = String> {
        let named = self.engines.iter();
        named
            .filter(|engine| **engine != Engine::Skiff)
            .map(|engine| engine.shim())
    }

    fn link_shims(&self, host: &Host, folder: &Path) -> Result<(), FileError> {
        for shim in self.shims() {
            let path = folder.join(&shim);
            let target = PathBuf::from(Engine::Skiff.shim());
            if files::link_target(host, &path).as_ref() != Some(&target) {
                files::link(host, &path, &target)?;
            }
        }
        Ok(())
    }
}

/// All files of a tree, as paths from `folder`, sorted. What cannot be listed is told when it is hashed or missed.
fn files_below(folder: &Path, tree: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join(tree))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = tree.join(entry.file_name());
        if folder.join(&path).is_dir() {
            found.extend(files_below(folder, &path));
        } else {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

fn digest(folder: &Path, names: &[String]) -> Result<String, SourceError> {
    let mut all = Sha256::new();
    for name in names {
        let path = folder.join(name);
        let hashed = File::open(&path).and_then(|mut file| {
            let mut one = Sha256::new();
            io::copy(&mut file, &mut one)?;
            Ok(one.finalize())
        });
        all.update(name.as_bytes());
        all.update([0]);
        all.update(hashed.map_err(|source| SourceError::Read { path, source })?);
    }
    let mut text = String::new();
    for byte in all.finalize() {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    Ok(text)
}

/// A process that runs from one of our folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Its id.
    pub pid: i32,
    /// Its executable's name.
    pub program: String,
    /// The folder's name.
    pub label: String,
    /// `-id` of a shim: the pod or container that it keeps.
    pub id: Option<String>,
    /// `-namespace` of a shim.
    pub namespace: Option<String>,
}

/// All processes of the node that run from a folder under `prefix`. They are known by their files, whatever names the
/// mounts around them give these.
pub fn users(host: &Host, prefix: &Path) -> Vec<User> {
    let mut known = Vec::new();
    for folder in host.entries(prefix) {
        let label = name_of(&folder);
        // The link's files are those of the folder that it points to.
        if label == CURRENT {
            continue;
        }
        for file in host.entries(&folder) {
            if let Ok(metadata) = host.place(&file).and_then(fs::metadata) {
                known.push(((metadata.dev(), metadata.ino()), label.clone()));
            }
        }
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let users = ids.filter_map(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let metadata = fs::metadata(process.join("exe")).ok()?;
        let key = (metadata.dev(), metadata.ino());
        let (_, label) = known.iter().find(|(known, _)| *known == key)?;
        let program = fs::read_link(process.join("exe")).ok()?;
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| word == flag)?;
            words.get(at + 1).cloned()
        };
        Some(User {
            pid,
            program: name_of(&program),
            label: label.clone(),
            id: after("-id"),
            namespace: after("-namespace"),
        })
    });
    let users: BTreeSet<User> = users.collect();
    users.into_iter().collect()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Removes folders that neither the link nor a process needs; answers the names of those that are still needed by a
/// process.
///
/// # Errors
/// If the file system refuses.
pub fn prune(host: &Host, prefix: &Path, keep: &str) -> Result<Vec<String>, FileError> {
    let in_use = files::link_target(host, &prefix.join(CURRENT));
    let in_use = in_use.as_deref().map(name_of).unwrap_or_default();
    let mut others = host.entries(prefix);
    others.retain(|folder| {
        let label = name_of(folder);
        ![CURRENT, keep, &in_use].contains(&label.as_str()) && is_label(&label)
    });
    // A node without any is the usual case, and is looked at often.
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let users = users(host, prefix);
    // This command may run from an old folder itself.
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut kept = Vec::new();
    for folder in others {
        let label = name_of(&folder);
        if users
            .iter()
            .any(|user| user.label == label && user.pid != own)
        {
            kept.push(label);
        } else {
            files::remove_all(host, &folder)?;
        }
    }
    Ok(kept)
}

/// What we name folders: a version, a dash, eight digits; and the unfinished ones. Whatever else lies there is not ours.
fn is_label(name: &str) -> bool {
    let name = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".new"))
        .unwrap_or(name);
    name.rsplit_once('-').is_some_and(|(version, digest)| {
        version.starts_with(|first: char| first.is_ascii_digit())
            && digest.len() == 8
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_folders_are_pruned() {
        for ours in [
            "0.1.0-0a1b2c3d",
            ".0.1.0-0a1b2c3d.new",
            "1.2.3-rc1-0a1b2c3d",
        ] {
            assert!(is_label(ours), "{ours}");
        }
        for other in [
            "current",
            "etc",
            "0.1.0",
            "x-0a1b2c3d",
            "0.1.0-0a1b2c3",
            "..",
        ] {
            assert!(!is_label(other), "{other}");
        }
    }

    fn source(folder: &Path, leave_out: &str, content: &str) {
        for name in [
            "containerd-shim-skiff-v1",
            "skiff-init",
            "skiff-pause",
            "skiff-host-wasmtime",
            "skiff-compile-wasmtime",
        ] {
            if name != leave_out {
                fs::write(folder.join(name), content).unwrap();
            }
        }
    }

    #[test]
    fn each_build_has_a_folder() {
        let (from, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = Host::new(root.path());
        let prefix = Path::new(PREFIX);
        source(from.path(), "", "one");
        let first = Source::at(from.path()).unwrap();
        assert_eq!(first.engines, [Engine::Wasmtime, Engine::Skiff]);
        let folder = first.install(&host, prefix).unwrap();
        assert_eq!(first.install(&host, prefix).unwrap(), folder);
        assert!(host.exists(&folder.join("containerd-shim-wasmtime-v1")));
        let lost = [
            "skiff-pause",
            "containerd-shim-wasmtime-v1",
            "skiff-host-wasmtime",
        ];
        for name in lost {
            fs::remove_file(
                root.path()
                    .join(folder.strip_prefix("/").unwrap())
                    .join(name),
            )
            .unwrap();
        }
        let mut missing = first.missing(&host, prefix);
        missing.sort();
        let mut expected = lost.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(missing, expected);
        first.install(&host, prefix).unwrap();
        assert!(first.missing(&host, prefix).is_empty());
        assert_eq!(host.entries(&folder).len(), 6);
        source(from.path(), "", "two");
        let second = Source::at(from.path()).unwrap();
        assert_ne!(second.label(), first.label());
        second.install(&host, prefix).unwrap();
        assert!(prune(&host, prefix, &second.label()).unwrap().is_empty());
        assert!(!host.exists(&folder));
        assert!(host.exists(&prefix.join(second.label())));
    }

    #[test]
    fn an_engine_with_libraries_of_its_own_is_a_tree() {
        let (from, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = Host::new(root.path());
        source(from.path(), "", "one");
        let bundle = from.path().join("engines/wasmedge/0.17/lib");
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("libwasmedge.so"), "x").unwrap();
        let source = Source::at(from.path()).unwrap();
        assert_eq!(source.engines, Engine::ALL);
        let folder = source.install(&host, Path::new(PREFIX)).unwrap();
        assert!(host.exists(&folder.join("engines/wasmedge/0.17/lib/libwasmedge.so")));
        assert!(host.exists(&folder.join("containerd-shim-wasmedge-v1")));
    }

    #[test]
    fn what_is_missing_is_named() {
        for missing in [
            "containerd-shim-skiff-v1",
            "skiff-pause",
            "skiff-host-wasmtime",
        ] {
            let from = tempfile::tempdir().unwrap();
            source(from.path(), missing, "x");
            let error = Source::at(from.path()).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
