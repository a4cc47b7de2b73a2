//! The container's termination message: the file that the kubelet shows in `kubectl describe pod` when a container has
//! ended.
//!
//! The kubelet makes an empty file for each container, `<its root>/pods/<pod's uid>/containers/<container's name>/<8
//! hexadecimal digits>`, and has it mounted where the pod wants it (`terminationMessagePath`, `/dev/termination-log`
//! if nothing is said). CRI says neither which mount that is nor that there is one, but it gives the uid and the name as
//! annotations, so that a mount whose source ends in exactly that can be nothing else. Without a kubelet there is
//! none, and nothing is written.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use serde::Deserialize;
use skiff_engine::notes::{LONGEST_WORDS, shortened};
use skiff_sandbox::sentence::readable;

use crate::config_file;

const POD_UID: &str = "io.kubernetes.cri.sandbox-uid";
const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

/// What of a bundle's `config.json` tells where the file is.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    #[serde(default)]
    source: Option<PathBuf>,
}

/// Leaves `text` for the kubelet, unless the guest has left something. Nothing comes of a message that cannot be
/// written: the log has it too.
///
/// Called when nothing of the container runs: nobody else writes.
pub fn leave(bundle: &Path, text: &str) {
    let path = match find(&bundle.join("config.json")) {
        Ok(Some(path)) => path,
        Ok(None) => return,
        Err(error) => {
            log::debug!("no termination message: {error}");
            return;
        }
    };
    if let Err(error) = write(&path, text) {
        log::warn!(
            "could not write the termination message to {}: {error}",
            path.display()
        );
    }
}

fn find(config: &Path) -> io::Result<Option<PathBuf>> {
    let config: Config = serde_json::from_slice(&config_file::read(config)?)?;
    Ok(config.file())
}

impl Config {
    fn file(self) -> Option<PathBuf> {
        let annotations = self.annotations?;
        let annotation = |name: &str| annotations.get(name).filter(|value| !value.is_empty());
        let end = Path::new("pods")
            .join(annotation(POD_UID)?)
            .join("containers")
            .join(annotation(CONTAINER_NAME)?);
        self.mounts?
            .into_iter()
            .filter_map(|mount| mount.source)
            .find(|source| {
                let name = source.file_name().and_then(|name| name.to_str());
                let made_by_kubelet = name.is_some_and(|name| {
                    name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
                });
                let folder = source.parent().is_some_and(|folder| folder.ends_with(&end));
                made_by_kubelet && folder && source.is_absolute()
            })
    }
}

/// The kubelet's folders are root's, and the file was mounted, not its name: nobody can have put another there. What is
/// opened is looked at all the same.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
        return Ok(());
    }
    file.write_all_at(shortened(&presentable(text), LONGEST_WORDS).as_bytes(), 0)
}

/// A backtrace keeps its lines; names in it are a guest's, and may hold anything.
fn presentable(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(readable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pod {
        directory: tempfile::TempDir,
        file: PathBuf,
    }

    impl Pod {
        /// A bundle with a file as the kubelet makes it, whose mount's source is `source` below the directory.
        fn new(source: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(source);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            let config = serde_json::json!({
                "annotations": { POD_UID: "b1d-5", CONTAINER_NAME: "app" },
                "mounts": [
                    { "destination": "/proc", "type": "proc", "source": "proc" },
                    { "destination": "/tmp", "type": "tmpfs" },
                    { "destination": "/some/where", "type": "bind", "source": file },
                ],
            });
            std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
            Self { directory, file }
        }

        fn leave(&self, text: &str) -> String {
            leave(self.directory.path(), text);
            std::fs::read_to_string(&self.file).unwrap()
        }
    }

    const SOURCE: &str = "root/pods/b1d-5/containers/app/0a1b2c3d";

    #[test]
    fn it_is_written_once_and_never_over_the_guests() {
        let pod = Pod::new(SOURCE);
        assert_eq!(
            pod.leave("it trapped\n at\u{1b} a"),
            "it trapped\nat\\u{1b} a"
        );
        assert_eq!(pod.leave("again"), "it trapped\nat\\u{1b} a");
    }

    #[test]
    fn it_is_no_longer_than_the_kubelet_reads() {
        let text = Pod::new(SOURCE).leave(&"ä ö ü\n".repeat(2000));
        assert!(
            text.len() <= LONGEST_WORDS && text.len() > LONGEST_WORDS - 4,
            "{}",
            text.len()
        );
    }

    #[test]
    fn other_mounts_are_not_the_kubelets() {
        for source in [
            "root/pods/b1d-5/containers/app/0a1b2c3",
            "root/pods/b1d-5/containers/app/0a1b2c3x",
            "root/pods/b1d-5/containers/other/0a1b2c3d",
            "root/pods/other/containers/app/0a1b2c3d",
            "root/pods/b1d-5/volumes/app/0a1b2c3d",
            "root/0a1b2c3d",
        ] {
            assert_eq!(Pod::new(source).leave("words"), "", "{source}");
        }
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let pod = Pod::new(SOURCE);
        std::fs::remove_file(&pod.file).unwrap();
        let target = pod.directory.path().join("target");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &pod.file).unwrap();
        leave(pod.directory.path(), "words");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "");
        let fifo = Pod::new(SOURCE);
        std::fs::remove_file(&fifo.file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo.file, Mode::from_raw_mode(0o600)).unwrap();
        leave(fifo.directory.path(), "words");
        leave(Path::new("/no/such/bundle"), "words");
    }
}
