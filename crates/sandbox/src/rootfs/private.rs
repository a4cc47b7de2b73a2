//! Several mounts of a root put together where the node does not see it.
//!
//! A thread of its own takes a copy of the mount namespace, mounts there as containerd's own library would,
//! hands out a detached clone of the result and ends; the namespace ends with it, whatever happened.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use super::options::{self, Options};
use super::{ContainerdMount, RootfsError, file_system, layers, open_directory};
use crate::plan::Propagation;
use crate::sys::mount::{self, attribute};
use crate::sys::{path, process};

/// `mount(2)` takes options of one page, their end included.
const PAGE: usize = 4096;

/// Mounts `mounts` on `place` one after the other; answers a detached clone of what is seen there then.
pub(super) fn assemble(mounts: &[ContainerdMount], place: &Path) -> Result<OwnedFd, RootfsError> {
    let failed = |step| move |source| RootfsError::Private { step, source };
    std::fs::create_dir_all(place).map_err(failed("make the rootfs directory of the bundle"))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("rootfs".to_owned())
            .spawn_scoped(scope, || {
                process::unshare_mounts_of_thread().map_err(failed("make a mount namespace"))?;
                mount::change_all_propagation(Propagation::Private)
                    .map_err(failed("separate a mount namespace"))?;
                for mount in mounts {
                    add(mount, place)?;
                }
                let tree = mount::clone_path(place, true).map_err(failed("clone the mounts"))?;
                super::separate(&tree).map_err(failed("separate the mounts"))?;
                Ok(tree)
            })
            .map_err(failed("start a thread"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed("finish the thread")(io::ErrorKind::Other.into())))
    })
}

fn add(mount: &ContainerdMount, place: &Path) -> Result<(), RootfsError> {
    let on_target = |source| RootfsError::Target {
        fstype: mount.fstype.clone(),
        target: mount.target.clone(),
        source,
    };
    let at = find(mount, place).map_err(on_target)?;
    let mapped = layers::map(mount, &at)?;
    let mount = mapped.as_ref().unwrap_or(mount);
    // Over the layers, if they are there.
    let at = find(mount, place).map_err(on_target)?;
    let detached = match file_system::detached(mount) {
        Err(RootfsError::Mount { source, .. }) if file_system::is_unknown_to_kernel(&source) => {
            None
        }
        other => other?,
    };
    if let Some(tree) = detached {
        return mount::attach(tree.as_fd(), at.as_fd()).map_err(on_target);
    }
    let options = options::parse(mount)?;
    let failed = |source: io::Error| file_system::failure(mount, source);
    if options.maps.is_some() {
        // Only what is not attached yet can be mapped.
        return Err(RootfsError::Ids {
            path: PathBuf::from(&mount.source),
            source: rustix::io::Errno::OPNOTSUPP.into(),
        });
    }
    mount_by_path(mount, &options, &at).map_err(failed)?;
    let mounted = find(mount, place).map_err(on_target)?;
    file_system::finish(&mounted, &options).map_err(failed)
}

/// The place for `mount`: on top of whatever was mounted there before.
fn find(mount: &ContainerdMount, place: &Path) -> io::Result<OwnedFd> {
    let root = open_directory(place)?;
    if mount.target.is_empty() {
        return Ok(root);
    }
    path::open_in_root(root.as_fd(), Path::new(&mount.target), OFlags::PATH)
}

/// With `mount(2)`, as before the mount API; only for types, binds never come here.
fn mount_by_path(mount: &ContainerdMount, options: &Options, at: &OwnedFd) -> io::Result<()> {
    let device = file_system::loop_device(mount, options)?;
    let source = device
        .as_ref()
        .map_or(mount.source.as_str(), |device| device.path());
    let data = std::ffi::CString::new(fit(&options.data)?)?;
    let target = path::through_proc(at.as_fd());
    let flags = mount_flags(options);
    Ok(rustix::mount::mount(
        source,
        target.as_path(),
        mount.fstype.as_str(),
        flags,
        Some(data.as_c_str()),
    )?)
}

