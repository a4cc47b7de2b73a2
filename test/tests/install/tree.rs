//! A node that is a tree of files: made from a fixture, compared as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran};
use skiff_test::tools;

use crate::stand_in;

/// What a fixture says of itself, in its file `about`.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) name: String,
    folder: PathBuf,
    settings: BTreeMap<String, String>,
}

impl Fixture {
    /// All of them, by name.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let nodes = tools::checkout().join("test/fixtures/nodes");
        let mut all = Vec::new();
        for entry in fs::read_dir(&nodes).with_context(|| format!("{}", nodes.display()))? {
            let folder = entry?.path();
            let about = fs::read_to_string(folder.join("about"))
                .with_context(|| format!("{} has no `about`", folder.display()))?;
            let lines = about.lines().filter(|line| !line.starts_with('#'));
            let settings = lines.filter_map(|line| line.split_once(" = "));
            all.push(Self {
                name: folder
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                settings: settings
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
                folder,
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }
}

/// A tree made from a fixture, with a containerd in it. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    pub(crate) fixture: Fixture,
}

static TREES: AtomicU32 = AtomicU32::new(0);

/// What [`Tree::files`] says of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) text: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

impl Tree {
    /// A node with a real containerd.
    pub(crate) fn new(fixture: &Fixture) -> Result<Self> {
        let tree = Self::bare(fixture)?;
        let containerd = tools::component(&format!("containerd-{}", tree.release()?))?;
        tree.put_program(&containerd.join("containerd"))?;
        Ok(tree)
    }

    /// A node with a stand-in for containerd.
    pub(crate) fn quick(fixture: &Fixture) -> Result<Self> {
        let tree = Self::bare(fixture)?;
        tree.put_program(&std::env::current_exe()?)?;
        let release = match tree.release()? {
            "1.7" => "1.7.35",
            "2.1" => "2.1.9",
            _ => "2.4.2",
        };
        tree.write(stand_in::RELEASE, release)?;
        Ok(tree)
    }

    fn release(&self) -> Result<&str> {
        self.fixture
            .get("containerd")
            .context("`about` names no containerd")
    }

    fn put_program(&self, program: &Path) -> Result<()> {
        let place = self.root.join("usr/bin/containerd");
        if fs::hard_link(program, &place).is_err() {
            fs::copy(program, &place)?;
        }
        Ok(())
    }

    /// Makes the node's files what they were, and removes what is ours.
    pub(crate) fn reset(&self, files: &BTreeMap<PathBuf, Entry>) -> Result<()> {
        for ours in [
            "opt/skiff",
            "var/lib/skiff",
            "run/skiff-node",
            "run/skiff-node.lock",
        ] {
            let place = self.root.join(ours);
            if place.is_dir() {
                fs::remove_dir_all(place)?;
            } else if place.exists() {
                fs::remove_file(place)?;
            }
        }
        self.reset_files(files)
    }

    /// Makes the node's files what they were; ours are a matter of their own.
    fn reset_files(&self, files: &BTreeMap<PathBuf, Entry>) -> Result<()> {
        let now = self.files()?;
        for path in now.keys().filter(|path| !files.contains_key(*path)) {
            fs::remove_file(self.root.join(path.strip_prefix("/")?))?;
        }
        for (path, entry) in files
            .iter()
            .filter(|(path, entry)| now.get(*path) != Some(entry))
        {
            let place = self.root.join(path.strip_prefix("/")?);
            ensure!(entry.mode & 0o170_000 == 0o100_000, "a link was changed");
            fs::write(place, &entry.text)?;
        }
        Ok(())
    }

    /// Copies what is ours elsewhere, or back.
    pub(crate) fn keep_ours(&self, store: &Path, back: bool) -> Result<()> {
        for ours in ["opt/skiff", "var/lib/skiff"] {
            let (from, to) = (self.root.join(ours), store.join(ours));
            let (from, to) = if back { (to, from) } else { (from, to) };
            if to.exists() {
                fs::remove_dir_all(&to)?;
            }
            copy(&from, &to)?;
        }
        Ok(())
    }

