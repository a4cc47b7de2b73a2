//! The plan: what a container's first process does to itself, as plain data.
//!
//! Made by [`crate::spec`] (pure), carried on a sealed memfd in postcard encoding, carried out by
//! [`crate::execute`]. A plan names no path outside the container: everything of the node that it needs
//! is an inherited file descriptor, named by its [`Slot`].

use serde::{Deserialize, Serialize};

/// The control socket of a launched process (`SOCK_SEQPACKET`, see [`crate::control`]).
pub const CONTROL_FD: i32 = 3;
/// The sealed memfd with the process's order: postcard of a type that begins with or contains a [`Plan`].
pub const ORDER_FD: i32 = 4;
/// The folder with the libraries of an executable that brings its own, loader and C library included: such an
/// executable names them as `/proc/self/fd/5/…`. Others have no such descriptor.
pub const LIBRARIES_FD: i32 = 5;
/// The first descriptor that a [`Slot`] can name.
pub const FIRST_SLOT_FD: i32 = 6;

/// An inherited file descriptor of the launched process: number `FIRST_SLOT_FD + index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// The descriptor's number in the launched process.
    pub fn fd(self) -> i32 {
        FIRST_SLOT_FD + i32::from(self.0)
    }
}

/// What a container's first process does to itself, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The node's proc file system, mounted nowhere, for a process that starts in a user namespace and may not make
    /// one of its own; others make it themselves.
    pub proc: Option<Slot>,
    /// `tasks` files (cgroup v1) to which the process writes `0`. The unified tree, if any, was joined by
    /// the clone itself (`CLONE_INTO_CGROUP`).
    pub cgroup_tasks: Vec<Slot>,
    /// The process whose namespaces to enter, of a container that is there: before all others, but for its user
    /// namespace, which is the last.
    pub join_process: Option<JoinProcess>,
    /// Namespaces of others to enter. A joined pid namespace is the launch's business.
    pub join: Vec<JoinNamespace>,
    /// New namespaces that the process makes for itself, after those it entered: the part of
    /// [`NewNamespaces`] that [`NewNamespaces::by_process`] names.
    pub new: NewNamespaces,
    /// What the clocks of the new time namespace are ahead of the node's, in the words of `timens_offsets`
    /// (`monotonic 86400 0`), one each.
    pub time_offsets: Vec<String>,
    /// Written to `oom_score_adj` of the process. A refused write is an error, as it is with runc.
    pub oom_score_adj: Option<i32>,
    /// Set in the new uts namespace.
    pub hostname: Option<String>,
    /// Set in the new uts namespace.
    pub domainname: Option<String>,
    /// `(net/ipv4/ip_forward, 1)`: paths under `/proc/sys`, with slashes.
    pub sysctls: Vec<(String, String)>,
    /// The mount tree to live in; `None` leaves the mount namespace alone. Needs a new mount namespace
    /// in [`Plan::new`]: the process refuses to change the tree that it shares with the node.
    pub root: Option<Root>,
    /// Instead of [`Plan::root`]: the tree of Linux programs in a container of a guest, made from the guest's, in a
    /// mount namespace of its own. The process enters that of the guest before.
    pub linux_tree: Option<LinuxTree>,
    /// Process limits: resource number of `setrlimit(2)`, soft, hard.
    pub rlimits: Vec<Rlimit>,
    /// As [`Plan::cgroup_tasks`], for the hierarchy that rations processor time, joined when all but the change of
    /// identity is done: a container with a hundredth of a processor would else become one at that speed.
    pub processor_tasks: Vec<Slot>,
    /// User, groups and file creation mask.
    pub identity: Identity,
    /// Capability sets. Absent sets of a spec are empty.
    pub capabilities: Capabilities,
    /// The AppArmor profile to change to, after everything that its rules could forbid.
    pub apparmor_profile: Option<String>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// The container's own seccomp filter.
    pub seccomp: Option<SeccompFilter>,
    /// The working directory, resolved inside the root; created if missing. Refused when it leads outside.
    pub working_directory: String,
}

/// A namespace of another process to enter with `setns(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinNamespace {
    /// Which kind; the kernel checks that the descriptor is of this kind.
    pub kind: Namespace,
    /// The open namespace file.
    pub from: Slot,
}

/// Namespaces of a process to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinProcess {
    /// A pidfd.
    pub from: Slot,
    /// Which.
    pub kinds: NewNamespaces,
}

/// The kinds of namespaces. They are entered in this order, the user namespace last: until then the process
/// has the node's rights, and can enter what belongs to the node and what belongs to that user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Namespace {
    /// User ids (`CLONE_NEWUSER`). Joined only: a new one is made beforehand ([`crate::user`]), because its maps
    /// would have to be written by a parent that waits for the exec.
    User,
    /// Process ids. Only ever new or joined at launch, never by the process itself.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Network.
    Network,
    /// View of the cgroup tree.
    Cgroup,
    /// Clocks.
    Time,
    /// Mounts.
    Mount,
}

