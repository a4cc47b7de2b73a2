//! The user namespace of a container, and mounts that show their ids as others.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::super::{MountIds, Tmpfs, User, UserSource};
use super::{GatherError, open_namespace};
use crate::plan::Namespace;
use crate::sys::mount;
use crate::user::{self, Maps};

/// What a launch in a user namespace needs.
#[derive(Debug)]
pub struct OpenUser {
    /// The user namespace.
    pub namespace: OwnedFd,
    /// What is entered before it.
    pub join: Vec<(Namespace, OwnedFd)>,
    maps: Maps,
}

impl OpenUser {
    pub(super) fn open(user: &User) -> Result<Self, GatherError> {
        let (namespace, maps) = match &user.from {
            UserSource::New(maps) => {
                let namespace = user::make(maps).map_err(GatherError::NewUser)?;
                (namespace, maps.clone())
            }
            UserSource::Join { path, maps } => {
                let namespace = open_namespace(Namespace::User, path)?;
                let found =
                    user::maps_of(namespace.as_fd()).map_err(|source| GatherError::UserMaps {
                        path: path.clone(),
                        source,
                    })?;
                if maps.as_ref().is_some_and(|maps| !maps.same(&found)) {
                    return Err(GatherError::OtherMaps { path: path.clone() });
                }
                (namespace, found)
            }
        };
        let join = user
            .join
            .iter()
            .map(|(kind, path)| Ok((*kind, open_namespace(*kind, path)?)));
        Ok(Self {
            namespace,
            join: join.collect::<Result<_, GatherError>>()?,
            maps,
        })
    }

    /// The options of a tmpfs that the node's root makes for the namespace's: its owners are the node's ids.
    pub(super) fn tmpfs_options(
        &self,
        tmpfs: &Tmpfs,
    ) -> Result<Vec<(String, Option<String>)>, GatherError> {
        let mut options = tmpfs.options.clone();
        for (key, map) in [("uid", &self.maps.users), ("gid", &self.maps.groups)] {
            if !options.iter().any(|(name, _)| name == key) {
                options.push((key.to_owned(), Some("0".to_owned())));
            }
            for (_, value) in options.iter_mut().filter(|(name, _)| name == key) {
                let id = value.as_deref().and_then(|value| value.parse().ok());
                // The kernel has its own word for what is no number.
                let Some(id) = id else { continue };
                let outside = map.outside(id).ok_or_else(|| GatherError::TmpfsOwner {
                    destination: tmpfs.destination.clone(),
                    option: format!("{key}={id}"),
                })?;
                *value = Some(outside.to_string());
            }
        }
        Ok(options)
    }
}

/// The user namespaces from which mounts take their maps; one for each set of maps.
pub(super) struct Users<'a> {
    container: Option<&'a OpenUser>,
    made: Vec<(Maps, OwnedFd)>,
}

impl<'a> Users<'a> {
    pub(super) fn new(container: Option<&'a OpenUser>) -> Self {
        Self {
            container,
            made: Vec::new(),
        }
    }

    /// Shows the ids of a detached mount as others.
    pub(super) fn map(&mut self, tree: BorrowedFd<'_>, ids: &MountIds) -> io::Result<()> {
        mount::map_ids(tree, self.of(ids.maps.as_ref())?, ids.recursive)
    }

    fn of(&mut self, maps: Option<&Maps>) -> io::Result<BorrowedFd<'_>> {
        let own = self
            .container
            .filter(|user| maps.is_none_or(|maps| maps.same(&user.maps)));
        let Some(maps) = maps.filter(|_| own.is_none()) else {
            let own = own.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
            return Ok(own.namespace.as_fd());
        };
        let position = match self.made.iter().position(|(made, _)| made == maps) {
            Some(position) => position,
            None => {
                self.made.push((maps.clone(), user::make(maps)?));
                self.made.len() - 1
            }
        };
        Ok(self.made[position].1.as_fd())
    }
}
