//! What a Wasm guest's tree must not hold.
//!
//! A guest that opens `/proc/self/mem` of its engine host has left Wasm. So no kernel file system is in the
//! tree, whoever mounted it and wherever: every mount is looked at, not only those of the plan, since a
//! volume brings along what is mounted below it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::FileType;

use super::procfs::Proc;
use super::{ExecuteError, mountinfo};
use crate::plan::Attach;
use crate::sys::mount::{self, Change, attribute};
use crate::sys::path;

/// File systems by which the kernel, and not a disk, memory or a network, answers.
const KERNEL_FILE_SYSTEMS: &[&str] = &[
    "apparmorfs",
    "bdev",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "dax",
    "debugfs",
    "devpts",
    "devtmpfs",
    "drm",
    "efivarfs",
    "functionfs",
    "fusectl",
    "gadgetfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "openpromfs",
    "pidfs",
    "pipefs",
    "proc",
    "pstore",
    "pstore_blk",
    "resctrl",
    "rpc_pipefs",
    "s390_hypfs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sockfs",
    "spufs",
    "sysfs",
    "tracefs",
    "usbfs",
    "usbdevfs",
    "xenfs",
];

const NAMES_OF_FLAGS: [&str; 3] = ["nosuid", "nodev", "noexec"];

/// Refuses what is neither a directory nor a regular file before it is attached.
pub(super) fn check_source(tree: BorrowedFd<'_>, attach: &Attach) -> Result<(), ExecuteError> {
    let step = || format!("look at what is to be mounted at {}", attach.at);
    let what = match path::file_type(tree).map_err(ExecuteError::step(step))? {
        FileType::Directory | FileType::RegularFile => return Ok(()),
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Socket => "a socket",
        FileType::Fifo => "a named pipe",
        _ => "no file",
    };
    Err(ExecuteError::Refused(format!(
        "the volume at {} is {what}, and a Wasm guest can use directories and regular files only; \
         remove it from the pod",
        attach.at
    )))
}

/// Makes every mount nosuid, nodev and noexec, and refuses the tree for any kernel file system in it.
pub(super) fn confine(root: BorrowedFd<'_>, proc: &Proc) -> Result<(), ExecuteError> {
    let flags = Change::set(attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC);
    mount::change(root.as_fd(), flags, true).map_err(ExecuteError::step(
        || "make the guest's mounts nosuid, nodev and noexec",
    ))?;
    let text = proc
        .read(Path::new("self/mountinfo"))
        .map_err(ExecuteError::step(|| "read the list of the guest's mounts"))?;
    let Some(entries) = mountinfo::parse(&text) else {
        let sentence = "the kernel's list of the guest's mounts is not in the documented form";
        return Err(ExecuteError::Refused(sentence.to_owned()));
    };
    match entries.iter().find_map(objection) {
        Some(sentence) => Err(ExecuteError::Refused(sentence)),
        None if entries.is_empty() => Err(ExecuteError::Refused(
            "the kernel lists no mounts of the guest, not even its root".to_owned(),
        )),
        None => Ok(()),
    }
}

fn objection(entry: &mountinfo::Entry) -> Option<String> {
    let mountinfo::Entry {
        mount_point,
        fstype,
        ..
    } = entry;
    let object = if mount_point == "/" {
        "the root"
    } else {
        "the volume"
    };
    if KERNEL_FILE_SYSTEMS.contains(&fstype.as_str()) {
        return Some(format!(
            "{object} at {mount_point} is {fstype}, a kernel file system, which a Wasm guest must not reach; \
             remove it from the pod, or mount the directories that are needed instead of one above them"
        ));
    }
    let missing = NAMES_OF_FLAGS
        .iter()
        .find(|flag| !entry.options.iter().any(|option| option == *flag))?;
    Some(format!(
        "{object} at {mount_point} did not become {missing}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mount_point: &str, fstype: &str, options: &str) -> mountinfo::Entry {
        let line = format!("1 1 0:5 / {mount_point} {options} - {fstype} none rw\n");
        mountinfo::parse(&line).unwrap().remove(0)
    }

    #[test]
    fn every_kernel_file_system_is_refused_by_name() {
        for fstype in KERNEL_FILE_SYSTEMS {
            let sentence = objection(&entry("/data/x", fstype, "rw,nosuid,nodev,noexec")).unwrap();
            assert!(
                sentence.contains(&format!("the volume at /data/x is {fstype},")),
                "{sentence}"
            );
        }
    }

    #[test]
    fn ordinary_file_systems_are_fine_when_confined() {
        for fstype in [
            "overlay",
            "tmpfs",
            "ext4",
            "nfs4",
            "fuse.juicefs",
            "erofs",
            "9p",
        ] {
            assert_eq!(
                objection(&entry("/", fstype, "ro,nosuid,nodev,noexec,relatime")),
                None
            );
        }
        for options in [
            "rw",
            "rw,nosuid,nodev",
            "rw,nodev,noexec",
            "rw,nosuid,noexec",
        ] {
            assert!(
                objection(&entry("/", "ext4", options)).is_some(),
                "{options}"
            );
        }
    }

    #[test]
    fn the_list_is_sorted() {
        let mut sorted = KERNEL_FILE_SYSTEMS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), KERNEL_FILE_SYSTEMS.len());
    }
}
