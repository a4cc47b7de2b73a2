//! The cpusets of v1, which begin empty and take no process then.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::directory::{read, write};

/// Has the kernel copy processors and memory nodes of the parent when the directory is made. Each write of them has it
/// rebuild its scheduling domains, which takes longer the more cgroups and processes there are: with a thousand pods,
/// milliseconds. The parent is the pod's; the flag changes nothing but what is made below it. It is not set on the
/// hierarchy's root, which is the node's.
pub(super) fn ask_for_copies(path: &Path, root: &Path) {
    if let Some(parent) = path.parent()
        && parent != root
        && let Err(error) = write(&parent.join("cgroup.clone_children"), "1")
    {
        // It is not there yet, or its kernel has no such file: the values are written then.
        log::debug!("cpusets below {} are not copied: {error}", parent.display());
    }
}

pub(super) fn inherit(level: &Path) -> io::Result<()> {
    let Some(parent) = level.parent() else {
        return Ok(());
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (name, own) = match read(&level.join(file)) {
            Ok(own) => (file, own),
            // Some nodes mount the hierarchy with `noprefix`.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = file.trim_start_matches("cpuset.");
                (name, read(&level.join(name))?)
            }
            Err(error) => return Err(error),
        };
        if own.trim().is_empty() {
            let inherited = read(&parent.join(name))?;
            // The level above was removed and made anew in this moment, and is not set up yet.
            if inherited.trim().is_empty() {
                return Err(ErrorKind::NotFound.into());
            }
            write(&level.join(name), inherited.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::directory::is_gone;
    use super::*;

    #[test]
    fn an_empty_cpuset_is_not_inherited() {
        let parent = tempfile::tempdir().unwrap();
        let level = parent.path().join("level");
        fs::create_dir(&level).unwrap();
        let fill = |directory: &Path, text: &str| {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(directory.join(file), text).unwrap();
            }
        };
        fill(parent.path(), "\n");
        fill(&level, "\n");
        // Tried again, from the top, by its caller.
        assert!(is_gone(&inherit(&level).unwrap_err()));
        fill(parent.path(), "0-1\n");
        inherit(&level).unwrap();
        assert!(
            fs::read_to_string(level.join("cpuset.mems"))
                .unwrap()
                .starts_with("0-1")
        );
    }
}
