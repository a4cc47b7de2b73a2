//! New and joined namespaces, cgroups and what is set in them.

use std::fs::File;
use std::os::fd::OwnedFd;

use skiff_sandbox::plan::{JoinNamespace, Namespace, NewNamespaces};

use crate::harness::{Alone, Case, Image};

const LINKS: [&str; 6] = ["pid", "ipc", "uts", "net", "cgroup", "mnt"];

pub(crate) fn own(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}"))
        .unwrap()
        .display()
        .to_string()
}

#[test]
fn all_are_new() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.hostname = Some("inside".to_owned());
    case.plan.domainname = Some("example".to_owned());
    case.plan.sysctls = vec![
        (
            "net/ipv4/ip_unprivileged_port_start".to_owned(),
            "42".to_owned(),
        ),
        ("kernel/shmmni".to_owned(), "77".to_owned()),
    ];
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let running = case.start();
    for name in LINKS {
        assert_ne!(running.link(&format!("ns/{name}")), own(name), "{name}");
    }
    assert_eq!(running.link("ns/user"), own("user"));
    assert_eq!(running.status("NSpid").split(' ').next_back().unwrap(), "1");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(),
        before
    );
    // The names are seen by whoever enters the namespace.
    let name = in_namespace_of(running.launched.pid, "uts", || {
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
            + &std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap()
    });
    assert_eq!(name, "inside\nexample\n");
    let port = in_namespace_of(running.launched.pid, "net", || {
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap()
    });
    assert_eq!(port, "42\n");
    let shmmni = in_namespace_of(running.launched.pid, "ipc", || {
        std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap()
    });
    assert_eq!(shmmni, "77\n");
}

/// Runs `look` on a thread in another process's namespace.
fn in_namespace_of(
    pid: u32,
    name: &'static str,
    look: impl FnOnce() -> String + Send + 'static,
) -> String {
    let thread = std::thread::spawn(move || {
        let file = File::open(format!("/proc/{pid}/ns/{name}")).unwrap();
        let kind = match name {
            "uts" => Namespace::Uts,
            "net" => Namespace::Network,
            _ => Namespace::Ipc,
        };
        skiff_sandbox::sys::process::enter(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
        look()
    });
    thread.join().unwrap()
}

#[test]
fn those_of_another_container_are_joined() {
    let _alone = Alone::new();
    let image = Image::new();
    let first = Case::new(&image, &["wait"]).start();
    let file = |name: &str| {
        OwnedFd::from(File::open(format!("/proc/{}/ns/{name}", first.launched.pid)).unwrap())
    };
    let mut case = Case::new(&image, &["wait"]);
    case.new = NewNamespaces::NONE;
    case.plan.new = NewNamespaces::from_iter([Namespace::Mount, Namespace::Cgroup]);
    for (kind, name) in [
        (Namespace::Ipc, "ipc"),
        (Namespace::Uts, "uts"),
        (Namespace::Network, "net"),
    ] {
        let from = case.slot(file(name));
        case.plan.join.push(JoinNamespace { kind, from });
    }
    case.pid_namespace = Some(file("pid"));
    let second = case.start();
    for name in ["pid", "ipc", "uts", "net"] {
        assert_eq!(
            second.link(&format!("ns/{name}")),
            first.link(&format!("ns/{name}")),
            "{name}"
        );
    }
    assert_ne!(second.link("ns/mnt"), first.link("ns/mnt"));
    assert_eq!(second.status("NSpid").split(' ').next_back().unwrap(), "2");
    // What this thread starts next is in its own again.
    let third = Case::new(&image, &["wait"]).start();
    assert_eq!(
        std::fs::read_link("/proc/thread-self/ns/pid_for_children")
            .unwrap()
            .display()
            .to_string(),
        own("pid")
    );
    assert_eq!(
        third.status("NSpid").split(' ').count(),
        second.status("NSpid").split(' ').count()
    );
}

#[test]
fn a_namespace_of_the_wrong_kind_is_refused() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    let from = case.slot(File::open("/proc/self/ns/ipc").unwrap().into());
    case.plan.join.push(JoinNamespace {
        kind: Namespace::Network,
        from,
    });
    assert!(
        case.refusal()
            .contains("could not enter the Network namespace")
    );
}

