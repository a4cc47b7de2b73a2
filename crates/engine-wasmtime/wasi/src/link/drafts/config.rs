//! `wasi:config`: the container's environment, and files that the pod mounts (a ConfigMap, a Secret), one for each key.
//!
//! Files are read when they are asked for: a ConfigMap that changes is seen by the next call.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};
use wasmtime::{Result, StoreContextMut};

use crate::link::Resolves;

/// Names the directories, with colons between them. It is no key itself.
const DIRECTORIES: &str = "SKIFF_CONFIG_DIR";
/// Largest value, in bytes: as much as a ConfigMap can hold.
const LARGEST: u64 = 1 << 20;

/// What one call gets of files, in bytes.
const MOST: usize = 8 << 20;

/// Where the configuration comes from.
#[derive(Debug)]
pub(super) struct Config {
    environment: BTreeMap<String, String>,
    directories: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    #[expect(
        dead_code,
        reason = "the interface has it, for stores that are elsewhere"
    )]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

impl Config {
    pub(super) fn new(environment: &[String]) -> Self {
        let split = |variable: &String| {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            (key.to_owned(), value.to_owned())
        };
        let mut environment: BTreeMap<String, String> = environment.iter().map(split).collect();
        let directories = environment.remove(DIRECTORIES).unwrap_or_default();
        let directories = directories.split(':').filter(|path| !path.is_empty());
        Self {
            directories: directories.map(PathBuf::from).collect(),
            environment,
        }
    }

    /// The value of a key: that of a file goes before a variable's, and the first directory before the next.
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        if is_key(key) {
            for directory in &self.directories {
                if let Some(value) = value(&directory.join(key))? {
                    return Ok(Some(value));
                }
            }
        }
        Ok(self.environment.get(key).cloned())
    }

    fn get_all(&self) -> Result<Vec<(String, String)>, Error> {
        let mut all = self.environment.clone();
        let mut size = 0;
        for directory in self.directories.iter().rev() {
            for key in names(directory)? {
                if is_key(&key)
                    && let Some(value) = value(&directory.join(&key))?
                {
                    size += key.len() + value.len();
                    if size > MOST {
                        let directory = directory.display();
                        return Err(Error::Io(format!(
                            "the files up to {directory} are larger than 8 MiB"
                        )));
                    }
                    all.insert(key, value);
                }
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// Whether it can name a file: one component of a path, and none of those by which Kubernetes renews a volume.
fn is_key(key: &str) -> bool {
    let mut components = Path::new(key).components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == key
    ) && !key.starts_with("..")
        && !key.contains('\0')
}

/// The names in a directory, none if there is none.
fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |errno: Errno| Error::Io(format!("{}: {errno}", directory.display()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match openat(CWD, directory, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    // Not by the standard library, whose way to look at it the filter does not know.
    let entries = Dir::new(opened).map_err(failed)?;
    let names =
        entries.map(|entry| entry.map(|entry| entry.file_name().to_str().ok().map(str::to_owned)));
    let names: Result<Vec<_>, Errno> = names.collect();
    Ok(names.map_err(failed)?.into_iter().flatten().collect())
}

/// What is in a file; `None` if there is none, or another thing in its place.
fn value(path: &Path) -> Result<Option<String>, Error> {
    let failed = |reason: String| Error::Io(format!("{}: {reason}", path.display()));
    // Not blocking: it may be a FIFO, which nobody waits for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // openat: the hosts' filter does not know the older call of the same effect, which some machines lack.
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let is_file = file.metadata().map(|metadata| metadata.is_file());
    if !is_file.map_err(|error| failed(error.to_string()))? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(failed("it is larger than 1 MiB".to_owned()));
    }
    match String::from_utf8(bytes) {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(failed("it is not text in UTF-8".to_owned())),
    }
}

pub(super) fn add<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap("get", |store: StoreContextMut<'_, T>, (key,): (String,)| {
        Ok((store.data().drafts().config.get(&key),))
    })?;
    instance.func_wrap("get-all", |store: StoreContextMut<'_, T>, (): ()| {
        Ok((store.data().drafts().config.get_all(),))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use super::*;

    fn with(directories: &[&Path]) -> Config {
        let names: Vec<String> = directories
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Config::new(&[
            "colour=red".to_owned(),
            "size=small".to_owned(),
            "empty=".to_owned(),
            format!("SKIFF_CONFIG_DIR={}", names.join(":")),
        ])
    }

    #[test]
    fn files_go_before_variables_and_the_first_before_the_next() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(first.path().join("colour"), "green").unwrap();
        write(second.path().join("colour"), "blue").unwrap();
        write(second.path().join("shape"), "round\n").unwrap();
        create_dir(second.path().join("..data")).unwrap();
        create_dir(second.path().join("folder")).unwrap();
        let nowhere = Path::new("/nowhere/at/all");
        let config = with(&[first.path(), nowhere, second.path()]);
        let get = |key| config.get(key).unwrap();
        assert_eq!(get("colour").as_deref(), Some("green"));
        assert_eq!(get("size").as_deref(), Some("small"));
        assert_eq!(get("shape").as_deref(), Some("round\n"));
        assert_eq!(get("empty").as_deref(), Some(""));
        for none in [
            "folder",
            "..data",
            "..",
            ".",
            "",
            "/etc/passwd",
            "a/b",
            "SKIFF_CONFIG_DIR",
        ] {
            assert_eq!(get(none), None, "{none:?}");
        }
        let all: Vec<String> = config
            .get_all()
            .unwrap()
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            all,
            ["colour=green", "empty=", "shape=round\n", "size=small"]
        );
        // As it is now.
        write(first.path().join("colour"), "yellow").unwrap();
        assert_eq!(get("colour").as_deref(), Some("yellow"));
    }

    #[test]
    fn what_is_no_text_or_too_large_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path().join("bytes"), [0xff, 0xfe]).unwrap();
        write(directory.path().join("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
        let config = with(&[directory.path()]);
        for (key, expected) in [("bytes", "UTF-8"), ("large", "1 MiB")] {
            let Err(Error::Io(told)) = config.get(key) else {
                panic!("{key} was read")
            };
            assert!(told.contains(expected) && told.contains(key), "{told}");
        }
        config.get_all().unwrap_err();
    }
}
