//! What the option strings of a mount mean: flags of the mount, of the file system, and its own data.

use std::borrow::Cow;

use crate::plan::Propagation;
use crate::rootfs::{ContainerdMount, RootfsError};
use crate::sys::mount::{Change, attribute};
use crate::user::{Map, Maps};

/// The options of one mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `bind` or `rbind`.
    pub(super) bind: bool,
    /// `rbind`: with the mounts below.
    pub(super) recursive_bind: bool,
    /// Flags of this mount.
    pub(super) change: Change,
    /// Flags of this mount and of all below (`rro`, `rnosuid`, …).
    pub(super) recursive_change: Change,
    /// Propagation, and whether it is that of all mounts below too.
    pub(super) propagation: Option<(Propagation, bool)>,
    /// Flags of the file system that the kernel takes for any type: `ro`, `sync`, `dirsync`, ….
    pub(super) super_flags: Vec<String>,
    /// The source is a file, to be seen as a block device.
    pub(super) on_loop_device: bool,
    /// The type's own options, in order.
    pub(super) data: Vec<String>,
    /// How its ids are shown, if not as they are; of an overlay, those of its lower layers.
    pub(super) maps: Option<Maps>,
}

impl Options {
    /// Whether the mount is read-only.
    pub(super) fn is_read_only(&self) -> bool {
        self.change.set & attribute::READ_ONLY != 0
    }
}

/// Reads the options of `mount`. The last one wins where two say the opposite.
pub(super) fn parse(mount: &ContainerdMount) -> Result<Options, RootfsError> {
    let recursive_bind = mount.fstype == "rbind";
    let mut options = Options {
        bind: mount.fstype == "bind" || recursive_bind,
        recursive_bind,
        ..Options::default()
    };
    let refused = |option: &String, reason| RootfsError::Option {
        fstype: mount.fstype.clone(),
        option: option.clone(),
        reason,
    };
    let (mut users, mut groups) = (None, None);
    for option in &mount.options {
        let (place, text) = match option.split_once('=') {
            Some(("uidmap", text)) => (&mut users, text),
            Some(("gidmap", text)) => (&mut groups, text),
            _ => {
                parse_one(&mut options, option)
                    .map_err(|reason| refused(option, Cow::Borrowed(reason)))?;
                continue;
            }
        };
        let map = text.parse::<Map>();
        let map = map.map_err(|error| refused(option, Cow::Owned(format!("it {error}"))))?;
        *place = Some((option, map));
    }
    options.maps = match (users, groups) {
        (Some((_, users)), Some((_, groups))) => Some(Maps { users, groups }),
        (None, None) => None,
        (Some((option, _)), None) | (None, Some((option, _))) => {
            let reason = "ids are mapped with both a uidmap and a gidmap";
            return Err(refused(option, Cow::Borrowed(reason)));
        }
    };
    Ok(options)
}

fn parse_one(options: &mut Options, option: &str) -> Result<(), &'static str> {
    if let Some((change, recursive)) = flag(option) {
        let all = if recursive {
            &mut options.recursive_change
        } else {
            &mut options.change
        };
        all.set = all.set & !change.clear | change.set;
        all.clear |= change.clear;
        if option == "ro" {
            options.super_flags.retain(|flag| flag != "rw");
            options.super_flags.push("ro".to_owned());
        } else if option == "rw" {
            options.super_flags.retain(|flag| flag != "ro");
        }
        return Ok(());
    }
    if let Some(propagation) = Propagation::from_mount_option(option) {
        options.propagation = Some(propagation);
        return Ok(());
    }
    match option {
        "" | "defaults" | "async" | "nomand" | "mand" | "norelatime" | "loud" | "silent" => {}
        "bind" => options.bind = true,
        "rbind" => {
            options.bind = true;
            options.recursive_bind = true;
        }
        "sync" | "dirsync" | "lazytime" | "nolazytime" | "iversion" => {
            options.super_flags.push(option.to_owned());
        }
        "loop" => options.on_loop_device = true,
        "remount" => return Err("a root is always mounted anew"),
        // Instructions of containerd to itself.
        _ if option.starts_with("X-") || option.starts_with("x-") => {}
        _ => options.data.push(option.to_owned()),
    }
    Ok(())
}

