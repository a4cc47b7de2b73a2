//! The two mounts that Skiff keeps on a node with many: the namespace that containers are made from
//! (`skiff_sandbox::slim`). Everything else that is mounted for a container is in the container only.

use std::path::{Path, PathBuf};

use super::Finding;
use super::containerd::Process;

/// `NSFS_MAGIC` of `linux/magic.h`: the file system of namespace files.
const NSFS: i64 = 0x6e73_6673;

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The file that the namespace hangs on.
    pub file: PathBuf,
    /// Whether one does.
    pub there: bool,
}

/// Where shims of this containerd keep what lives as long as the node runs.
pub fn run_directory(process: Option<&Process>) -> PathBuf {
    process
        .and_then(|process| process.environment.as_ref()?.get("SKIFF_RUN_DIR"))
        .map_or_else(|| PathBuf::from("/run/skiff"), PathBuf::from)
}

/// Looks.
pub fn gather(run: &Path) -> Facts {
    let file = run.join("mounts/namespace");
    let there = rustix::fs::statfs(&file).is_ok_and(|found| found.f_type == NSFS);
    Facts { file, there }
}

/// Nothing to say of a node that has none.
pub fn judge(facts: &Facts) -> Option<Finding> {
    facts.there.then(|| {
        Finding::ok(
            "mounts.slim",
            format!(
                "mount namespace that containers are made from, since this node has many mounts: {0}; \
                 `umount {0} {1}` removes it, and the next container makes it anew",
                facts.file.display(),
                facts.file.parent().unwrap_or(&facts.file).display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut facts = gather(directory.path());
        assert!(!facts.there);
        assert_eq!(judge(&facts), None);
        std::fs::create_dir(directory.path().join("mounts")).unwrap();
        std::fs::write(directory.path().join("mounts/namespace"), "").unwrap();
        assert!(!gather(directory.path()).there, "a plain file is none");
        facts.there = true;
        let finding = judge(&facts).unwrap().finding;
        assert!(finding.contains("mounts/namespace"), "{finding}");
    }
}
