//! Sources of this machine. Needs root.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::StatVfsMountFlags;
use serde_json::{Value, json};

use super::*;
use crate::cgroup::CgroupPlan;
use crate::spec::{Facts, Role, blueprint, read};

/// A blueprint of `ctr run` with these mounts, and its sources opened.
fn gathered(
    folder: &tempfile::TempDir,
    mounts: Value,
) -> Result<(Blueprint, Vec<OwnedFd>), GatherError> {
    let mut spec: Value =
        serde_json::from_str(include_str!("../testdata/ctr-default.json")).unwrap();
    spec["mounts"] = mounts;
    spec["linux"]["cgroupsPath"] = json!(format!(
        "/skiff-test-gather-{}/{}",
        std::process::id(),
        folder.path().file_name().unwrap().display()
    ));
    let facts = Facts::read().unwrap();
    let mut made = blueprint(
        &read(spec.to_string().as_bytes()).unwrap(),
        Role::Guest,
        &facts,
        "c1",
    )
    .unwrap();
    made.cgroup = CgroupPlan::new(made.cgroup.path);
    let cgroup = Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    let result = gather(&mut made, mount::clone_path(&root, false).unwrap(), &cgroup);
    cgroup.remove().unwrap();
    result.map(|gathered| (made, gathered.slots))
}

fn bind(source: &Path, options: &Value) -> Value {
    json!([{"destination": "/data", "type": "bind", "source": source, "options": options}])
}

/// `Display` and its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", sentence(cause)))
        .unwrap_or_default();
    format!("{error}{cause}")
}

fn flags(tree: &OwnedFd) -> StatVfsMountFlags {
    rustix::fs::fstatvfs(tree).unwrap().f_flag
}

#[test]
fn slots_are_in_order_and_directories_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (volume, file) = (folder.path().join("volume"), folder.path().join("file"));
    fs::create_dir(&volume).unwrap();
    fs::write(&file, "content").unwrap();
    let mounts = json!([
        {"destination": "/etc/hosts", "type": "bind", "source": file, "options": ["rbind", "ro"]},
        {"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rprivate"]},
        {"destination": "/tmp", "type": "tmpfs", "options": ["size=4k", "nosuid"]},
    ]);
    let (made, slots) = gathered(&folder, mounts).unwrap();
    assert_eq!(slots.len(), made.sources.len());
    let attached: Vec<_> = made
        .plan
        .root
        .as_ref()
        .unwrap()
        .mounts
        .iter()
        .map(|attach| (attach.at.as_str(), attach.directory))
        .collect();
    assert_eq!(
        attached,
        [("/etc/hosts", false), ("/data", true), ("/tmp", true)]
    );
    let tree = |at: &str| {
        let mounts = &made.plan.root.as_ref().unwrap().mounts;
        &slots[usize::from(mounts.iter().find(|attach| attach.at == at).unwrap().tree.0)]
    };
    let guest = StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV | StatVfsMountFlags::NOEXEC;
    assert!(flags(tree("/etc/hosts")).contains(guest | StatVfsMountFlags::RDONLY));
    assert!(
        flags(tree("/data")).contains(guest)
            && !flags(tree("/data")).contains(StatVfsMountFlags::RDONLY)
    );
    assert!(flags(tree("/tmp")).contains(guest));
    // The volume of the node is as it was.
    let source = rustix::fs::statvfs(&volume).unwrap().f_flag;
    assert!(!source.contains(StatVfsMountFlags::NOEXEC));
}

#[test]
fn what_is_no_directory_and_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    let link = folder.path().join("link");
    symlink("/dev/null", &link).unwrap();
    let missing = folder.path().join("missing");
    for (path, words) in [
        (
            PathBuf::from("/dev/null"),
            "the volume /dev/null for /data is a character device, which a container is not given",
        ),
        (link, "is a character device"),
        (socket, "is a socket"),
        (fifo, "is a named pipe"),
        (
            missing,
            "missing to mount it at /data: No such file or directory",
        ),
    ] {
        let error = gathered(&folder, bind(&path, &json!(["rbind"]))).unwrap_err();
        let sentence = sentence(&error);
        assert!(
            sentence.contains(words) && sentence.contains(path.to_str().unwrap()),
            "{sentence}"
        );
    }
}

/// A volume with mounts below it, in a mount namespace of the test's own.
#[test]
fn recursive_flags_reach_the_mounts_below() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let below = mount::Context::open("tmpfs").unwrap().mount(0).unwrap();
    let top = mount::Context::open("tmpfs").unwrap().mount(0).unwrap();
    let _attached = Attached::new(&top, &volume);
    fs::create_dir(volume.join("sub")).unwrap();
    let place = volume.join("sub");
    let _below = Attached::new(&below, &place);
    let sub = |options: Value| {
        let (made, slots) = gathered(&folder, bind(&volume, &options)).unwrap();
        let tree = &slots[usize::from(made.plan.root.as_ref().unwrap().mounts[0].tree.0)];
        let sub =
            rustix::fs::openat(tree, "sub", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (flags(tree), flags(&sub))
    };
    let (top, below) = sub(json!(["rbind", "ro"]));
    assert!(top.contains(StatVfsMountFlags::RDONLY) && !below.contains(StatVfsMountFlags::RDONLY));
    assert!(below.contains(
        StatVfsMountFlags::NODEV | StatVfsMountFlags::NOEXEC | StatVfsMountFlags::NOSUID
    ));
    let (top, below) = sub(json!(["rbind", "rro"]));
    assert!(top.contains(StatVfsMountFlags::RDONLY) && below.contains(StatVfsMountFlags::RDONLY));
    // Without `r`, what is mounted below the volume is not there: its place is in the volume itself.
    let (top, below) = sub(json!(["bind", "ro"]));
    assert!(top.contains(StatVfsMountFlags::RDONLY) && below.contains(StatVfsMountFlags::RDONLY));
}

