//! Cgroups of compile workers that an interrupted run leaves: a shim removes them, and is killed together with its
//! worker. They lie beside those of other nodes on this machine, and carry the identity of the cache they worked for.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use skiff_test::residue::cgroup_trees;

/// The identities of all caches on the tmpfs that a process of the run sees at `place`.
pub(crate) fn identities(process: u32, place: &Path) -> Vec<String> {
    let place = Path::new("/proc")
        .join(process.to_string())
        .join("root")
        .join(place.strip_prefix("/").unwrap_or(place));
    let below = fs::read_dir(&place).into_iter().flatten().flatten();
    below
        .map(|entry| entry.path())
        .chain([place.clone()])
        .filter_map(|directory| fs::metadata(directory.join("cache")).ok())
        .map(|facts| format!("{:x}-{:x}-", facts.dev(), facts.ino()))
        .collect()
}

/// Removes the cgroups of the caches' workers, which may be ending yet.
pub(crate) fn remove(identities: &[String]) {
    for tree in cgroup_trees() {
        let workers = fs::read_dir(tree.join("skiff-compile"));
        for entry in workers.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if identities
                .iter()
                .any(|identity| name.starts_with(identity.as_str()))
            {
                remove_soon(&entry.path());
            }
        }
        // It stays while others compile.
        fs::remove_dir(tree.join("skiff-compile")).ok();
    }
}

fn remove_soon(cgroup: &Path) {
    for _ in 0..200 {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            // A later compilation for a cache of the same identity removes what stays.
            _ => break,
        }
    }
}
