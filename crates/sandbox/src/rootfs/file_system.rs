//! One mount, made detached with the kernel's mount API.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::options::{self, Options};
use super::{ContainerdMount, RootfsError};
use crate::plan::Propagation;
use crate::sys::loop_device::LoopDevice;
use crate::sys::mount::{self, Change, Context};
use crate::user::{self, Maps};

/// The kernel copies at most this much of one option's value, its end included.
const LONGEST_VALUE: usize = 255;

/// A detached mount. `None` if this kernel's mount API cannot express it: see [`super::private`].
pub(super) fn detached(mount: &ContainerdMount) -> Result<Option<OwnedFd>, RootfsError> {
    let options = options::parse(mount)?;
    if options.bind {
        return bind(mount, &options).map(Some);
    }
    let refused =
        |context: &Context, option: Option<&Setting<'_>>, source: io::Error| RootfsError::Mount {
            fstype: mount.fstype.clone(),
            source_name: mount.source.clone(),
            detail: detail(option, &context.messages()),
            source,
        };
    let failed = |source: io::Error| failure(mount, source);
    let context = Context::open(&mount.fstype).map_err(failed)?;
    let device = loop_device(mount, &options).map_err(failed)?;
    let source = device
        .as_ref()
        .map_or(mount.source.as_str(), |device| device.path());
    let settings = settings(&options);
    if settings.iter().any(|setting| {
        setting
            .value
            .is_some_and(|value| value.len() > LONGEST_VALUE)
    }) {
        return Ok(None);
    }
    if !source.is_empty() {
        context
            .set("source", source)
            .map_err(|error| refused(&context, None, error))?;
    }
    for setting in &settings {
        let set = setting.value.map_or_else(
            || context.set_flag(setting.key),
            |value| context.set(setting.key, value),
        );
        match set {
            Ok(()) => {}
            // Kernels before 6.8 know no `lowerdir+`.
            Err(_) if setting.appends => return Ok(None),
            Err(error) => return Err(refused(&context, Some(setting), error)),
        }
    }
    let tree = match context.mount(options.change.set) {
        // Overlay before 6.5 only hands its options on, and finds the unknown one here.
        Err(error)
            if settings.iter().any(|setting| setting.appends) && is_unknown_to_kernel(&error) =>
        {
            return Ok(None);
        }
        other => other.map_err(|error| refused(&context, None, error))?,
    };
    map_ids(&tree, mount, &options)?;
    finish(&tree, &options).map_err(failed)?;
    Ok(Some(tree))
}

fn detail(option: Option<&Setting<'_>>, messages: &str) -> String {
    let option = option.map(|option| match option.value {
        Some(value) => format!(", option {}={value}", option.key),
        None => format!(", option {}", option.key),
    });
    let option = option.unwrap_or_default();
    if messages.is_empty() {
        option
    } else {
        format!("{option}: the kernel says {messages}")
    }
}

/// The loop device for a mount of an image file.
pub(super) fn loop_device(
    mount: &ContainerdMount,
    options: &Options,
) -> io::Result<Option<LoopDevice>> {
    let attach = || LoopDevice::attach(Path::new(&mount.source), options.is_read_only());
    options.on_loop_device.then(attach).transpose()
}

/// The error of a mount of which nothing more is known.
pub(super) fn failure(mount: &ContainerdMount, source: io::Error) -> RootfsError {
    RootfsError::Mount {
        fstype: mount.fstype.clone(),
        source_name: mount.source.clone(),
        detail: String::new(),
        source,
    }
}

fn bind(mount: &ContainerdMount, options: &Options) -> Result<OwnedFd, RootfsError> {
    let failed = |source: io::Error| failure(mount, source);
    let tree =
        mount::clone_path(Path::new(&mount.source), options.recursive_bind).map_err(failed)?;
    super::separate(&tree).map_err(failed)?;
    if !options.change.is_empty() {
        mount::change(tree.as_fd(), options.change, false).map_err(failed)?;
    }
    map_ids(&tree, mount, options)?;
    finish(&tree, options).map_err(failed)?;
    Ok(tree)
}

/// Shows the ids of a detached mount as others, if its options say so.
fn map_ids(tree: &OwnedFd, mount: &ContainerdMount, options: &Options) -> Result<(), RootfsError> {
    let Some(maps) = &options.maps else {
        return Ok(());
    };
    let mapped = belongs_to_root_of(maps, tree).and_then(|belongs| {
        if belongs {
            return Ok(());
        }
        mount::map_ids(tree.as_fd(), user::make(maps)?.as_fd(), false)
    });
    mapped.map_err(|source| RootfsError::Ids {
        path: PathBuf::from(&mount.source),
        source,
    })
}

