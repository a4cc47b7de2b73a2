//! Where the node's cgroup hierarchies are mounted, and where in them this process is.
//!
//! Found out once in a process: the layout never changes while a node runs. Where everything is mounted as systemd
//! mounts it, a look at those places is enough; else `/proc/self/mountinfo` is read, which costs milliseconds on a
//! node with hundreds of mounts.

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
    /// Its controllers as the kernel names them, or `name=systemd`. Of the unified tree, those that can be used in
    /// it, which on a hybrid node are none.
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
        let cgroup = read(CGROUP)?;
        let mut layout = match Self::usual(&cgroup, Path::new(USUAL), kind_of) {
            Some(layout) => layout,
            None => Self::parse(&read(MOUNTINFO)?, &cgroup)?,
        };
        if layout.mode == Mode::V2
            && let Some(unified) = &mut layout.unified
        {
            // Those that the kernel's parameters have left to v2, and, in a container, those that were passed on.
            let list = super::directory::read(&unified.mount.join(CONTROLLERS))
                .map_err(CgroupError::io("read", unified.mount.join(CONTROLLERS)))?;
            unified.controllers = list.split_whitespace().map(str::to_owned).collect();
        }
        Ok(LAYOUT.get_or_init(|| layout))
    }

    /// The layout, if every hierarchy of `/proc/self/cgroup` is mounted below `place` by the name that it has there.
    fn usual(cgroup: &str, place: &Path, kind_of: fn(&Path) -> Option<Kind>) -> Option<Self> {
        let mut hierarchies = Vec::new();
        let mut unified = None;
        let own = |mount: &Path, path: &str| {
            let own = below(mount, "/", path);
            // Somewhere in the hierarchy that is not mounted here: the mount is then the nearest.
            if own == mount || own.is_dir() {
                own
            } else {
                mount.to_owned()
            }
        };
        for line in cgroup.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            if names.is_empty() {
                // Listed on every node, mounted or not.
                let mount = [place.to_owned(), place.join("unified")]
                    .into_iter()
                    .find(|mount| kind_of(mount) == Some(Kind::V2));
                unified = mount.map(|mount| Hierarchy {
                    controllers: Vec::new(),
                    own: own(&mount, path),
                    mount,
                });
                continue;
            }
            let mount = place.join(names.trim_start_matches("name="));
            if kind_of(&mount) != Some(Kind::V1) {
                return None;
            }
            hierarchies.push(Hierarchy {
                controllers: names.split(',').map(str::to_owned).collect(),
                own: own(&mount, path),
                mount,
            });
        }
        let mode = match (hierarchies.is_empty(), unified.is_some()) {
            (false, false) => Mode::V1,
            (false, true) => Mode::Hybrid,
            (true, true) => Mode::V2,
            (true, false) => return None,
        };
        Some(Self {
            mode,
            hierarchies,
            unified,
        })
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

    /// Whether limits by this controller can be set.
    pub fn has(&self, controller: &str) -> bool {
        let unified = self.unified.iter().flat_map(|tree| &tree.controllers);
        self.hierarchy(controller).is_some() || unified.into_iter().any(|name| name == controller)
    }

    /// The controllers of the unified tree.
    pub(super) fn unified_controllers(&self) -> Vec<String> {
        let tree = self.unified.as_ref();
        tree.map(|tree| tree.controllers.clone())
            .unwrap_or_default()
    }

    /// The hierarchy of v1 that has this controller.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }
}

/// The two versions of the cgroup file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
}

/// What is mounted at `path` (`CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of `linux/magic.h`).
fn kind_of(path: &Path) -> Option<Kind> {
    match rustix::fs::statfs(path).ok()?.f_type {
        0x27_e0eb => Some(Kind::V1),
        0x6367_7270 => Some(Kind::V2),
        _ => None,
    }
}

/// The controllers that a cgroup of the unified tree can use.
pub(super) const CONTROLLERS: &str = "cgroup.controllers";
const USUAL: &str = "/sys/fs/cgroup";
const MOUNTINFO: &str = "/proc/self/mountinfo";
const CGROUP: &str = "/proc/self/cgroup";

/// The paths of another process's cgroups.
pub(super) fn paths_of(pid: u32) -> Result<Vec<(String, String)>, CgroupError> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).map_err(CgroupError::io("read", file))?;
    own_paths(&text)
}

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

/// The path of a controller, the root if it is not listed.
pub(super) fn own_of<'a>(own: &'a [(String, String)], controller: &str) -> &'a str {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd does on a hybrid node: a tmpfs with a mount for each hierarchy.
    fn hybrid(path: &Path) -> Option<Kind> {
        match path.strip_prefix("/c").ok()?.to_str()? {
            "cpu,cpuacct" | "memory" | "systemd" => Some(Kind::V1),
            "unified" => Some(Kind::V2),
            _ => None,
        }
    }

    #[test]
    fn the_usual_places_are_known() {
        let place = Path::new("/c");
        let text = "5:cpu,cpuacct:/\n4:memory:/a/b\n1:name=systemd:/../x\n0::/\n";
        let layout = Layout::usual(text, place, hybrid).unwrap();
        assert_eq!(layout.mode, Mode::Hybrid);
        let mounts: Vec<_> = layout
            .hierarchies
            .iter()
            .map(|found| &found.mount)
            .collect();
        assert_eq!(
            mounts,
            [
                Path::new("/c/cpu,cpuacct"),
                Path::new("/c/memory"),
                Path::new("/c/systemd")
            ]
        );
        // What is not mounted here, or above, is as near as the mount.
        assert!(
            layout
                .hierarchies
                .iter()
                .all(|found| found.own == found.mount)
        );
        assert_eq!(layout.hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.hierarchies[2].controllers, ["name=systemd"]);
        assert_eq!(layout.unified.unwrap().mount, Path::new("/c/unified"));

        let v2 = Layout::usual("0::/x\n", place, |_| Some(Kind::V2)).unwrap();
        assert_eq!((v2.mode, v2.hierarchies.len()), (Mode::V2, 0));
        assert_eq!(v2.unified.unwrap().mount, place);
    }

    #[test]
    fn other_places_are_left_to_the_list_of_mounts() {
        let place = Path::new("/c");
        for text in [
            "5:cpuacct,cpu:/\n0::/\n",
            "9:pids:/\n4:memory:/\n",
            "4:memory\n",
        ] {
            assert_eq!(Layout::usual(text, place, hybrid), None, "{text}");
        }
        assert_eq!(Layout::usual("0::/\n", place, |_| None), None);
    }

    #[test]
    fn both_ways_find_the_same_on_this_machine() {
        let cgroup = std::fs::read_to_string(CGROUP).unwrap();
        let listed = Layout::parse(&std::fs::read_to_string(MOUNTINFO).unwrap(), &cgroup).unwrap();
        let Some(mut usual) = Layout::usual(&cgroup, Path::new(USUAL), kind_of) else {
            println!("skipped: this machine has its cgroups in unusual places");
            return;
        };
        let place = |found: &Hierarchy| {
            let same = |other: &&Hierarchy| other.mount == found.mount;
            listed.hierarchies.iter().position(|other| same(&other))
        };
        usual.hierarchies.sort_by_key(place);
        assert_eq!(usual, listed);
    }
}