/// A flag of a mount; whether it is for the mounts below too.
fn flag(option: &str) -> Option<(Change, bool)> {
    let (name, recursive) = match option.strip_prefix('r') {
        Some(
            name @ ("ro" | "rw" | "suid" | "nosuid" | "dev" | "nodev" | "exec" | "noexec" | "atime"
            | "noatime"),
        ) => (name, true),
        Some(
            name @ ("diratime" | "nodiratime" | "relatime" | "norelatime" | "strictatime"
            | "nostrictatime"),
        ) => (name, true),
        Some(name @ ("symfollow" | "nosymfollow")) => (name, true),
        _ => (option, false),
    };
    let set = Change::set;
    let clear = |clear| Change {
        set: 0,
        clear,
        propagation: None,
    };
    let atime = |mode| Change {
        set: mode,
        clear: attribute::ATIME,
        propagation: None,
    };
    let change = match name {
        "ro" => set(attribute::READ_ONLY),
        "rw" => clear(attribute::READ_ONLY),
        "nosuid" => set(attribute::NO_SUID),
        "suid" => clear(attribute::NO_SUID),
        "nodev" => set(attribute::NO_DEV),
        "dev" => clear(attribute::NO_DEV),
        "noexec" => set(attribute::NO_EXEC),
        "exec" => clear(attribute::NO_EXEC),
        "nodiratime" => set(attribute::NO_DIR_ATIME),
        "diratime" => clear(attribute::NO_DIR_ATIME),
        "nosymfollow" => set(attribute::NO_SYMLINKS),
        "symfollow" => clear(attribute::NO_SYMLINKS),
        "noatime" => atime(attribute::NO_ATIME),
        "strictatime" => atime(attribute::STRICT_ATIME),
        "atime" | "relatime" | "nostrictatime" => atime(attribute::RELATIVE_ATIME),
        _ => return None,
    };
    Some((change, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Options {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        parse(&ContainerdMount {
            fstype: "ext4".to_owned(),
            options,
            ..ContainerdMount::default()
        })
        .unwrap()
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let options = parsed(&["ro", "nosuid", "rbind", "index=off", "rslave", "sync"]);
        assert!(options.bind && options.recursive_bind && options.is_read_only());
        assert_eq!(
            options.change.set,
            attribute::READ_ONLY | attribute::NO_SUID
        );
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(options.data, ["index=off"]);
        assert_eq!(options.super_flags, ["ro", "sync"]);
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        assert!(!parsed(&["ro", "rw"]).is_read_only());
        assert_eq!(parsed(&["ro", "rw"]).super_flags, Vec::<String>::new());
        assert!(parsed(&["rw", "ro"]).is_read_only());
        assert_eq!(
            parsed(&["noatime", "strictatime"]).change.set,
            attribute::STRICT_ATIME
        );
        assert_eq!(parsed(&["noatime", "relatime"]).change.set, 0);
    }

    #[test]
    fn recursive_flags_are_kept_apart() {
        let options = parsed(&["rro", "rnosuid", "nodev"]);
        assert_eq!(
            options.recursive_change.set,
            attribute::READ_ONLY | attribute::NO_SUID
        );
        assert_eq!(options.change.set, attribute::NO_DEV);
        // Words that begin with r and are no recursive flags.
        assert_eq!(parsed(&["relatime"]).change.clear, attribute::ATIME);
        assert!(parsed(&["redirect_dir=on"]).data == ["redirect_dir=on"]);
    }

    #[test]
    fn maps_of_ids_are_read_or_refused_by_name() {
        let parse = |options: &[&str]| {
            parse(&ContainerdMount {
                fstype: "overlay".to_owned(),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                ..ContainerdMount::default()
            })
        };
        let maps = parse(&["uidmap=0:1000:10,10:5000:1", "index=off", "gidmap=0:7:1"])
            .unwrap()
            .maps
            .unwrap();
        assert_eq!(maps.users.outside(10), Some(5000));
        assert_eq!(maps.groups.outside(0), Some(7));
        for (options, words) in [
            (&["uidmap=0:1000:1"][..], "uidmap=0:1000:1"),
            (&["uidmap=0:1:2,1:5:1", "gidmap=0:1:1"], "overlap"),
            (
                &["uidmap=x", "gidmap=0:1:1"],
                "\"x\", which is not of the form",
            ),
        ] {
            let error = parse(options).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