/// A set of namespaces: those that are made new for a container, mostly.
///
/// Not all of them can be made by the clone that makes the process. A cgroup namespace shows the cgroup in
/// which it was made as its root, so it is made after the process joined its cgroups; whatever belongs to
/// a joined user namespace is made after that was entered; and the mount namespace is always made by the
/// process that changes it, so that no mistake in a plan can pivot the node's own mounts away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewNamespaces(u16);

impl NewNamespaces {
    /// No namespace is new.
    pub const NONE: Self = Self(0);

    /// This set with `kind`.
    #[must_use]
    pub const fn with(self, kind: Namespace) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// This set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Namespace) -> Self {
        Self(self.0 & !(1 << kind as u16))
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: Namespace) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The part for [`crate::launch::Launch::new`]. `joins_user`: the process starts in a user namespace, or enters one.
    #[must_use]
    pub const fn by_launch(self, joins_user: bool) -> Self {
        let early = Self::NONE.with(Namespace::Pid);
        let early = if joins_user {
            early
        } else {
            early
                .with(Namespace::Ipc)
                .with(Namespace::Uts)
                .with(Namespace::Network)
        };
        Self(self.0 & early.0)
    }

    /// The part for [`Plan::new`]: all that [`NewNamespaces::by_launch`] leaves.
    #[must_use]
    pub const fn by_process(self, joins_user: bool) -> Self {
        Self(self.0 & !self.by_launch(joins_user).0)
    }
}

impl FromIterator<Namespace> for NewNamespaces {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

/// The mount tree of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// A detached mount: the root.
    pub tree: Slot,
    /// Mounts to attach inside, in order.
    pub mounts: Vec<Attach>,
    /// The root itself becomes read-only once everything is attached.
    pub read_only: bool,
    /// A guest of an engine must not reach the kernel: every mount of the tree is made nosuid, nodev and
    /// noexec, and the container is refused when any of them is a kernel file system or a device.
    pub guest: bool,
    /// Propagation of the root mount, from the spec's `rootfsPropagation`; private when absent.
    pub propagation: Propagation,
}

/// One mount to attach at a place inside the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// A detached mount, flags and propagation already set.
    pub tree: Slot,
    /// Absolute path inside the root. Resolved with the root as its limit (symlinks of the image too);
    /// made when missing: a directory for a directory, an empty file for anything else.
    pub at: String,
    /// Whether the mounted thing is a directory.
    pub directory: bool,
}

/// What Linux programs see in a container whose first process has the tree of a guest: the same root and volumes, and
/// the kernel's file systems besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxTree {
    /// Mounts inside, in order.
    pub places: Vec<Place>,
    /// Devices to make.
    pub devices: Vec<Device>,
    /// Files and directories to put something empty over.
    pub masked: Vec<String>,
    /// Files and directories to make read-only.
    pub read_only_paths: Vec<String>,
    /// The root becomes read-only once everything is attached.
    pub read_only: bool,
}

/// One mount of a [`LinuxTree`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Absolute path inside the root.
    pub at: String,
    /// What is there.
    pub what: Content,
}

/// What is mounted at a [`Place`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// What the guest has there.
    Guests {
        /// With what is mounted below.
        recursive: bool,
        /// Mount flags that the guest has it with, and Linux programs have not.
        clear: u64,
    },
    /// A file system of the kernel's.
    New {
        /// `proc`.
        fstype: String,
        /// `key=value` or `key`.
        options: Vec<(String, Option<String>)>,
        /// Mount flags.
        attributes: u64,
    },
    /// The container's cgroup: one directory for each hierarchy of v1, by name; of v2 alone, it itself, with no name.
    Cgroup {
        /// Detached mounts, flags set.
        directories: Vec<(String, Slot)>,
        /// Flags of the directory that holds them.
        attributes: u64,
    },
}

/// A device node or FIFO to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path inside the root.
    pub path: String,
    /// Type and permissions, as `mknod(2)` takes them.
    pub mode: u32,
    /// Numbers of the device.
    pub major: u32,
    /// See above.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How mounts travel between mount namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the node to the container.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and cannot be bound.
    Unbindable,
}

impl Propagation {
    /// What an option of mount(8) asks for, and whether for the mounts below too (`rslave`, …).
    pub fn from_mount_option(option: &str) -> Option<(Self, bool)> {
        Some(match option {
            "private" => (Self::Private, false),
            "rprivate" => (Self::Private, true),
            "slave" => (Self::Slave, false),
            "rslave" => (Self::Slave, true),
            "shared" => (Self::Shared, false),
            "rshared" => (Self::Shared, true),
            "unbindable" => (Self::Unbindable, false),
            "runbindable" => (Self::Unbindable, true),
            _ => return None,
        })
    }
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Who the process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary groups; exactly these.
    pub groups: Vec<u32>,
    /// File creation mask; 0022 when the spec has none.
    pub umask: Option<u32>,
}

/// Capability sets as bit masks (bit n is capability n of `capability.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Upper limit of what an exec can gain.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Can be put in force.
    pub permitted: u64,
    /// Kept over exec of a program with file capabilities.
    pub inheritable: u64,
    /// Kept over exec of any program.
    pub ambient: u64,
}

/// A seccomp program, compiled by the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompFilter {
    /// Classic BPF: `struct sock_filter` records, 8 bytes each, native byte order.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}
