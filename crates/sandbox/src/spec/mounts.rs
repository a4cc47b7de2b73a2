//! Mounts: which of the spec's a guest's tree has, and how each is made.
//!
//! A Wasm guest reaches nothing that it was not given, and no kernel file system at all. So of the spec's
//! mounts, its tree has the binds and the tmpfs, at their places. Left out, whatever the spec says, are
//!
//! * kernel file systems: proc, sysfs, cgroup, devpts, mqueue and their like;
//! * whatever would lie at or below `/proc` and `/sys`;
//! * the tmpfs at `/dev`: of `/dev` only what the pod mounts there (`/dev/shm`, `/dev/termination-log`) is seen;
//! * device nodes (`linux.devices`), masked and read-only paths (`linux.maskedPaths`, `linux.readonlyPaths`),
//!   which have nothing left to be made, masked or protected.
//!
//! Any other type of mount is refused by name. A pod's pause process, which reads no file at all, lives in
//! a tree of the same rules. Whether a bind brings a kernel file system or a device with it is seen only
//! when it is opened: by [`super::gather()`] and by the process itself.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::{Bind, MountIds, Refusal, Source, Tmpfs, user};
use crate::plan::Propagation;
use crate::sys::mount::{Change, attribute};

/// Everything in a guest's tree is so; no bit of an image is a privilege, a device or a program.
pub(super) const GUEST: u64 = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;

/// File systems through which the kernel itself is seen or changed.
const KERNEL: [&str; 18] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "devtmpfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "configfs",
    "pstore",
    "efivarfs",
    "fusectl",
    "binfmt_misc",
    "selinuxfs",
    "nsfs",
];

/// What to mount and where, in the spec's order.
/// `in_user`: the container has a user namespace.
pub(super) fn mounts(spec: &Spec, in_user: bool) -> Result<Vec<(String, Source)>, Refusal> {
    let mut mounts = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let at = destination(mount)?;
        if let Some(source) = source(mount, &at, in_user)? {
            mounts.push((at, source));
        }
    }
    Ok(mounts)
}

/// `rootfsPropagation` of the spec.
pub(super) fn root_propagation(value: Option<&str>) -> Result<Propagation, Refusal> {
    match value {
        None | Some("") => Ok(Propagation::Private),
        Some(word) => Propagation::from_mount_option(word)
            .map(|(propagation, _)| propagation)
            .ok_or_else(|| {
                Refusal::new(
                    "linux.rootfsPropagation",
                    format!("is {word:?}, which is no propagation mode"),
                )
            }),
    }
}

/// The destination without `.`, `..` and doubled slashes. `..` at the root stays there, as the kernel has it.
pub(super) fn destination(mount: &Mount) -> Result<String, Refusal> {
    let path = mount.destination();
    let bad = |reason: &str| Err(Refusal::new(field(&path.display().to_string()), reason));
    let Some(text) = path.to_str() else {
        return bad("has a destination that is not valid text");
    };
    if !text.starts_with('/') {
        return bad("has a destination that is not an absolute path");
    }
    if text.contains('\0') {
        return bad("has a NUL in its destination");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return bad("would hide the container's root");
    }
    Ok(format!("/{}", parts.join("/")))
}

pub(super) fn field(destination: &str) -> String {
    format!("mounts[{destination}]")
}

pub(super) fn is_bind(mount: &Mount) -> bool {
    let words = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind")
        || words.iter().any(|word| word == "bind" || word == "rbind")
}

/// Whether a guest has no such mount.
pub(super) fn is_left_out(mount: &Mount, at: &str) -> bool {
    let typ = mount.typ().as_deref().unwrap_or_default();
    let below = |directory: &str| Path::new(at).starts_with(directory);
    below("/proc")
        || below("/sys")
        || !is_bind(mount) && (KERNEL.contains(&typ) || at == "/dev" && typ == "tmpfs")
}

fn source(mount: &Mount, at: &str, in_user: bool) -> Result<Option<Source>, Refusal> {
    let field = field(at);
    let typ = mount.typ().as_deref().unwrap_or_default();
    let words = mount.options().as_deref().unwrap_or_default();
    let bind = is_bind(mount);
    if is_left_out(mount, at) {
        return Ok(None);
    }
    let options = Options::parse(words, bind, &field)?;
    let ids = ids(mount, options.map_ids, in_user, &field)?;
    if bind {
        let path = mount.source().as_ref().filter(|path| path.is_absolute());
        let Some(path) = path else {
            return Err(Refusal::new(
                field,
                "is a bind mount without an absolute path as its source",
            ));
        };
        return Ok(Some(Source::Bind(Bind {
            path: path.clone(),
            destination: at.to_owned(),
            recursive: options.recursive,
            change: options.change,
            recursive_change: options.recursive_change,
            propagation: options.propagation(),
            ids,
        })));
    }
    if ids.is_some() {
        let reason = "is to show its ids as others, which only bind mounts can";
        return Err(Refusal::new(field, reason));
    }
    if typ != "tmpfs" {
        let reason = format!("has the type {typ:?}; a container can have bind and tmpfs mounts");
        return Err(Refusal::new(field, reason));
    }
    Ok(Some(Source::Tmpfs(Tmpfs {
        destination: at.to_owned(),
        attributes: options.change.set | options.recursive_change.set,
        propagation: options.propagation(),
        options: options.data,
    })))
}