/// A mount of this test in the node's namespace.
struct Attached<'a>(&'a Path);

impl<'a> Attached<'a> {
    fn new(tree: &OwnedFd, at: &'a Path) -> Self {
        mount::attach_path(tree.as_fd(), at).unwrap();
        Self(at)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        mount::detach_path(self.0).unwrap();
    }
}

#[test]
fn a_tmpfs_has_the_options_of_the_spec_and_the_mode_of_what_it_covers() {
    let folder = tempfile::tempdir().unwrap();
    let covered = folder.path().join("root/covered");
    fs::create_dir_all(&covered).unwrap();
    fs::set_permissions(&covered, fs::Permissions::from_mode(0o1730)).unwrap();
    let mode = |at: &str, options: Value| {
        let mounts = json!([{"destination": at, "type": "tmpfs", "options": options}]);
        let (made, slots) = gathered(&folder, mounts).unwrap();
        let tree = &slots[usize::from(made.plan.root.as_ref().unwrap().mounts[0].tree.0)];
        let stat = rustix::fs::fstat(tree).unwrap();
        (stat.st_mode & 0o7777, stat.st_uid)
    };
    assert_eq!(mode("/covered", json!([])), (0o1730, 0));
    assert_eq!(mode("/covered", json!(["mode=755", "uid=7"])), (0o755, 7));
    assert_eq!(mode("/new", json!([])), (0o1777, 0));
    let mounts = json!([{"destination": "/a", "type": "tmpfs", "options": ["size=lots"]}]);
    let sentence = sentence(&gathered(&folder, mounts).unwrap_err());
    assert!(
        sentence.contains("could not make the tmpfs for /a with the options \"size=lots\""),
        "{sentence}"
    );
}

#[test]
fn a_namespace_that_is_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec: Value =
        serde_json::from_str(include_str!("../testdata/ctr-default.json")).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/skiff-test-gather-{}/ns", std::process::id()));
    spec["linux"]["namespaces"][4]["path"] = json!("/run/netns/gone");
    let facts = Facts::read().unwrap();
    let mut made = blueprint(
        &read(spec.to_string().as_bytes()).unwrap(),
        Role::Guest,
        &facts,
        "c1",
    )
    .unwrap();
    let cgroup = Cgroup::create(&CgroupPlan::new(&made.cgroup.path), &facts.cgroups).unwrap();
    let result = gather(
        &mut made,
        mount::clone_path(folder.path(), false).unwrap(),
        &cgroup,
    );
    cgroup.remove().unwrap();
    let sentence = sentence(&result.unwrap_err());
    assert!(
        sentence.starts_with("could not open the network namespace /run/netns/gone"),
        "{sentence}"
    );
}

#[test]
fn a_file_that_is_no_such_namespace_is_named() {
    for path in ["/proc/self/ns/uts", "/etc/passwd", "/dev/null"] {
        let error = open_namespace(Namespace::Network, Path::new(path)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{path} is not a network namespace")
        );
    }
    for (kind, file) in [
        (Namespace::Cgroup, "cgroup"),
        (Namespace::Ipc, "ipc"),
        (Namespace::Mount, "mnt"),
        (Namespace::Network, "net"),
        (Namespace::Pid, "pid"),
        (Namespace::Time, "time"),
        (Namespace::User, "user"),
        (Namespace::Uts, "uts"),
    ] {
        open_namespace(kind, &Path::new("/proc/self/ns").join(file)).unwrap();
    }
    // One that nobody writes to does not hold the shim up.
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).unwrap();
    open_namespace(Namespace::Pid, &fifo).unwrap_err();
}

/// What the blueprint of a limited container says is accepted by this machine's kernel.
#[test]
fn limits_of_a_real_spec_are_taken_by_the_kernel() {
    let facts = Facts::read().unwrap();
    let mut spec: Value =
        serde_json::from_str(include_str!("../testdata/cri-restricted.json")).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/skiff-test-limits-{}/c1", std::process::id()));
    spec["linux"]["resources"]["pids"] = json!({"limit": 20});
    spec["linux"]["resources"]["cpu"]["cpus"] = json!("0");
    let made = blueprint(
        &read(spec.to_string().as_bytes()).unwrap(),
        Role::Guest,
        &facts,
        "c1",
    )
    .unwrap();
    let cgroup = Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
    let file = |controller: &str, name: &str| {
        let directory = facts
            .cgroups
            .hierarchy(controller)
            .unwrap()
            .mount
            .join(&made.cgroup.path[1..]);
        fs::read_to_string(directory.join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let found = [
        file("memory", "memory.limit_in_bytes"),
        file("memory", "memory.memsw.limit_in_bytes"),
        file("cpu", "cpu.shares"),
        file("cpu", "cpu.cfs_quota_us"),
        file("cpuset", "cpuset.cpus"),
        file("pids", "pids.max"),
    ];
    let devices = file("devices", "devices.list");
    cgroup.remove().unwrap();
    assert_eq!(found, ["134217728", "134217728", "512", "50000", "0", "20"]);
    let mut lines: Vec<_> = devices.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "b *:* m",
            "c *:* m",
            "c 136:* rwm",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
        ]
    );
}
