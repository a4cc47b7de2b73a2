//! What a test left behind: processes, zombies, mounts, cgroups, sockets, files, descriptors.
//!
//! A [`Probe`] belongs to one node and only sees what is that node's: descendants of this process (which is
//! the parent of orphans, see the runner), and mounts, cgroups and files that carry the node's name. So it
//! works on a machine where other containerds run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

/// How long ends of processes, sockets and cgroups may take after the last call of a test.
/// A shim that nobody is connected to takes 12 s to be sure of it, and up to 10 to give up events that nobody takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at one node.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Everything the node owns is in here.
    pub directory: PathBuf,
    /// Its directory of compiled code.
    pub cache: PathBuf,
    /// Its containerd namespace and the parent of its pods' cgroups.
    pub namespace: String,
    /// Processes that live as long as the node: containerd, a registry.
    pub long_lived: Vec<u32>,
}

/// Where runc keeps the state of a namespace's containers.
pub(crate) fn runc_state(namespace: &str) -> PathBuf {
    Path::new("/run/containerd/runc").join(namespace)
}

/// One line for each thing that is there.
pub type Snapshot = BTreeSet<String>;

impl Probe {
    /// What is there now.
    pub fn look(&self) -> Snapshot {
        let mut found = Snapshot::new();
        self.processes(&mut found);
        self.mounts(&mut found);
        self.cgroups(&mut found);
        self.sockets(&mut found);
        self.files(&mut found);
        self.descriptors(&mut found);
        found
    }

    /// Processes below this one that are not long-lived: shims and all they started.
    pub fn processes_now(&self) -> Vec<u32> {
        descendants()
            .into_iter()
            .map(|process| process.id)
            .filter(|id| !self.long_lived.contains(id))
            .collect()
    }