#[test]
fn the_nodes_mount_namespace_is_never_changed() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.new = case.plan.new.without(Namespace::Mount);
    assert!(case.refusal().contains("without a new mount namespace"));
}

#[test]
fn cgroups_are_joined_through_their_tasks() {
    let _alone = Alone::new();
    let image = Image::new();
    let directory = std::path::Path::new("/sys/fs/cgroup/pids")
        .join(format!("skiff-test-{}", std::process::id()));
    if !directory.parent().unwrap().join("tasks").exists() {
        println!("skipped: there is no cgroup v1 pids hierarchy here");
        return;
    }
    std::fs::create_dir(&directory).unwrap();
    let mut case = Case::new(&image, &["wait"]);
    let tasks = File::options()
        .write(true)
        .open(directory.join("tasks"))
        .unwrap();
    let tasks = case.slot(tasks.into());
    case.plan.cgroup_tasks = vec![tasks];
    let running = case.start();
    let joined = running.proc("cgroup");
    drop(running);
    std::fs::remove_dir(&directory).unwrap();
    let name = directory.file_name().unwrap().to_str().unwrap();
    assert!(
        joined
            .lines()
            .any(|line| line.contains(":pids:") && line.ends_with(name)),
        "{joined}"
    );
}

#[test]
fn a_cgroup_of_the_unified_tree_is_started_in() {
    let _alone = Alone::new();
    let image = Image::new();
    let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::Path::new);
    let Some(tree) = trees
        .into_iter()
        .find(|tree| tree.join("cgroup.procs").exists())
    else {
        println!("skipped: there is no cgroup v2 tree here");
        return;
    };
    let directory = tree.join(format!("skiff-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let mut case = Case::new(&image, &["wait"]);
    case.unified_cgroup = Some(File::open(&directory).unwrap().into());
    let running = case.start();
    let joined = running.proc("cgroup");
    drop(running);
    std::fs::remove_dir(&directory).unwrap();
    let expected = format!("0::/{}", directory.file_name().unwrap().display());
    assert!(joined.lines().any(|line| line == expected), "{joined}");
}

#[test]
fn a_user_namespace_is_joined() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut holder = hold_user_namespace();
    let mut case = Case::new(&image, &["wait"]);
    let all: NewNamespaces = [
        Namespace::Pid,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Network,
        Namespace::Mount,
    ]
    .into_iter()
    .collect();
    case.new = all.by_launch(true);
    case.plan.new = all.by_process(true);
    case.plan.hostname = Some("mapped".to_owned());
    case.plan.identity.uid = 7;
    case.plan.identity.groups = vec![9];
    case.plan.capabilities.permitted = 0;
    case.plan.capabilities.effective = 0;
    let from = case.slot(
        File::open(format!("/proc/{}/ns/user", holder.id()))
            .unwrap()
            .into(),
    );
    case.plan.join.push(JoinNamespace {
        kind: Namespace::User,
        from,
    });
    let case = case.bind(&image.outside(), "/data");
    let running = case.launch().unwrap();
    let report = running.launched.control.receive(crate::harness::PATIENCE);
    let uid = running.status("Uid");
    let groups = running.status("Groups");
    let errors = running.errors();
    drop(running);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(
        report.unwrap(),
        skiff_sandbox::control::Report::Ready,
        "{errors}"
    );
    assert_eq!(uid, "100007 100007 100007 100007");
    assert_eq!(groups, "100009");
}

/// A user namespace prepared beforehand: of a child that does nothing but hold it.
pub(crate) fn hold_user_namespace() -> std::process::Child {
    let holder = std::process::Command::new("unshare")
        .args(["--user", "sleep", "60"])
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    let link = format!("/proc/{}/ns/user", holder.id());
    while std::fs::read_link(&link).unwrap().display().to_string() == own("user") {
        assert!(
            std::time::Instant::now() < end,
            "the user namespace does not come"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", holder.id()), "0 100000 65536").unwrap();
    }
    holder
}