/// Whether a directory has the ids of the namespace on the disk already. The snapshotter makes a container's writable
/// directory so, and of an image without layers of files (a module and nothing else) it is the whole root: containerd
/// asks for the maps all the same, by which its files would become nobody's.
fn belongs_to_root_of(maps: &Maps, tree: &OwnedFd) -> io::Result<bool> {
    let found = rustix::fs::fstat(tree)?;
    Ok(maps.users.outside(0) == Some(found.st_uid) && maps.groups.outside(0) == Some(found.st_gid))
}

/// What is the same for all types: recursive flags and propagation.
pub(super) fn finish(tree: &OwnedFd, options: &Options) -> io::Result<()> {
    if !options.recursive_change.is_empty() {
        mount::change(tree.as_fd(), options.recursive_change, true)?;
    }
    if let Some((propagation, recursive)) = options.propagation {
        // A private mount has no master to become the slave of: the kernel leaves it private.
        let change = Change {
            propagation: Some(propagation),
            ..Change::default()
        };
        if propagation != Propagation::Private {
            mount::change(tree.as_fd(), change, recursive)?;
        }
    }
    Ok(())
}

/// One call of `fsconfig`.
#[derive(Debug, PartialEq, Eq)]
struct Setting<'a> {
    key: &'a str,
    value: Option<&'a str>,
    /// One of the keys that add a layer, which older kernels do not know.
    appends: bool,
}

fn settings(options: &Options) -> Vec<Setting<'_>> {
    let mut settings: Vec<Setting<'_>> = options
        .super_flags
        .iter()
        .map(|flag| Setting {
            key: flag,
            value: None,
            appends: false,
        })
        .collect();
    for option in &options.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) if needs_splitting(layers) => {
                settings.extend(split_layers(layers).map(|(key, layer)| Setting {
                    key,
                    value: Some(layer),
                    appends: true,
                }));
            }
            Some((key, value)) => {
                settings.push(Setting {
                    key,
                    value: Some(value),
                    appends: key.ends_with('+'),
                });
            }
            None => settings.push(Setting {
                key: option,
                value: None,
                appends: false,
            }),
        }
    }
    settings
}

/// A list that fits one value is left to the kernel, which knows how to take it apart, escapes included.
fn needs_splitting(layers: &str) -> bool {
    layers.len() > LONGEST_VALUE && !layers.contains('\\')
}

/// `/a:/b::/c` are two layers and, after `::`, one that holds only data.
fn split_layers(layers: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let mut data_only = false;
    layers.split(':').filter_map(move |layer| {
        if layer.is_empty() {
            data_only = true;
            None
        } else {
            Some((if data_only { "datadir+" } else { "lowerdir+" }, layer))
        }
    })
}

/// Whether an error of the mount API may be gone with `mount(2)`.
pub(super) fn is_unknown_to_kernel(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data: &[&str]) -> Options {
        Options {
            data: data.iter().map(|option| (*option).to_owned()).collect(),
            ..Options::default()
        }
    }

    #[test]
    fn many_layers_become_one_setting_each() {
        let layers: Vec<String> = (0..200).map(|n| format!("/snapshots/{n}/fs")).collect();
        let option = format!("lowerdir={}", layers.join(":"));
        let options = options(&[&option, "index=off", "volatile"]);
        let settings = settings(&options);
        assert_eq!(settings.len(), 202);
        assert_eq!(
            settings[0],
            Setting {
                key: "lowerdir+",
                value: Some("/snapshots/0/fs"),
                appends: true
            }
        );
        assert_eq!(
            settings[200],
            Setting {
                key: "index",
                value: Some("off"),
                appends: false
            }
        );
        assert_eq!(
            settings[201],
            Setting {
                key: "volatile",
                value: None,
                appends: false
            }
        );
    }

    #[test]
    fn few_layers_stay_one_value() {
        let options = options(&["lowerdir=/a:/b"]);
        assert_eq!(
            settings(&options),
            [Setting {
                key: "lowerdir",
                value: Some("/a:/b"),
                appends: false
            }]
        );
    }

    #[test]
    fn data_layers_come_after_two_colons() {
        let layers: Vec<_> = split_layers("/a:/b::/c::/d").collect();
        let expected = [
            ("lowerdir+", "/a"),
            ("lowerdir+", "/b"),
            ("datadir+", "/c"),
            ("datadir+", "/d"),
        ];
        assert_eq!(layers, expected);
    }
}
