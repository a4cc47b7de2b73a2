//! The lower layers of an overlay in a user namespace: each shows its ids as that namespace maps them.
//!
//! The image's files belong to the node's root, and appear as those of the container's root; the upper directory, which
//! the snapshotter has made for this container alone, has the container's ids on the disk. An overlay takes id-mapped
//! layers only from paths of the mounter's own namespace (kernels before 6.15), so they are attached where
//! [`super::private`] puts the root together, and the overlay is mounted over them: nobody else sees them.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;

use super::{ContainerdMount, RootfsError, options, separate};
use crate::sys::{mount, path};
use crate::user;

const LOWER: &str = "lowerdir=";

/// Whether this is an overlay whose layers are to be mapped.
pub(super) fn are_mapped(mount: &ContainerdMount) -> Result<bool, RootfsError> {
    Ok(mount.fstype == "overlay" && options::parse(mount)?.maps.is_some())
}

/// Attaches the layers, with mapped ids, to a small file system over `at`, which becomes the thread's working directory.
/// Answers the overlay's mount of those layers; `None` for any other mount.
pub(super) fn map(
    mount: &ContainerdMount,
    at: &OwnedFd,
) -> Result<Option<ContainerdMount>, RootfsError> {
    if !are_mapped(mount)? {
        return Ok(None);
    }
    let Some(maps) = options::parse(mount)?.maps else {
        return Ok(None);
    };
    let failed = |step| move |source| RootfsError::Private { step, source };
    let user = user::make(&maps).map_err(failed("make a user namespace"))?;
    let place = mount::Context::open("tmpfs")
        .and_then(|context| context.mount(0))
        .map_err(failed("make a file system"))?;
    mount::attach(place.as_fd(), at.as_fd()).map_err(failed("attach a file system"))?;
    rustix::process::fchdir(&place)
        .map_err(|error| failed("change to a file system")(error.into()))?;
    let mut count = 0;
    let mut mapped = mount.clone();
    mapped
        .options
        .retain(|option| !option.starts_with("uidmap=") && !option.starts_with("gidmap="));
    for option in &mut mapped.options {
        let Some(layers) = option.strip_prefix(LOWER) else {
            continue;
        };
        if layers.contains('\\') {
            return Err(RootfsError::Option {
                fstype: mount.fstype.clone(),
                option: option.clone(),
                reason: Cow::Borrowed(
                    "layers with a colon in their path cannot have their ids mapped",
                ),
            });
        }
        let mut names = Vec::new();
        for layer in layers.split(':') {
            // Two colons in a row say that the layers after them hold only data.
            if layer.is_empty() {
                names.push(String::new());
                continue;
            }
            let name = count.to_string();
            count += 1;
            attach(Path::new(layer), &name, &place, &user)?;
            names.push(name);
        }
        *option = format!("{LOWER}{}", names.join(":"));
    }
    Ok(Some(mapped))
}

fn attach(layer: &Path, name: &str, place: &OwnedFd, user: &OwnedFd) -> Result<(), RootfsError> {
    let failed = |source| RootfsError::Ids {
        path: layer.to_owned(),
        source,
    };
    let tree = mount::clone_path(layer, false).map_err(failed)?;
    separate(&tree).map_err(failed)?;
    mount::map_ids(tree.as_fd(), user.as_fd(), false).map_err(failed)?;
    rustix::fs::mkdirat(place, name, Mode::from_raw_mode(0o700))
        .map_err(|error| failed(error.into()))?;
    let directory = path::open_in_root(place.as_fd(), Path::new(name), rustix::fs::OFlags::PATH)
        .map_err(failed)?;
    mount::attach(tree.as_fd(), directory.as_fd()).map_err(failed)
}
