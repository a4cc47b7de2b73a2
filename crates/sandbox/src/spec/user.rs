//! The user namespace of a container, and who is who in it.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, Mount};

use super::Refusal;
use super::namespaces::Namespaces;
use crate::plan::{Identity, Namespace};
use crate::user::{Map, Maps, Range};

/// A user namespace that is not the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Where it comes from.
    pub from: UserSource,
    /// What is entered before it, with the node's rights. A pid namespace is the launch's business, one of time the
    /// process's own.
    pub join: Vec<(Namespace, PathBuf)>,
    /// As [`crate::plan::Plan::oom_score_adj`], which takes the node's rights too.
    pub oom_score_adj: Option<i32>,
}

/// Where a user namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// Made for the container.
    New(Maps),
    /// Another's.
    Join {
        /// Its file.
        path: PathBuf,
        /// What the spec says of its maps.
        maps: Option<Maps>,
    },
}

impl UserSource {
    /// The maps, as far as the spec has them.
    fn maps(&self) -> Option<&Maps> {
        match self {
            Self::New(maps) => Some(maps),
            Self::Join { maps, .. } => maps.as_ref(),
        }
    }
}

/// What the spec says of user namespaces. Takes what is to be entered before one out of `namespaces`.
pub(super) fn user(linux: &Linux, namespaces: &mut Namespaces) -> Result<Option<User>, Refusal> {
    let maps = maps(
        "linux",
        linux.uid_mappings().as_deref(),
        linux.gid_mappings().as_deref(),
    )?;
    let is_new = namespaces.new.contains(Namespace::User);
    if !is_new && !namespaces.joins(Namespace::User) {
        return match maps {
            None => Ok(None),
            Some(_) => Err(Refusal::new(
                "linux.uidMappings",
                "are set, but linux.namespaces has no user namespace to map ids in",
            )),
        };
    }
    let (stay, mut join): (Vec<_>, Vec<_>) = namespaces
        .joined
        .drain(..)
        .partition(|(kind, _)| matches!(kind, Namespace::Pid | Namespace::Time));
    namespaces.joined = stay;
    namespaces.new = namespaces.new.without(Namespace::User);
    let position = join.iter().position(|(kind, _)| *kind == Namespace::User);
    let from = match (position.map(|position| join.remove(position)), maps) {
        (Some((_, path)), maps) => UserSource::Join { path, maps },
        (None, Some(maps)) => UserSource::New(maps),
        (None, None) => {
            return Err(Refusal::new(
                "linux.namespaces[user]",
                "asks for a new user namespace, but linux.uidMappings and linux.gidMappings, which say what its ids are, are missing",
            ));
        }
    };
    Ok(Some(User {
        from,
        join,
        oom_score_adj: None,
    }))
}

/// Refuses ids that the maps of the spec do not have: the process could not become them.
pub(super) fn check_identity(user: &User, identity: &Identity) -> Result<(), Refusal> {
    let Some(maps) = user.from.maps() else {
        return Ok(());
    };
    for (map, name) in [(&maps.users, "uid"), (&maps.groups, "gid")] {
        if map.outside(0).is_none() {
            return Err(Refusal::new(
                format!("linux.{name}Mappings"),
                "have no range with 0, the root that sets the container up",
            ));
        }
    }
    let refused = |field: &str, id: u32, maps: &str| {
        Err(Refusal::new(
            field,
            format!("is {id}, which linux.{maps} do not map"),
        ))
    };
    if maps.users.outside(identity.uid).is_none() {
        return refused("process.user.uid", identity.uid, "uidMappings");
    }
    if maps.groups.outside(identity.gid).is_none() {
        return refused("process.user.gid", identity.gid, "gidMappings");
    }
    let mut groups = identity.groups.iter();
    match groups.find(|group| maps.groups.outside(**group).is_none()) {
        Some(group) => refused("process.user.additionalGids", *group, "gidMappings"),
        None => Ok(()),
    }
}

/// The maps of a mount's own, if it has any.
pub(super) fn of_mount(mount: &Mount, field: &str) -> Result<Option<Maps>, Refusal> {
    maps(
        field,
        mount.uid_mappings().as_deref(),
        mount.gid_mappings().as_deref(),
    )
}

fn maps(
    field: &str,
    users: Option<&[LinuxIdMapping]>,
    groups: Option<&[LinuxIdMapping]>,
) -> Result<Option<Maps>, Refusal> {
    let (users, groups) = (users.unwrap_or_default(), groups.unwrap_or_default());
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    let checked = |name: &str, ranges: &[LinuxIdMapping]| {
        let map = Map(ranges
            .iter()
            .map(|range| Range {
                inside: range.container_id(),
                outside: range.host_id(),
                count: range.size(),
            })
            .collect());
        // "has …" of a map.
        map.check()
            .map_err(|error| Refusal::new(format!("{field}.{name}"), error.to_string()))?;
        Ok(map)
    };
    Ok(Some(Maps {
        users: checked("uidMappings", users)?,
        groups: checked("gidMappings", groups)?,
    }))
}
