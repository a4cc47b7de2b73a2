//! The cgroups of workers: how they are named, and what becomes of those that a dead shim has left.
//!
//! A worker dies with its shim, and its namespaces and mounts with it; its cgroup is a directory and stays.
//! It is named after the cache and the compile slot. A slot has one holder on the node, so whatever is found
//! under its name is a leftover: the next holder takes it away, and so does [`sweep`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use skiff_cache::{Cache, SlotLock};
use skiff_sandbox::cgroup::{Cgroup, Layout};

use super::chain;

/// The folder of all workers' cgroups, in each hierarchy.
const FOLDER: &str = "skiff-compile";

/// Where a sweep looks first: the layout of a node's cgroups is a long file on a node with many mounts. On a
/// node that mounts them elsewhere only the next compilation cleans up.
const PLACES: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/memory",
    "/sys/fs/cgroup/unified",
];

/// Names the directory of a cache on this node, however it is reached.
pub(super) fn identity(directory: &Path) -> Option<String> {
    let stat = rustix::fs::stat(directory).ok()?;
    Some(format!("{:x}-{:x}", stat.st_dev, stat.st_ino))
}

/// The path of a worker's cgroup. Nobody else uses it while `slot` is held; without one it has a name of its own.
pub(super) fn path(identity: Option<&str>, slot: Option<&SlotLock>) -> String {
    static UNSLOTTED: AtomicU64 = AtomicU64::new(0);
    match (identity, slot) {
        (Some(identity), Some(slot)) => slotted(identity, slot.number()),
        _ => format!(
            "/{FOLDER}/p{}-{}",
            std::process::id(),
            UNSLOTTED.fetch_add(1, Ordering::Relaxed)
        ),
    }
}

fn slotted(identity: &str, number: u16) -> String {
    format!("/{FOLDER}/{identity}-{number}")
}

/// Kills and removes what is under a path, which must be nobody's.
pub(super) fn clean(path: &str, layout: &Layout) {
    // Looking costs less than removing what is not there, in each of ten hierarchies.
    if !exists(path, layout) {
        return;
    }
    let clean = || {
        let old = Cgroup::open(path, layout)?;
        if !old.pids()?.is_empty() {
            old.kill()?;
        }
        old.remove()
    };
    if let Err(error) = clean() {
        log::warn!(
            "could not remove the compiler cgroup {path} of an earlier shim: {}",
            chain(&error)
        );
    }
}

/// Removes the cgroups that workers of dead shims left behind; what is in use is left alone. Costs next to
/// nothing when there are none. Called by the shim's `delete`, with the cache of its environment.
pub fn sweep(settings: &skiff_cache::Settings) {
    if !PLACES
        .iter()
        .any(|place| Path::new(place).join(FOLDER).exists())
    {
        return;
    }
    let Ok(layout) = Layout::of_node() else {
        return;
    };
    let names = names(layout);
    if names.is_empty() {
        return;
    }
    let slots: Vec<u16> = match identity(&settings.directory) {
        None => Vec::new(),
        Some(identity) => names
            .iter()
            .filter_map(|name| {
                name.strip_prefix(&identity)?
                    .strip_prefix('-')?
                    .parse()
                    .ok()
            })
            .collect(),
    };
    if let (false, Some(identity), Ok(cache)) = (
        slots.is_empty(),
        identity(&settings.directory),
        Cache::open(settings),
    ) {
        for number in slots {
            if let Ok(Some(_slot)) = cache.try_slot_number(number) {
                clean(&slotted(&identity, number), layout);
            }
        }
    }
    for name in names {
        let process = name
            .strip_prefix('p')
            .and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            clean(&format!("/{FOLDER}/{name}"), layout);
        }
    }
}

fn exists(path: &str, layout: &Layout) -> bool {
    let below = path.trim_start_matches('/');
    let mut hierarchies = layout.hierarchies.iter().chain(&layout.unified);
    hierarchies.any(|hierarchy| hierarchy.mount.join(below).exists())
}

fn names(layout: &Layout) -> BTreeSet<String> {
    let folders = layout
        .hierarchies
        .iter()
        .chain(&layout.unified)
        .map(|hierarchy| hierarchy.mount.join(FOLDER));
    let entries = folders
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(Iterator::flatten);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