    /// Puts binaries back that an install put in place, but for the link to them.
    pub(crate) fn keep_binaries(&self, store: &Path) -> Result<()> {
        copy(&store.join("opt/skiff"), &self.root.join("opt/skiff"))?;
        Ok(fs::remove_file(self.root.join("opt/skiff/current"))?)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn bare(fixture: &Fixture) -> Result<Self> {
        let number = TREES.fetch_add(1, Ordering::Relaxed);
        let root = Path::new("/tmp").join(format!("skt{}-tree{number}", std::process::id()));
        copy(&fixture.folder.join("root"), &root)?;
        for folder in ["usr/bin", "opt", "var/lib", "run", "etc"] {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self {
            root,
            fixture: fixture.clone(),
        })
    }

    /// `skiff-node …` on this tree.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(skiff_node()?);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--offline")
            .args(words);
        if words.first() == Some(&"install") {
            command.arg("--from").arg(binaries()?);
            if self.fixture.get("take-over").is_some() {
                command.arg("--take-over");
            }
        }
        Ok(command)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<Ran> {
        command::run(&mut self.command(words)?)
    }

    /// Everything of the node's own: not what is ours, nor what is there for a moment.
    pub(crate) fn files(&self) -> Result<BTreeMap<PathBuf, Entry>> {
        let mut found = BTreeMap::new();
        walk(&self.root, Path::new("/"), &mut found)?;
        for ours in ["/opt/skiff", "/var/lib/skiff", "/run/skiff-node"] {
            found.retain(|path, _| !path.starts_with(ours));
        }
        found.remove(Path::new("/run/skiff-node.lock"));
        Ok(found)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root
            .join(path.trim_start_matches('/'))
            .symlink_metadata()
            .is_ok()
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(path.trim_start_matches('/'))).ok()?;
        String::from_utf8(bytes).ok()
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        Ok(fs::write(
            self.root.join(path.trim_start_matches('/')),
            text,
        )?)
    }

    /// What this node's containerd makes of a file.
    pub(crate) fn dump(&self, path: &str) -> Result<toml::Table> {
        let mut words = vec!["config", "default"];
        if self.exists(path) {
            words = vec!["--config", path, "config", "dump"];
        }
        let mut chroot = Command::new("chroot");
        let ran = command::run(
            chroot
                .arg(&self.root)
                .arg("/usr/bin/containerd")
                .args(words),
        )?;
        let text = ran.ok()?;
        toml::from_str(&text).context("the dump is no TOML")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            skiff_test::runner::fault(format!("could not remove {}: {error}", self.root.display()));
        }
    }
}

/// The executable under test, a debug build: it has the places to be killed at.
pub(crate) fn skiff_node() -> Result<PathBuf> {
    let path = std::env::var_os("SKIFF_NODE").map(PathBuf::from);
    let path = path.context("SKIFF_NODE names no skiff-node; `test/run.sh install` builds it")?;
    ensure!(path.exists(), "{} does not exist", path.display());
    Ok(path)
}

/// Files that stand for our binaries; nothing runs them here.
pub(crate) fn binaries() -> Result<PathBuf> {
    let folder = Path::new("/tmp").join(format!("skt{}-binaries", std::process::id()));
    if !folder.exists() {
        fs::create_dir_all(&folder)?;
        for name in [
            "containerd-shim-skiff-v1",
            "skiff-init",
            "skiff-pause",
            "skiff-host-wasmtime",
            "skiff-compile-wasmtime",
        ] {
            fs::write(folder.join(name), name)?;
        }
    }
    Ok(folder)
}

/// Removes what the trees of this run shared.
pub(crate) fn remove_shared() {
    let folder = Path::new("/tmp").join(format!("skt{}-binaries", std::process::id()));
    if folder.exists() && fs::remove_dir_all(&folder).is_err() {
        skiff_test::runner::fault(format!("could not remove {}", folder.display()));
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let place = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &place)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &place)?;
        } else {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}

fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, Entry>) -> Result<()> {
    let place = root.join(path.strip_prefix("/")?);
    for entry in fs::read_dir(&place)? {
        let entry = entry?;
        let path = path.join(entry.file_name());
        let metadata = entry.metadata()?;
        if path == Path::new("/usr/bin/containerd") || path == Path::new(stand_in::RELEASE) {
            continue;
        }
        if metadata.is_dir() {
            walk(root, &path, found)?;
            continue;
        }
        let text = if metadata.is_symlink() {
            fs::read_link(entry.path())?
                .into_os_string()
                .into_encoded_bytes()
        } else {
            fs::read(entry.path())?
        };
        let entry = Entry {
            text,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        };
        found.insert(path, entry);
    }
    Ok(())
}