fn mount_flags(options: &Options) -> MountFlags {
    let attributes = [
        (attribute::READ_ONLY, MountFlags::RDONLY),
        (attribute::NO_SUID, MountFlags::NOSUID),
        (attribute::NO_DEV, MountFlags::NODEV),
        (attribute::NO_EXEC, MountFlags::NOEXEC),
        (attribute::NO_ATIME, MountFlags::NOATIME),
        (attribute::STRICT_ATIME, MountFlags::STRICTATIME),
        (attribute::NO_DIR_ATIME, MountFlags::NODIRATIME),
    ];
    let of_mount = attributes
        .into_iter()
        .filter(|(bit, _)| options.change.set & bit != 0)
        .map(|(_, flag)| flag);
    let of_file_system = options
        .super_flags
        .iter()
        .filter_map(|flag| match flag.as_str() {
            "ro" => Some(MountFlags::RDONLY),
            "sync" => Some(MountFlags::SYNCHRONOUS),
            "dirsync" => Some(MountFlags::DIRSYNC),
            "lazytime" => Some(MountFlags::LAZYTIME),
            _ => None,
        });
    of_mount
        .chain(of_file_system)
        .fold(MountFlags::empty(), |all, flag| all | flag)
}

/// The options as one string. Lower directories that do not fit a page are made relative to the directory
/// that they share, to which the thread then changes.
fn fit(data: &[String]) -> io::Result<String> {
    let whole = data.join(",");
    if whole.len() < PAGE {
        return Ok(whole);
    }
    let Some((index, layers)) = data
        .iter()
        .enumerate()
        .find_map(|(index, option)| Some((index, option.strip_prefix("lowerdir=")?)))
    else {
        return Err(too_long());
    };
    let (shared, relative) = shorten(layers).ok_or_else(too_long)?;
    let mut data = data.to_vec();
    data[index] = format!("lowerdir={relative}");
    let whole = data.join(",");
    if whole.len() >= PAGE {
        return Err(too_long());
    }
    // The working directory is the thread's own since it left the shim's mount namespace.
    rustix::process::chdir(shared.as_path())?;
    Ok(whole)
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::ArgumentListTooLong,
        "the options do not fit one page; a kernel from 6.8 on takes any number of layers",
    )
}

/// The longest directory that all layers are below, and the layers relative to it.
fn shorten(layers: &str) -> Option<(PathBuf, String)> {
    let layers: Vec<&Path> = layers.split(':').map(Path::new).collect();
    let mut shared = layers.first()?.parent()?;
    while !layers
        .iter()
        .all(|layer| layer.starts_with(shared) && *layer != shared)
    {
        shared = shared.parent()?;
    }
    let relative: Option<Vec<&str>> = layers
        .iter()
        .map(|layer| layer.strip_prefix(shared).ok().and_then(Path::to_str))
        .collect();
    Some((shared.to_owned(), relative?.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shortened_by_what_they_share() {
        let (shared, relative) =
            shorten("/var/lib/s/10/fs:/var/lib/s/9/fs:/var/lib/s/1/fs").unwrap();
        assert_eq!(
            (shared.as_path(), relative.as_str()),
            (Path::new("/var/lib/s"), "10/fs:9/fs:1/fs")
        );
        let (shared, relative) = shorten("/a/b:/a/b/c").unwrap();
        assert_eq!(
            (shared.as_path(), relative.as_str()),
            (Path::new("/a"), "b:b/c")
        );
    }

    #[test]
    fn layers_of_more_than_a_page_are_mounted_as_older_kernels_take_them() {
        assert!(rustix::process::getuid().is_root(), "this test needs root");
        let directory = tempfile::tempdir().unwrap();
        let layers: Vec<String> = (0..120)
            .map(|number| {
                let layer = directory
                    .path()
                    .join(format!("snapshots-of-a-long-name/{number}/fs"));
                std::fs::create_dir_all(&layer).unwrap();
                std::fs::write(layer.join(format!("own-{number}")), "").unwrap();
                layer.display().to_string()
            })
            .collect();
        let place = directory.path().join("rootfs");
        std::fs::create_dir(&place).unwrap();
        let mount = ContainerdMount {
            fstype: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec![
                "index=off".to_owned(),
                format!("lowerdir={}", layers.join(":")),
            ],
        };
        assert!(mount.options[1].len() > PAGE);
        let names = std::thread::spawn(move || {
            process::unshare_mounts_of_thread().unwrap();
            mount::change_all_propagation(Propagation::Private).unwrap();
            let options = options::parse(&mount).unwrap();
            mount_by_path(&mount, &options, &open_directory(&place).unwrap()).unwrap();
            std::fs::read_dir(&place).unwrap().count()
        });
        assert_eq!(names.join().unwrap(), 120);
        assert_eq!(
            std::fs::read_dir(directory.path().join("rootfs"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn options_that_fit_are_left_alone() {
        let data = ["lowerdir=/a:/b".to_owned(), "index=off".to_owned()];
        assert_eq!(fit(&data).unwrap(), "lowerdir=/a:/b,index=off");
    }
}