    /// Waits until nothing is there that was not there `before`; answers what does not go away.
    pub fn settle(&self, before: &Snapshot) -> Vec<String> {
        let started = Instant::now();
        loop {
            let left: Vec<String> = self.look().difference(before).cloned().collect();
            if left.is_empty() || started.elapsed() > crate::command::patience(PATIENCE) {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn processes(&self, found: &mut Snapshot) {
        for process in descendants() {
            if self.long_lived.contains(&process.id) {
                continue;
            }
            if process.zombie && process.parent == std::process::id() {
                reap(process.id);
                continue;
            }
            let command = fs::read(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let kind = if process.zombie { "zombie" } else { "process" };
            found.insert(format!(
                "{kind} {} ({}) child of {}: {}",
                process.id,
                process.name,
                process.parent,
                command.trim()
            ));
        }
    }

    fn mounts(&self, found: &mut Snapshot) {
        let directory = self.directory.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mounts.lines() {
            if line.contains(&directory) || line.contains(&self.namespace) {
                let place = line.split(' ').nth(4).unwrap_or(line);
                found.insert(format!("mount on {place}"));
            }
        }
    }

    fn cgroups(&self, found: &mut Snapshot) {
        let workers = fs::metadata(&self.cache)
            .ok()
            .map(|facts| format!("{:x}-{:x}-", facts.dev(), facts.ino()));
        for tree in cgroup_trees() {
            // The namespace's own directory is the parent that `ctr` names; whoever removes the last child may leave it.
            walk(&tree.join(&self.namespace), &mut |path| {
                if path != tree.join(&self.namespace) {
                    found.insert(format!("cgroup {}", path.display()));
                }
            });
            // Compile workers of this node's cache; other nodes on the machine have others.
            walk(&tree.join("skiff-compile"), &mut |path| {
                if path.file_name().is_some_and(|name| {
                    workers
                        .as_ref()
                        .is_some_and(|prefix| name.to_string_lossy().starts_with(prefix))
                }) {
                    found.insert(format!("cgroup {}", path.display()));
                }
            });
        }
    }

    fn sockets(&self, found: &mut Snapshot) {
        let directory = self.directory.display().to_string();
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        for line in sockets.lines().filter(|line| line.contains(&directory)) {
            let path = line.split_whitespace().last().unwrap_or(line);
            found.insert(format!("socket {path}"));
        }
        // Shims may put their sockets outside of the node's directory, under names that say nothing: containerd
        // logs them, and the harness does for the shims that it starts itself.
        for log in ["logs/containerd", "logs/addresses"] {
            let text = fs::read_to_string(self.directory.join(log)).unwrap_or_default();
            for rest in text.split("unix://").skip(1) {
                let path: String = rest
                    .chars()
                    .take_while(|c| !c.is_whitespace() && !"\"\\,".contains(*c))
                    .collect();
                if !path.starts_with(&directory) && Path::new(&path).exists() {
                    found.insert(format!("socket {path}"));
                }
            }
        }
    }

    fn files(&self, found: &mut Snapshot) {
        let directory = self.directory.display().to_string();
        for namespace in [self.namespace.as_str(), "k8s.io"] {
            let states = fs::read_dir(runc_state(namespace)).into_iter().flatten();
            for state in states.flatten() {
                // The namespace of CRI is shared with the machine's other containerds.
                let text = fs::read_to_string(state.path().join("state.json")).unwrap_or_default();
                if namespace == self.namespace || text.contains(&directory) {
                    found.insert(format!("runc's state {}", state.path().display()));
                }
            }
        }
        for place in [
            "state",
            "run",
            "tmp",
            "s",
            "root/io.containerd.runtime.v2.task",
            "root/io.containerd.grpc.v1.cri",
        ] {
            walk_files(&self.directory.join(place), &mut |path| {
                // containerd makes these directories with the first container and keeps them.
                let own = [self.namespace.as_str(), "k8s.io", "containers", "sandboxes"];
                if !(path.is_dir()
                    && path
                        .file_name()
                        .is_some_and(|name| own.iter().any(|own| name == *own)))
                {
                    found.insert(format!("file {}", path.display()));
                }
            });
        }
    }

    /// Descriptors of the long-lived processes that lead to something of a container.
    fn descriptors(&self, found: &mut Snapshot) {
        for id in &self.long_lived {
            let Ok(entries) = fs::read_dir(format!("/proc/{id}/fd")) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(target) = fs::read_link(entry.path()) else {
                    continue;
                };
                let target = target.display().to_string();
                if target.contains("io.containerd.runtime.v2.task")
                    || target.contains("/fifo/")
                    || target.contains("/io.containerd.grpc.v1.cri/containers")
                {
                    found.insert(format!("descriptor of process {id} on {target}"));
                }
            }
        }
    }

    /// Ends what is left, so that one test's fault is not the next one's.
    pub fn sweep(&self) {
        for _ in 0..50 {
            let left: Vec<Process> = descendants()
                .into_iter()
                .filter(|process| !self.long_lived.contains(&process.id))
                .collect();
            if left.is_empty() {
                break;
            }
            for process in left {
                if process.zombie {
                    reap(process.id);
                } else if let Some(id) = i32::try_from(process.id).ok().and_then(Pid::from_raw) {
                    // It may have ended by itself meanwhile.
                    rustix::process::kill_process(id, rustix::process::Signal::KILL).ok();
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let directory = self.directory.display().to_string();
        for place in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|place| place.starts_with(&directory))
        {
            rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH).ok();
        }
        for tree in cgroup_trees() {
            remove_cgroups(&tree.join(&self.namespace));
        }
    }
}

#[derive(Clone, Debug)]
struct Process {
    id: u32,
    parent: u32,
    name: String,
    zombie: bool,
}

/// Every process below this one.
fn descendants() -> Vec<Process> {
    let mut all = Vec::new();
    for id in crate::process::all() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        // The name is in parentheses and may hold anything, parentheses too.
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
            continue;
        };
        let mut fields = stat[close + 1..].split_whitespace();
        let (Some(state), Some(parent)) = (
            fields.next(),
            fields.next().and_then(|field| field.parse().ok()),
        ) else {
            continue;
        };
        all.push(Process {
            id,
            parent,
            name: stat[open + 1..close].to_owned(),
            zombie: state == "Z",
        });
    }
    let mut below = BTreeSet::from([std::process::id()]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|p| below.contains(&p.parent) && !below.contains(&p.id))
            .map(|p| p.id)
            .collect();
        if more.is_empty() {
            break;
        }
        below.extend(more);
    }
    all.retain(|process| process.id != std::process::id() && below.contains(&process.id));
    all
}

/// An orphan that became ours and ended: init would do this.
fn reap(id: u32) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // Somebody else's wait may have been first.
        waitpid(Some(id), WaitOptions::NOHANG).ok();
    }
}

/// The top of every cgroup hierarchy of this machine.
pub fn cgroup_trees() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

pub(crate) fn remove_cgroups(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    fs::remove_dir(path).ok();
}

/// Every directory at and below a path.
pub fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    if path.is_dir() {
        visit(path);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

/// Everything below a path.
fn walk_files(path: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk_files(&entry.path(), visit);
        }
    }
}
