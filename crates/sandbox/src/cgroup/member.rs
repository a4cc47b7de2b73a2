//! Which cgroup a process is in, when somebody else has made it.

use std::path::Path;

use super::directory::{Directory, write};
use super::{Cgroup, CgroupError, Hierarchy, Layout, layout};

impl Cgroup {
    /// The cgroup of a process that another runtime has put there. Directories that it did not make for the process,
    /// where the process is in the caller's cgroup or in none, are no part of it: what is done to the cgroup must
    /// meet nobody else.
    ///
    /// # Errors
    /// The process is gone, or has no cgroup of its own.
    pub fn of_process(pid: u32, layout: &Layout) -> Result<Self, CgroupError> {
        let paths = layout::paths_of(pid)?;
        let own = |hierarchy: &Hierarchy, controller: &str| {
            let path = layout::own_of(&paths, controller);
            let inside = path.trim_start_matches('/');
            let directory = hierarchy.mount.join(inside);
            let theirs = !inside.is_empty()
                && !inside.split('/').any(|part| part == "..")
                && !hierarchy.own.starts_with(&directory);
            theirs.then_some(directory)
        };
        let directories: Vec<Directory> = layout
            .hierarchies
            .iter()
            .filter_map(|hierarchy| {
                let controllers = hierarchy.controllers.clone();
                let path = own(hierarchy, controllers.first()?)?;
                Some(Directory { controllers, path })
            })
            .collect();
        let unified = layout.unified.as_ref().and_then(|tree| own(tree, ""));
        if directories.is_empty() && unified.is_none() {
            return Err(CgroupError::Unsupported(
                "the process has no cgroup of its own",
            ));
        }
        Ok(Self {
            directories,
            unified,
            controllers: layout.unified_controllers(),
            scope: None,
        })
    }

    /// Moves the calling process, which must have one thread, into the cgroup, on those hierarchies that have it.
    ///
    /// # Errors
    /// No hierarchy has it, or the kernel refuses.
    pub fn join(&self) -> Result<(), CgroupError> {
        let there: Vec<&Path> = self.paths().filter(|path| path.is_dir()).collect();
        if there.is_empty() {
            let first = self.paths().next().unwrap_or_else(|| Path::new("/"));
            return Err(CgroupError::io("find the cgroup", first)(
                std::io::ErrorKind::NotFound.into(),
            ));
        }
        for path in there {
            let file = path.join("cgroup.procs");
            write(&file, "0").map_err(CgroupError::io("join the cgroup by", file))?;
        }
        Ok(())
    }

    /// Whether a process, which may have ended, is in this cgroup or below it.
    pub fn holds(&self, pid: u32, layout: &Layout) -> bool {
        let Ok(paths) = layout::paths_of(pid) else {
            return false;
        };
        let below = |directory: &Path, hierarchy: &Hierarchy, controller: &str| {
            let path = layout::own_of(&paths, controller);
            // What the kernel says of a directory that is gone.
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            let place = hierarchy.mount.join(path.trim_start_matches('/'));
            place.starts_with(directory)
        };
        let unified = self.unified.as_ref().zip(layout.unified.as_ref());
        match unified {
            Some((directory, tree)) => below(directory, tree, ""),
            None => self.directories.first().is_some_and(|directory| {
                let first = directory.controllers.first().map_or("", String::as_str);
                layout
                    .hierarchy(first)
                    .is_some_and(|hierarchy| below(&directory.path, hierarchy, first))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_put_nowhere_has_no_cgroup() {
        let layout = Layout::of_node().unwrap();
        Cgroup::of_process(std::process::id(), layout).unwrap_err();
        Cgroup::of_process(u32::MAX, layout).unwrap_err();
    }

    #[test]
    fn a_process_is_where_somebody_has_put_it() {
        // Needs root, and a hierarchy that can be written to.
        let layout = Layout::of_node().unwrap();
        let path = format!("/skiff-member-test-{}", std::process::id());
        let plan = crate::cgroup::CgroupPlan::new(&path);
        let Ok(made) = Cgroup::create(&plan, layout) else {
            println!("skipped: no cgroup can be made here");
            return;
        };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = child.id();
        assert!(!made.holds(id, layout));
        for directory in made.paths() {
            std::fs::write(directory.join("cgroup.procs"), id.to_string()).unwrap();
        }
        let found = Cgroup::of_process(id, layout).unwrap();
        assert_eq!(found, made);
        assert!(made.holds(id, layout) && !made.holds(std::process::id(), layout));
        child.kill().unwrap();
        // A zombie is where the process was.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(made.holds(id, layout));
        child.wait().unwrap();
        made.remove().unwrap();
    }
}
