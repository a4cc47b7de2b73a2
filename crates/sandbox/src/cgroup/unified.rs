//! What only the cgroups of v2 have: controllers that a cgroup passes on to those below it, and limits that the kernel
//! enforces without being asked whether they can be met.

use std::path::Path;

use super::directory::{read, write};
use super::layout::CONTROLLERS;
use super::plan::CORE;
use super::{CgroupError, Hierarchy, Setting};

/// The controllers that a cgroup passes on.
const PASSED_ON: &str = "cgroup.subtree_control";

/// Has every cgroup from the root to `path` pass on the controllers that the tree has, as runc does: those for limits
/// that are not asked for count, too.
///
/// What cannot be passed on is told when it is needed. The usual reason is a cgroup on the way that has processes of
/// its own: the kernel gives controllers of resources to a cgroup or to its processes, not to both.
pub(super) fn pass_on(path: &Path, tree: &Hierarchy) {
    let has_all = |list: &str| {
        let has = |name: &String| list.split_whitespace().any(|word| word == name);
        tree.controllers.iter().all(has)
    };
    // The usual case: the kubelet or a container before has done so.
    if read(&path.join(CONTROLLERS)).is_ok_and(|list| has_all(&list)) {
        return;
    }
    let Ok(inside) = path.strip_prefix(&tree.mount) else {
        return;
    };
    let mut level = tree.mount.clone();
    for part in inside {
        let words = |file: &str| read(&level.join(file)).unwrap_or_default();
        let passed_on = words(PASSED_ON);
        let missing: Vec<String> = words(CONTROLLERS)
            .split_whitespace()
            .filter(|name| !passed_on.split_whitespace().any(|word| word == *name))
            .map(|name| format!("+{name}"))
            .collect();
        let file = level.join(PASSED_ON);
        if !missing.is_empty() && write(&file, &missing.join(" ")).is_err() {
            // All of them or none: one that cannot be passed on is in the way of the others.
            for name in &missing {
                if let Err(error) = write(&file, name) {
                    log::debug!("{} does not take {name}: {error}", file.display());
                }
            }
        }
        level.push(part);
    }
}

/// Why a setting's file is missing, if its controller was not passed on.
pub(super) fn why_missing(setting: &Setting, directory: &Path) -> Option<CgroupError> {
    let has = |level: &Path| {
        let list = read(&level.join(CONTROLLERS)).ok()?;
        Some(
            list.split_whitespace()
                .any(|word| word == setting.controller),
        )
    };
    if setting.controller == CORE || has(directory)? {
        return None;
    }
    let nearest = directory
        .ancestors()
        .skip(1)
        .find(|level| has(level) != Some(false))?;
    let busy = read(&nearest.join("cgroup.procs")).is_ok_and(|list| !list.is_empty());
    let reason = if busy && has(nearest) == Some(true) {
        format!(
            "{} has processes of its own and cannot pass it on; name a cgroup elsewhere in linux.cgroupsPath",
            nearest.display()
        )
    } else {
        format!("{} does not pass it on", nearest.display())
    };
    Some(CgroupError::NotPassedOn {
        field: setting.field,
        controller: setting.controller,
        directory: directory.to_owned(),
        reason,
    })
}

/// A limit of memory below what is used now is met by the kernel of v2 by killing; v1 refuses it. So it is refused
/// here, unless the kernel can take enough memory away first.
pub(super) fn make_room(setting: &Setting, directory: &Path) -> Result<(), CgroupError> {
    let (Ok(limit), "memory.max") = (setting.value.parse::<u64>(), setting.file.as_str()) else {
        return Ok(());
    };
    let used = || -> Option<u64> {
        read(&directory.join("memory.current"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    // Asked in parts: a request is given up when some of it cannot be met. Kernels before 5.19 have no such file.
    for _ in 0..4 {
        let Some(over) = used()
            .and_then(|used| used.checked_sub(limit))
            .filter(|over| *over > 0)
        else {
            return Ok(());
        };
        if let Err(error) = write(&directory.join("memory.reclaim"), &over.to_string()) {
            log::debug!("{over} bytes over a new limit were not taken away: {error}");
        }
    }
    match used() {
        Some(used) if used > limit => Err(CgroupError::InTheWay {
            field: setting.field,
            value: setting.value.clone(),
            reason: format!(
                "its processes use {used} bytes, and the kernel could not take enough of them away"
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
