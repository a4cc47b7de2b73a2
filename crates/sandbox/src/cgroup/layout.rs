//! Where the node's cgroup hierarchies are mounted, and where in them this process is.
//!
//! Read from `/proc/self/mountinfo` once in a process: on a node with hundreds of mounts that file costs
//! milliseconds, and the layout never changes while a node runs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::CgroupError;

/// The node's cgroup hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kind of layout.
    pub mode: Mode,
    /// The hierarchies of v1, each with at least one controller or name.
    pub hierarchies: Vec<Hierarchy>,
    /// The tree of v2, with all controllers, or on a hybrid node with none.
    pub unified: Option<Hierarchy>,
}

/// The kind of layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hierarchies of v1 only.
    V1,
    /// Controllers on v1, beside a tree of v2 without controllers.
    Hybrid,
    /// One tree of v2.
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers as the kernel names them, or `name=systemd`. Empty for v2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of this process' own cgroup in it.
    pub own: PathBuf,
}

impl Layout {
    /// The layout of this node, seen by this process when it first asked.
    ///
    /// # Errors
    /// `/proc` cannot be read, or holds something unexpected.
    pub fn of_node() -> Result<&'static Self, CgroupError> {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = LAYOUT.get() {
            return Ok(layout);
        }
        let read = |file: &'static str| {
            std::fs::read_to_string(file).map_err(|source| CgroupError::Layout { file, source })
        };
        let layout = Self::parse(&read(MOUNTINFO)?, &read(CGROUP)?)?;
        Ok(LAYOUT.get_or_init(|| layout))
    }

    /// The layout that the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` describe.
    ///
    /// # Errors
    /// A line is not understood.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Result<Self, CgroupError> {
        let own = own_paths(cgroup)?;
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let bad = || CgroupError::Parse {
                file: MOUNTINFO,
                line: line.to_owned(),
            };
            // 32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
            let (before, after) = line.split_once(" - ").ok_or_else(bad)?;
            let mut after = after.split(' ');
            let fstype = after.next().ok_or_else(bad)?;
            if fstype != "cgroup" && fstype != "cgroup2" {
                continue;
            }
            let mut before = before.split(' ').skip(3);
            let root = unescape(before.next().ok_or_else(bad)?);
            let mount = PathBuf::from(unescape(before.next().ok_or_else(bad)?));
            if fstype == "cgroup2" {
                let directory = below(&mount, &root, own_of(&own, ""));
                unified.get_or_insert(Hierarchy {
                    controllers: Vec::new(),
                    mount,
                    own: directory,
                });
                continue;
            }
            let options = after.nth(1).ok_or_else(bad)?;
            // Options that are not in /proc/self/cgroup are flags of the mount (`rw`, `xattr`, `clone_children`).
            let controllers: Vec<String> = options
                .split(',')
                .filter(|option| own.iter().any(|(name, _)| name == option))
                .map(str::to_owned)
                .collect();
            // The same hierarchy can be mounted again somewhere else: the first place counts, as it does
            // for everyone who looks below /sys/fs/cgroup.
            let Some(first) = controllers.first() else {
                continue;
            };
            if hierarchies
                .iter()
                .any(|known| known.controllers.contains(first))
            {
                continue;
            }
            let directory = below(&mount, &root, own_of(&own, first));
            hierarchies.push(Hierarchy {
                controllers,
                mount,
                own: directory,
            });
        }
        let mode = match (hierarchies.is_empty(), unified.is_some()) {
            (false, false) => Mode::V1,
            (false, true) => Mode::Hybrid,
            (true, true) => Mode::V2,
            (true, false) => {
                return Err(CgroupError::Unsupported(
                    "this node has no cgroups mounted below /sys/fs/cgroup",
                ));
            }
        };
        Ok(Self {
            mode,
            hierarchies,
            unified,
        })
    }

    /// Whether containers can be run with this layout.
    ///
    /// # Errors
    /// A node with cgroup v2 alone.
    pub fn supported(&self) -> Result<(), CgroupError> {
        match self.mode {
            Mode::V1 | Mode::Hybrid => Ok(()),
            Mode::V2 => Err(CgroupError::Unsupported(
                "this node has cgroup v2 alone, which is not supported yet: containers need cgroup v1 or a hybrid of both",
            )),
        }
    }

    /// The hierarchy of v1 that has this controller.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }
}

const MOUNTINFO: &str = "/proc/self/mountinfo";
const CGROUP: &str = "/proc/self/cgroup";

/// `(controller, path)` for each controller, name, and `""` for v2.
fn own_paths(cgroup: &str) -> Result<Vec<(String, String)>, CgroupError> {
    let mut paths = Vec::new();
    for line in cgroup.lines() {
        // 4:cpu,cpuacct:/kubepods/pod1
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (parts.next(), parts.next()) else {
            return Err(CgroupError::Parse {
                file: CGROUP,
                line: line.to_owned(),
            });
        };
        paths.extend(
            names
                .split(',')
                .map(|name| (name.to_owned(), path.to_owned())),
        );
    }
    Ok(paths)
}

fn own_of<'a>(own: &'a [(String, String)], controller: &str) -> &'a str {
    own.iter()
        .find(|(name, _)| name == controller)
        .map_or("/", |(_, path)| path)
}

/// Where `own`, a path from the hierarchy's root, is below `mount`, which shows the hierarchy from `root` on.
///
/// Inside a container without a cgroup namespace, the mount's root is the container's cgroup and `own` is
/// the same path or one below it. A path outside of what is mounted (`/../other`) cannot be reached: the
/// mount itself is then the nearest.
fn below(mount: &Path, root: &str, own: &str) -> PathBuf {
    let inside = if root == "/" {
        Some(own)
    } else {
        own.strip_prefix(root)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match inside {
        Some(inside) if !inside.split('/').any(|part| part == "..") => {
            let inside = inside.trim_start_matches('/');
            if inside.is_empty() {
                mount.to_owned()
            } else {
                mount.join(inside)
            }
        }
        _ => mount.to_owned(),
    }
}

/// Undoes the kernel's `\040` for blanks and the like.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let code = field
            .get(position + 1..position + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (byte, code) {
            (b'\\', Some(code)) => {
                text.push(code);
                position += 4;
            }
            _ => {
                text.push(byte);
                position += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
