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
    /// `engines/<engine>/<version>` below it, where an engine lies that brings libraries of its own, or of which there
    /// are several versions. A version that is asked for by name is in such a folder or nowhere.
    ///
    /// # Errors
    /// It is in neither. Where versions are there, but not the one that is asked for, the error lists them.
    pub fn of_engine(
        &self,
        role: &str,
        engine: &str,
        version: Option<&str>,
    ) -> io::Result<Executable> {
        let name = format!("skiff-{role}-{engine}");
        if version.is_none() {
            match self.open(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    return opened.map(|file| Executable {
                        file,
                        libraries: None,
                    });
                }
            }
        }
        let folder = format!("engines/{engine}");
        let versions = versions(&self.path.join(&folder));
        let chosen = match version {
            None => versions.last(),
            Some(version) => versions.iter().find(|known| *known == version),
        };
        let Some(chosen) = chosen else {
            return Err(missing(version, &versions));
        };
        let bundle = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = format!("{folder}/{chosen}");
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

/// The versions in `engine`, which has one folder for each, the newest last. A folder that is not there has none.
fn versions(engine: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(engine)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        // A name that ends otherwise is a folder that is still being filled.
        .filter(|name| {
            name.starts_with(|first: char| first.is_ascii_digit()) && !name.ends_with(".new")
        })
        .collect();
    found.sort_by_key(|name| order(name));
    found
}

fn missing(version: Option<&str>, versions: &[String]) -> io::Error {
    let sentence = match version {
        Some(version) if versions.is_empty() => {
            format!("there is no version {version} of it, nor any other that goes by its number")
        }
        Some(version) => format!(
            "there is no version {version} of it, only {}",
            versions.join(", ")
        ),
        None => return io::ErrorKind::NotFound.into(),
    };
    io::Error::new(io::ErrorKind::NotFound, sentence)
}

/// `0.17.1-2` in an order in which 0.9 is older than 0.17.
fn order(name: &str) -> Vec<u64> {
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
        let found = programs.of_engine("host", "some", None).unwrap();
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
                .of_engine("host", "other", None)
                .unwrap()
                .libraries
                .is_none()
        );
        let missing = programs.of_engine("compile", "some", None).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let unknown = programs.of_engine("host", "unknown", None).unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        let older = programs.of_engine("host", "some", Some("0.9.9")).unwrap();
        let text = std::io::read_to_string(std::fs::File::from(older.file)).unwrap();
        assert_eq!(text, "0.9.9");
        for (engine, version, words) in [
            ("some", "0.17", "only 0.9.9, 0.17.1"),
            ("some", "../some/0.9.9", "only 0.9.9, 0.17.1"),
            ("other", "1", "nor any other"),
        ] {
            let error = programs
                .of_engine("host", engine, Some(version))
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