/// How the ids of a mount are shown. `recursive`: whether an option asks for it, and for the mounts below too.
///
/// A mount with maps and without the option has them without the mounts below, as with runc; containerd writes it so.
fn ids(
    mount: &Mount,
    recursive: Option<bool>,
    in_user: bool,
    field: &str,
) -> Result<Option<MountIds>, Refusal> {
    let maps = user::of_mount(mount, field)?;
    match (&maps, recursive) {
        (None, None) => Ok(None),
        (None, Some(_)) if !in_user => Err(Refusal::new(
            field,
            "is to show its ids as others, but neither it nor the container has maps for them",
        )),
        (_, recursive) => Ok(Some(MountIds {
            maps,
            recursive: recursive.unwrap_or(false),
        })),
    }
}

/// Mount options as runc and mount(8) have them; of contradictory ones the last wins.
pub(super) struct Options {
    pub(super) recursive: bool,
    pub(super) change: Change,
    recursive_change: Change,
    propagation: Option<(Propagation, bool)>,
    /// `idmap`, or with `true` `ridmap`.
    map_ids: Option<bool>,
    pub(super) data: Vec<(String, Option<String>)>,
}

impl Options {
    pub(super) fn parse(words: &[String], bind: bool, field: &str) -> Result<Self, Refusal> {
        let mut options = Self {
            recursive: false,
            change: Change::default(),
            recursive_change: Change::set(GUEST),
            propagation: None,
            map_ids: None,
            data: Vec::new(),
        };
        for word in words {
            let refused = |reason: &str| {
                Err(Refusal::new(
                    field,
                    format!("has the option {word:?}, {reason}"),
                ))
            };
            match word.as_str() {
                "" | "defaults" | "bind" | "async" | "loud" | "nomand" | "noiversion"
                | "nolazytime" | "norelatime" | "nostrictatime" | "noacl" | "rnorelatime" => {}
                "rbind" => options.recursive = true,
                "remount" => return refused("but there is nothing to mount again"),
                "tmpcopyup" => return refused("which is not supported"),
                "idmap" => options.map_ids = Some(false),
                "ridmap" => options.map_ids = Some(true),
                word if options.flag(word) => {}
                word if Propagation::from_mount_option(word).is_some() => {
                    options.propagation = Propagation::from_mount_option(word);
                }
                word if bind => {
                    return Err(Refusal::new(
                        field,
                        format!(
                            "has the option {word:?}, which is not known or does nothing on a bind mount"
                        ),
                    ));
                }
                word => {
                    let (key, value) = word
                        .split_once('=')
                        .map_or((word, None), |(key, value)| (key, Some(value.to_owned())));
                    options.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(options)
    }

    /// Takes a flag of the mount itself; with `r` in front of it, one of all mounts below as well.
    fn flag(&mut self, word: &str) -> bool {
        if let Some((set, bits)) = flag(word) {
            apply(&mut self.change, set, bits);
            return true;
        }
        if let Some((set, bits)) = word.strip_prefix('r').and_then(flag) {
            apply(&mut self.recursive_change, set, bits);
            if !set {
                // Said of all mounts, it is meant: `rrw` makes writable what the node has mounted read-only.
                self.recursive_change.clear |= bits & !GUEST;
            }
            return true;
        }
        if word == "rnostrictatime" {
            apply(&mut self.recursive_change, true, attribute::RELATIVE_ATIME);
            return true;
        }
        false
    }

    /// Mounts do not travel unless the spec says so. A clone of a shared mount is a peer of it at first:
    /// what a container mounts below it would appear on the node.
    fn propagation(&self) -> Option<(Propagation, bool)> {
        Some(self.propagation.unwrap_or((Propagation::Private, true)))
    }
}

/// `(to set, bits)`. A bit that is not set again by the spec stays as the source has it: `rw` does not
/// make a volume writable that the node has mounted read-only.
fn flag(word: &str) -> Option<(bool, u64)> {
    Some(match word {
        "ro" => (true, attribute::READ_ONLY),
        "rw" => (false, attribute::READ_ONLY),
        "nosuid" => (true, attribute::NO_SUID),
        "suid" => (false, attribute::NO_SUID),
        "nodev" => (true, attribute::NO_DEV),
        "dev" => (false, attribute::NO_DEV),
        "noexec" => (true, attribute::NO_EXEC),
        "exec" => (false, attribute::NO_EXEC),
        "nodiratime" => (true, attribute::NO_DIR_ATIME),
        "diratime" => (false, attribute::NO_DIR_ATIME),
        "nosymfollow" => (true, attribute::NO_SYMLINKS),
        "symfollow" => (false, attribute::NO_SYMLINKS),
        "noatime" => (true, attribute::NO_ATIME),
        "strictatime" => (true, attribute::STRICT_ATIME),
        "relatime" | "atime" => (true, attribute::RELATIVE_ATIME),
        _ => return None,
    })
}

fn apply(change: &mut Change, set: bool, bits: u64) {
    if bits & !attribute::ATIME == 0 {
        // One of three modes: the bits are cleared first.
        change.set = change.set & !attribute::ATIME | bits;
        change.clear |= attribute::ATIME;
    } else if set {
        change.set |= bits;
        change.clear &= !bits;
    } else {
        change.set &= !(bits & !GUEST);
    }
}
