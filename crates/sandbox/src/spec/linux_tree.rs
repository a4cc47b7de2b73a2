//! What Linux programs see in a container of a Wasm guest: the spec's mounts, all of them.
//!
//! The guest has the root and the volumes ([`super::mounts`]), with flags that keep programs and devices out. Here is
//! the difference: those flags are taken off again, as far as neither the spec nor the node has them set, and what is
//! left out for a guest is put in.

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceType, Mount, Spec};

use super::mounts::{GUEST, Options, destination, field, is_bind, is_left_out};
use super::{Joiner, Refusal};
use crate::plan::{Content, Device, JoinProcess, LinuxTree, Namespace, Place, Plan, Slot};
use crate::sys::mount::attribute;

/// Character devices that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The plan of a process that makes the tree, and then has nothing left to do: its mount namespace is what is wanted.
/// As with [`Joiner`], slot 0 is the container's pidfd; the directories of its cgroup follow, which are called
/// `cgroups` ([`crate::cgroup::Cgroup::places`]).
///
/// `flags_of`: the mount flags that a volume's source has on the node.
///
/// # Errors
/// A mount or a device makes no sense, or cannot be had beside a guest.
pub fn linux_tree(
    spec: &Spec,
    joiner: &Joiner,
    cgroups: &[String],
    flags_of: &dyn Fn(&Path) -> u64,
) -> Result<Plan, Refusal> {
    let missing = || Refusal::new("linux", "is missing");
    let linux = spec.linux().as_ref().ok_or_else(missing)?;
    let mut tree = LinuxTree {
        masked: linux.masked_paths().clone().unwrap_or_default(),
        read_only_paths: linux.readonly_paths().clone().unwrap_or_default(),
        read_only: spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly)
            .unwrap_or(false),
        ..LinuxTree::default()
    };
    for mount in spec.mounts().iter().flatten() {
        let at = destination(mount)?;
        let what = content(mount, &at, cgroups, flags_of)?;
        tree.places.extend(what.map(|what| Place { at, what }));
    }
    let character = |(name, major, minor): (&str, u32, u32)| Device {
        path: format!("/dev/{name}"),
        mode: libc::S_IFCHR | 0o666,
        major,
        minor,
        uid: 0,
        gid: 0,
    };
    tree.devices = linux
        .devices()
        .iter()
        .flatten()
        .map(device)
        .collect::<Result<_, _>>()?;
    tree.devices.extend(DEVICES.map(character));
    let kinds = joiner
        .plan
        .join_process
        .map_or_else(Default::default, |container| container.kinds);
    Ok(Plan {
        join_process: Some(JoinProcess {
            from: Joiner::CONTAINER,
            // Made with the node's rights: what is mounted in a user namespace could show less.
            kinds: kinds.without(Namespace::User),
        }),
        linux_tree: Some(tree),
        working_directory: "/".to_owned(),
        ..Plan::default()
    })
}

fn content(
    mount: &Mount,
    at: &str,
    cgroups: &[String],
    flags_of: &dyn Fn(&Path) -> u64,
) -> Result<Option<Content>, Refusal> {
    let typ = mount.typ().as_deref().unwrap_or_default();
    let words = mount.options().as_deref().unwrap_or_default();
    let bind = is_bind(mount);
    let options = Options::parse(words, bind, &field(at))?;
    if !is_left_out(mount, at) {
        let source = mount.source().as_deref().filter(|_| bind);
        let on_node = source.map_or(0, flags_of);
        return Ok(Some(Content::Guests {
            recursive: bind && options.recursive,
            clear: GUEST & !options.change.set & !on_node,
        }));
    }
    if bind {
        // A volume at a place of the kernel's, which the guest has not been given either.
        return Ok(None);
    }
    let attributes = options.change.set;
    Ok(Some(match typ {
        "cgroup" | "cgroup2" => Content::Cgroup {
            directories: cgroups
                .iter()
                .zip(Joiner::CONTAINER.0 + 1..)
                .map(|(name, slot)| (name.clone(), Slot(slot)))
                .collect(),
            attributes,
        },
        fstype => Content::New {
            fstype: fstype.to_owned(),
            options: options.data,
            attributes,
        },
    }))
}

fn device(device: &oci_spec::runtime::LinuxDevice) -> Result<Device, Refusal> {
    let path = device.path().display().to_string();
    let refused = |reason: &str| Refusal::new(format!("linux.devices[{path}]"), reason);
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => return Err(refused("has the type a, which is none of a file")),
    };
    let number =
        |number: i64| u32::try_from(number).map_err(|_| refused("has a number below zero"));
    if !path.starts_with('/') || path.contains('\0') {
        return Err(refused("has a path that is not absolute"));
    }
    Ok(Device {
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: number(device.major())?,
        minor: number(device.minor())?,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

/// Mount flags of a `statvfs` answer, as far as a guest's tree has them too.
pub fn flags_on_node(path: &Path) -> u64 {
    use rustix::fs::StatVfsMountFlags as Flags;
    // Not there any more: then nothing is taken off.
    let Ok(found) = rustix::fs::statvfs(path) else {
        return GUEST;
    };
    [
        (Flags::NOSUID, attribute::NO_SUID),
        (Flags::NODEV, attribute::NO_DEV),
        (Flags::NOEXEC, attribute::NO_EXEC),
    ]
    .into_iter()
    .filter(|(flag, _)| found.f_flag.contains(*flag))
    .fold(0, |all, (_, bit)| all | bit)
}
