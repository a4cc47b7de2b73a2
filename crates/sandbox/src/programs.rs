//! The folder of the shim's own executables, from which all launched programs are opened.
//!
//! Opened once by a shim. Through a read-only mount of its own: who gets at a descriptor of an executable, or at
//! `/proc/<pid>/exe` of its process, can read the file and never write to it, not even as root
//! (CVE-2019-5736 was such a write).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::sys::mount::read_only_directory;

/// An executable, open.
#[derive(Debug)]
pub struct Executable {
    /// The file.
    pub file: OwnedFd,
    /// The folder of its libraries, if it brings its own.
    pub libraries: Option<OwnedFd>,
}

/// A folder of executables.
#[derive(Debug)]
pub struct Programs {
    path: PathBuf,
    folder: OwnedFd,
}

impl Programs {
    /// The folder that the running executable is in.
    ///
    /// # Errors
    /// `/proc` is not mounted, or the folder is gone.
    pub fn beside_own_executable() -> io::Result<Self> {
        let mut path = std::fs::read_link("/proc/self/exe")?;
        path.pop();
        Self::in_folder(path)
    }

    /// Another folder.
    ///
    /// # Errors
    /// It is not there.
    pub fn in_folder(path: PathBuf) -> io::Result<Self> {
        let folder = read_only_directory(&path)?;
        Ok(Self { path, folder })
    }

    /// Opens the executable of an engine, `skiff-<role>-<engine>`: in the folder itself, or in the newest folder
    /// `engines/<engine>/<version>` below it, where an engine lies that brings libraries of its own.
    ///
    /// # Errors
    /// It is in neither.
    pub fn of_engine(&self, role: &str, engine: &str) -> io::Result<Executable> {
        let name = format!("skiff-{role}-{engine}");
        match self.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                return opened.map(|file| Executable {
                    file,
                    libraries: None,
                });
            }
        }
        let folder = format!("engines/{engine}");
        let newest = newest(&self.path.join(&folder))?;
        let bundle = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = format!("{folder}/{newest}");
        let bundle = rustix::fs::openat(&self.folder, path, bundle, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&bundle, name, flags, Mode::empty())?;
        Ok(Executable {
            file,
            libraries: Some(bundle),
        })
    }

    /// Opens the executable `name`, which is in the folder itself: a symbolic link is none.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            Mode::empty(),
        )?)
    }

    /// The folder's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder of the newest version in `engine`, which has one folder for each.
fn newest(engine: &Path) -> io::Result<String> {
    std::fs::read_dir(engine)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .max_by_key(|name| version(name))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `0.17.1-2` in an order in which 0.9 is older than 0.17.
fn version(name: &str) -> Vec<u64> {
    name.split(|other: char| !other.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn an_engine_with_libraries_is_found_in_its_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["0.9.9", "0.17.1", "old"] {
            let bundle = folder.path().join("engines/some").join(version);
            std::fs::create_dir_all(&bundle).unwrap();
            std::fs::write(bundle.join("skiff-host-some"), version).unwrap();
        }
        std::fs::write(folder.path().join("skiff-host-other"), "").unwrap();
        let programs = Programs {
            path: folder.path().to_owned(),
            folder: std::fs::File::open(folder.path()).unwrap().into(),
        };
        let found = programs.of_engine("host", "some").unwrap();
        let text = std::io::read_to_string(std::fs::File::from(found.file)).unwrap();
        assert_eq!(text, "0.17.1");
        let libraries = found.libraries.unwrap();
        rustix::fs::statat(
            libraries.as_fd(),
            "skiff-host-some",
            rustix::fs::AtFlags::empty(),
        )
        .unwrap();
        assert!(
            programs
                .of_engine("host", "other")
                .unwrap()
                .libraries
                .is_none()
        );
        let missing = programs.of_engine("compile", "some").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let unknown = programs.of_engine("host", "unknown").unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
    }
}
