//! What killed runs have left behind: their processes, mounts, cgroups, sockets and directories.
//!
//! Called by the runner before the first test. A node's directory, namespace and cgroups are named after the
//! process id of its run ([`crate::node`]); what belongs to a process that lives, whatever it is, is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::residue::{cgroup_trees, remove_cgroups, walk};

/// How long killed processes may take to be gone: a cgroup with one in it cannot be removed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where containerd puts the sockets of shims, under names that say nothing.
const SOCKETS: &str = "/run/containerd/s/";

/// Sweeps; answers what was there, or nothing if nothing was.
pub fn dead_runs() -> Option<String> {
    let trees = cgroup_trees();
    let places = std::iter::once(PathBuf::from("/tmp")).chain(trees.iter().cloned());
    let runs: BTreeSet<u32> = places
        .flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten())
        .filter_map(|entry| run_of(entry.file_name().to_str()?))
        .filter(|run| is_dead(*run))
        .collect();
    if runs.is_empty() {
        return None;
    }
    let mut swept = [0; 5];
    for run in &runs {
        let one = sweep(*run, &trees);
        for (sum, one) in swept.iter_mut().zip(one) {
            *sum += one;
        }
    }
    let [processes, mounts, cgroups, sockets, directories] = swept;
    let names: Vec<String> = runs.iter().map(u32::to_string).collect();
    Some(format!(
        "swept what killed runs ({}) have left: {processes} processes, {mounts} mounts, {cgroups} cgroups, \
         {sockets} sockets, {directories} directories",
        names.join(", ")
    ))
}

/// A process that has ended and is not reaped has no executable either.
fn is_dead(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe"))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The process id in `skt<id>x<number>` (a node's directory, and its cgroups) or `skt<id>-cache`.
fn run_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("skt")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
    let (run, rest) = rest.split_at(end);
    let node = rest
        .strip_prefix('x')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    (node || rest == "-cache").then(|| run.parse().ok())?
}

/// Entries of a directory that are this run's.
fn entries(place: &Path, run: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().and_then(run_of) == Some(run))
        .map(|entry| entry.path())
        .collect()
}

/// How many processes, mounts, cgroups, sockets, directories there were.
fn sweep(run: u32, trees: &[PathBuf]) -> [usize; 5] {
    let directories = entries(Path::new("/tmp"), run);
    let mut cgroups: Vec<PathBuf> = trees.iter().flat_map(|tree| entries(tree, run)).collect();
    // Compile workers' cgroups are named after the directory of the cache.
    for cache in directories
        .iter()
        .flat_map(|d| [d.clone(), d.join("cache")])
    {
        let Ok(facts) = fs::metadata(cache) else {
            continue;
        };
        let prefix = format!("{:x}-{:x}-", facts.dev(), facts.ino());
        for tree in trees {
            let workers = fs::read_dir(tree.join("skiff-compile"));
            cgroups.extend(
                workers
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                    .map(|entry| entry.path()),
            );
        }
    }
    let processes = kill(run, &cgroups);
    let mounts = detach(&directories);
    for cgroup in &cgroups {
        remove_cgroups(cgroup);
    }
    let mut sockets = 0;
    for directory in &directories {
        for log in ["logs/containerd", "logs/addresses"] {
            let text = fs::read(directory.join(log)).unwrap_or_default();
            for path in sockets_in(&String::from_utf8_lossy(&text)) {
                sockets += usize::from(fs::remove_file(path).is_ok());
            }
        }
        // What stays is seen by whoever looks, and is tried again by the next run.
        fs::remove_dir_all(directory).ok();
    }
    [processes, mounts, cgroups.len(), sockets, directories.len()]
}

/// Sockets of shims that a log of containerd names.
fn sockets_in(log: &str) -> BTreeSet<&str> {
    let addresses = log.split("unix://").skip(1);
    addresses
        .map(|rest| {
            let end = rest.find(|c: char| c.is_whitespace() || "\"\\,".contains(c));
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|path| path.starts_with(SOCKETS) && !path.contains(".."))
        .collect()
}

/// Kills the run's processes, and waits for their ends.
fn kill(run: u32, cgroups: &[PathBuf]) -> usize {
    let started = Instant::now();
    let mut killed = BTreeSet::new();
    loop {
        let left = processes(run, cgroups);
        if left.is_empty() || started.elapsed() > PATIENCE {
            return killed.len();
        }
        for id in left {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                // It may have ended by itself meanwhile.
                kill_process(pid, Signal::KILL).ok();
                killed.insert(id);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Those in its cgroups, and those that have its directory in their environment, as shims have.
fn processes(run: u32, cgroups: &[PathBuf]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for cgroup in cgroups {
        walk(cgroup, &mut |path| {
            let ids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            found.extend(ids.lines().filter_map(|id| id.parse::<u32>().ok()));
        });
    }
    let mark = format!("SKIFF_RUN_DIR=/tmp/skt{run}x").into_bytes();
    found.extend(crate::process::all().filter(|id| {
        // Of one that has ended and is not reaped, nothing can be read.
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|part| part == mark)
    }));
    found.remove(&std::process::id());
    found
}

/// Detaches all mounts at and below these directories, the last ones first.
fn detach(directories: &[PathBuf]) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| directories.iter().any(|d| Path::new(place).starts_with(d)))
        .filter(|place| unmount(*place, UnmountFlags::DETACH).is_ok())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_nodes_belong_to_a_run() {
        assert_eq!(run_of("skt123x0"), Some(123));
        assert_eq!(run_of("skt123x45"), Some(123));
        assert_eq!(run_of("skt7-cache"), Some(7));
        for other in [
            "skt", "skt123", "sktx1", "skt1x", "skt1x2y", "skt1-", "xskt1x2", "skb1x1",
        ] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_sockets_of_shims_are_taken_from_a_log() {
        let log = "address=\"unix:///run/containerd/s/ab12\" unix:///run/other, unix:///run/containerd/s/../x \
                   unix:///run/containerd/s/cd34";
        let found: Vec<&str> = sockets_in(log).into_iter().collect();
        assert_eq!(found, ["/run/containerd/s/ab12", "/run/containerd/s/cd34"]);
    }
}
