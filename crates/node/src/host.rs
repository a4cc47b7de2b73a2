//! The machine that is installed on: its files below a root, and commands run as its own.
//!
//! In a container the node's file system lies at `/host`; everything a path of the node's means is below it, the
//! targets of symbolic links included. Without a container the root is `/`, and this does nothing.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// The hidden command of `skiff-node` that runs a program on the node: see [`enter`].
pub const ENTER: &str = "in-host";

/// A node.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The node whose file system is here.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where the node's file system is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This process has the node's own root.
    pub fn is_direct(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where something is for this process, links left as they are.
    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path on the node that a path on the node leads to: no part of it is a symbolic link. What does not exist
    /// is kept as it is.
    ///
    /// # Errors
    /// If links lead in a circle, or cannot be read.
    pub fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let mut done = PathBuf::from("/");
        let mut left: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match fs::read_link(self.below(&next)) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::other("too many symbolic links"));
                    }
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    left.extend(parts(&target));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => done = next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => done = next,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => done = next,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Where something of the node's is for this process, links followed on the node.
    ///
    /// # Errors
    /// As [`Host::follow`].
    pub fn place(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.below(&self.follow(path)?))
    }

    /// The bytes of a file; `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read for another reason.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.place(path)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Something is there.
    pub fn exists(&self, path: &Path) -> bool {
        self.place(path).is_ok_and(|place| place.exists())
    }

    /// Entries of a folder, sorted; none if it does not exist.
    pub fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        let Ok(place) = self.place(folder) else {
            return Vec::new();
        };
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let mut names: Vec<PathBuf> = entries
            .map(|entry| folder.join(entry.file_name()))
            .collect();
        names.sort();
        names
    }

    /// The first of the folders of a usual `PATH` that has this program.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        const FOLDERS: [&str; 6] = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ];
        FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| self.exists(path))
    }

    /// A program of the node's, to be run with the node's own view of its files.
    pub fn command(&self, program: &Program) -> Command {
        if self.is_direct() {
            let path = match program.running {
                // The running executable, even when its file was replaced since.
                Some(pid) => PathBuf::from(format!("/proc/{pid}/exe")),
                None => program.path.clone(),
            };
            let mut command = Command::new(path);
            command.arg0(program.name()).current_dir("/");
            return command;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(ENTER).arg(&self.root);
        command.arg(self.resident(program.running).unwrap_or(0).to_string());
        command.arg(&program.path).arg(program.name());
        command
    }

    /// A process whose root is the node's: its mount namespace has what containerd sees, also below the root. A tree of
    /// files that is no machine has none.
    fn resident(&self, running: Option<i32>) -> Option<i32> {
        let identity = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let own = identity(&self.root)?;
        [running, Some(1)]
            .into_iter()
            .flatten()
            .find(|pid| identity(Path::new(&format!("/proc/{pid}/root/."))) == Some(own))
    }
}

/// A program of the node's.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path on the node.
    pub path: PathBuf,
    /// The name it is called by; an executable with many commands (k3s) goes by it.
    pub called: Option<OsString>,
    /// A process that runs it.
    pub running: Option<i32>,
}

impl Program {
    /// One that is not running.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            called: None,
            running: None,
        }
    }

    fn name(&self) -> &OsStr {
        self.called.as_deref().unwrap_or(self.path.as_os_str())
    }
}

/// The other side of [`Host::command`], in a process of its own: enters the node and becomes the program. The
/// arguments are the root, a process id or 0, the program's path, its name, and what it is called with.
///
/// # Errors
/// Whatever keeps it from it. It does not return otherwise.
pub fn enter(arguments: &[OsString]) -> io::Result<std::convert::Infallible> {
    let [root, resident, program, name, rest @ ..] = arguments else {
        return Err(io::Error::other("too few arguments"));
    };
    match resident.to_str().filter(|pid| *pid != "0") {
        Some(pid) => {
            let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
            let kind = rustix::thread::LinkNameSpaceType::Mount;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
        }
        None => rustix::process::chroot(Path::new(root))?,
    }
    rustix::process::chdir("/")?;
    Err(Command::new(program).arg0(name).args(rest).exec())
}

/// The file does not exist, or not even its folder.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_on_the_node() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        fs::create_dir_all(root.path().join("srv/real")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("srv/real/config.toml"), "x").unwrap();
        symlink("/srv/real", root.path().join("etc/containerd")).unwrap();
        symlink("../../../../srv", root.path().join("etc/up")).unwrap();
        symlink("loop", root.path().join("etc/loop")).unwrap();
        let follow = |path: &str| host.follow(Path::new(path)).unwrap();
        assert_eq!(
            follow("/etc/containerd/config.toml"),
            Path::new("/srv/real/config.toml")
        );
        assert_eq!(follow("/etc/up/real/x"), Path::new("/srv/real/x"));
        assert_eq!(follow("/nothing/there"), Path::new("/nothing/there"));
        host.follow(Path::new("/etc/loop")).unwrap_err();
        let read = host.read(Path::new("/etc/containerd/config.toml")).unwrap();
        assert_eq!(read.unwrap(), b"x");
        assert!(host.read(Path::new("/etc/nothing")).unwrap().is_none());
        assert!(!host.exists(Path::new("/usr/bin/env")));
    }
}
