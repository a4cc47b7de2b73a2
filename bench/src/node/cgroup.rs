//! The cgroups of a pod, above those of its containers: made and removed here, as a kubelet does, because what is
//! charged to a pod is read from them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use skiff_test::residue::cgroup_trees;

/// A directory in every hierarchy, or the one directory of v2.
#[derive(Debug)]
pub(crate) struct PodGroup {
    directories: Vec<PathBuf>,
}

impl PodGroup {
    /// Makes it at a path below the roots of the hierarchies.
    pub(crate) fn create(path: &str) -> Result<Self> {
        let mut group = Self {
            directories: Vec::new(),
        };
        for tree in cgroup_trees() {
            let mut directory = tree;
            for part in Path::new(path) {
                let above = directory.clone();
                directory.push(part);
                prepare(&above, &directory)
                    .with_context(|| format!("could not make {}", directory.display()))?;
            }
            group.directories.push(directory);
        }
        Ok(group)
    }

    /// Moves a process with all its threads into it.
    pub(crate) fn take(&self, process: u32) -> Result<()> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), process.to_string())
                .with_context(|| format!("could not move {process} to {}", directory.display()))?;
        }
        Ok(())
    }

    /// Removes it. Its containers' cgroups are gone by now; a process that is still ending holds its own for a moment.
    pub(crate) fn remove(&self) {
        for directory in &self.directories {
            for _ in 0..100 {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    // What stays is the residue probe's to find.
                    _ => break,
                }
            }
        }
    }

    /// Bytes of kernel memory that are charged to it now.
    pub(super) fn kernel_memory(&self) -> Option<f64> {
        self.number("memory.kmem.usage_in_bytes")
            .or_else(|| self.field("memory.stat", "kernel"))
    }

    /// The most bytes that were charged to it at once.
    pub(super) fn peak_memory(&self) -> Option<f64> {
        self.number("memory.max_usage_in_bytes")
            .or_else(|| self.number("memory.peak"))
    }

    /// Seconds of processor time that are charged to it.
    pub(super) fn processor_time(&self) -> Option<f64> {
        let nanoseconds = self.number("cpuacct.usage").map(|time| time / 1e9);
        nanoseconds.or_else(|| self.field("cpu.stat", "usage_usec").map(|time| time / 1e6))
    }

    fn number(&self, file: &str) -> Option<f64> {
        self.text(file)?.trim().parse().ok()
    }

    fn field(&self, file: &str, name: &str) -> Option<f64> {
        let text = self.text(file)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    fn text(&self, file: &str) -> Option<String> {
        self.directories
            .iter()
            .find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    }
}

/// Makes a directory that processes can be put into.
fn prepare(above: &Path, directory: &Path) -> std::io::Result<()> {
    // v2: controllers are handed down from level to level.
    if let Ok(controllers) = fs::read_to_string(above.join("cgroup.controllers")) {
        for controller in controllers.split_whitespace() {
            // One that is in use as v1 cannot be, and is not needed here.
            fs::write(
                above.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )
            .ok();
        }
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // v1: a cpuset is born without processors and takes no process then.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = directory.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
            && let Ok(text) = fs::read_to_string(above.join(file))
        {
            fs::write(own, text.trim())?;
        }
    }
    Ok(())
}
