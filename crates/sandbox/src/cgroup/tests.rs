//! Layouts as text, and real cgroups of this machine: the latter need root, and cgroup v1 or a hybrid.

use std::path::Path;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;

mod update;

const SYSTEMD_HYBRID: &str = "\
22 28 0:21 / /proc rw,nosuid - proc proc rw
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:13 - cgroup cgroup rw,memory
99 30 0:30 / /mnt/again rw,nosuid shared:13 - cgroup cgroup rw,memory
";
const SYSTEMD_HYBRID_OWN: &str = "\
4:memory:/system.slice/containerd.service
3:cpu,cpuacct:/
1:name=systemd:/system.slice/containerd.service
0::/system.slice/containerd.service
";

#[test]
fn layout_of_a_hybrid_node() {
    let layout = Layout::parse(SYSTEMD_HYBRID, SYSTEMD_HYBRID_OWN).unwrap();
    assert_eq!(layout.mode, Mode::Hybrid);
    assert_eq!(layout.hierarchies.len(), 3);
    let memory = layout.hierarchy("memory").unwrap();
    assert_eq!(memory.mount, PathBuf::from("/sys/fs/cgroup/memory"));
    assert_eq!(
        memory.own,
        PathBuf::from("/sys/fs/cgroup/memory/system.slice/containerd.service")
    );
    assert_eq!(layout.hierarchy("cpuacct"), layout.hierarchy("cpu"));
    assert_eq!(
        layout.hierarchy("cpu").unwrap().own,
        PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")
    );
    assert_eq!(
        layout.hierarchy("name=systemd").unwrap().controllers,
        ["name=systemd"]
    );
    assert_eq!(layout.hierarchy("pids"), None);
    assert_eq!(
        layout.unified.as_ref().unwrap().own,
        PathBuf::from("/sys/fs/cgroup/unified/system.slice/containerd.service")
    );
}

#[test]
fn layouts_of_other_nodes() {
    let v1 = Layout::parse(
        "34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        "4:memory:/\n",
    )
    .unwrap();
    assert_eq!((v1.mode, v1.unified), (Mode::V1, None));
    let v2 = Layout::parse(
        "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "0::/a\n",
    )
    .unwrap();
    assert_eq!(v2.mode, Mode::V2);
    let none = Layout::parse("22 28 0:21 / /proc rw - proc proc rw\n", "").unwrap_err();
    assert!(
        none.to_string().starts_with("this node has no cgroups"),
        "{none}"
    );
    for (mountinfo, cgroup) in [("nonsense\n", ""), ("", "nonsense\n")] {
        assert!(matches!(
            Layout::parse(mountinfo, cgroup),
            Err(CgroupError::Parse { .. })
        ));
    }
}

/// Inside a container whose cgroup mounts show its own cgroup as the root.
#[test]
fn own_cgroup_below_a_mount_of_a_part() {
    let own = |root: &str, own: &str| {
        let mountinfo =
            format!("34 30 0:30 {root} /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory\n");
        let layout = Layout::parse(&mountinfo, &format!("4:memory:{own}\n")).unwrap();
        layout.hierarchies[0].own.to_str().unwrap().to_owned()
    };
    assert_eq!(own("/docker/c1", "/docker/c1"), "/sys/fs/cgroup/mem ory");
    assert_eq!(
        own("/docker/c1", "/docker/c1/sub"),
        "/sys/fs/cgroup/mem ory/sub"
    );
    assert_eq!(own("/docker/c1", "/docker/c10"), "/sys/fs/cgroup/mem ory");
    assert_eq!(own("/", "/../other"), "/sys/fs/cgroup/mem ory");
}

#[test]
fn paths_of_cgroups() {
    let layout = Layout::parse(SYSTEMD_HYBRID, SYSTEMD_HYBRID_OWN).unwrap();
    let place = |path: &str| {
        Cgroup::open(path, &layout).map(|cgroup| cgroup.directory("memory").unwrap().to_owned())
    };
    assert_eq!(
        place("/k8s.io/c1").unwrap(),
        PathBuf::from("/sys/fs/cgroup/memory/k8s.io/c1")
    );
    assert_eq!(
        place("k8s.io/c1").unwrap(),
        PathBuf::from("/sys/fs/cgroup/memory/system.slice/containerd.service/k8s.io/c1")
    );
    for path in ["/a/../../b", "..", "/", "", "/./"] {
        assert!(
            matches!(place(path), Err(CgroupError::Path { .. })),
            "{path}"
        );
    }
}

/// A cgroup of a test, with a place of its own, that is gone afterwards whatever the test did.
struct Scratch {
    path: String,
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Scratch {
    fn path() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!(
            "/skiff-test-{}-{}/pod/c1",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        )
    }

    fn new(fill: impl FnOnce(CgroupPlan) -> CgroupPlan) -> Self {
        let path = Self::path();
        let cgroup = Cgroup::create(&fill(CgroupPlan::new(&path)), layout()).unwrap();
        Self {
            path,
            cgroup,
            children: Vec::new(),
        }
    }

    /// Runs a shell command in the cgroup, as a container's first process joins it.
    fn run(&mut self, command: &str) -> u32 {
        let joins: String = self
            .cgroup
            .directories
            .iter()
            .map(|directory| format!("echo 0 >'{}/tasks'; ", directory.path.display()))
            .collect();
        let unified = self
            .cgroup
            .unified
            .iter()
            .map(|path| format!("echo $$ >'{}/cgroup.procs'; ", path.display()))
            .collect::<String>();
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                &format!("set -e; {joins}{unified}echo joined; {command}"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.children.push(child);
        let child = self.children.last_mut().unwrap();
        let mut word = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        child.id()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.cgroup.directory(controller).unwrap().join(file))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn wait(&mut self) {
        for mut child in self.children.drain(..) {
            child.wait().unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.cgroup.kill().unwrap();
        self.wait();
        self.cgroup.remove().unwrap();
        let top = self.path.split('/').nth(1).unwrap();
        for hierarchy in layout().hierarchies.iter().chain(&layout().unified) {
            assert!(
                !hierarchy.mount.join(top).exists(),
                "{} is left",
                hierarchy.mount.join(top).display()
            );
        }
    }
}

fn layout() -> &'static Layout {
    Layout::of_node().unwrap()
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_are_in_the_files() {
    let scratch = Scratch::new(|plan| plan.memory(8 << 20).pids(7).cpu_shares(33));
    assert_eq!(scratch.read("memory", "memory.limit_in_bytes"), "8388608");
    assert_eq!(scratch.read("pids", "pids.max"), "7");
    assert_eq!(scratch.read("cpu", "cpu.shares"), "33");
    // A cpuset takes no process before it has processors and memory nodes.
    assert_ne!(scratch.read("cpuset", "cpuset.cpus"), "");
    assert_ne!(scratch.read("cpuset", "cpuset.mems"), "");
}

#[test]
fn every_hierarchy_is_joined_by_the_process_itself() {
    let mut scratch = Scratch::new(|plan| plan);
    assert_eq!(
        scratch.cgroup.tasks().unwrap().len(),
        Cgroup::tasks_len(layout())
    );
    let pid = scratch.run("exec sleep 60");
    assert_eq!(scratch.cgroup.pids().unwrap(), [pid]);
    let joined = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in joined.lines() {
        assert!(line.ends_with(&scratch.path), "{line}");
    }
    assert_eq!(
        scratch.cgroup.unified().unwrap().is_some(),
        layout().unified.is_some()
    );
}

#[test]
fn all_processes_are_killed() {
    let mut scratch = Scratch::new(|plan| plan);
    scratch.run("sleep 60 & sleep 60 & wait");
    within("two children and the shell", || {
        scratch.cgroup.pids().unwrap().len() == 3
    });
    scratch.cgroup.kill().unwrap();
    scratch.wait();
    within("the children's end", || {
        scratch.cgroup.pids().unwrap().is_empty()
    });
}

/// As on a node without a unified tree, or with a kernel before 5.14.
#[test]
fn all_processes_are_killed_without_the_unified_tree() {
    let mut scratch = Scratch::new(|plan| plan);
    scratch.run("while :; do sleep 0.01; done & while :; do sleep 0.01; done & wait");
    let v1 = Cgroup {
        unified: None,
        ..scratch.cgroup.clone()
    };
    within("children", || v1.pids().unwrap().len() > 2);
    v1.kill().unwrap();
    scratch.wait();
    within("the children's end", || v1.pids().unwrap().is_empty());
}

#[test]
fn a_cgroup_that_is_gone_has_nothing_to_kill() {
    let cgroup = Cgroup::open(&Scratch::path(), layout()).unwrap();
    cgroup.kill().unwrap();
    assert_eq!(cgroup.pids().unwrap(), [0; 0]);
    cgroup.remove().unwrap();
    // Nobody is held in it; nor can anybody be stopped.
    assert!(cgroup.try_set_frozen(false).unwrap());
    cgroup.try_set_frozen(true).unwrap_err();
    for error in [cgroup.stats().unwrap_err(), cgroup.tasks().unwrap_err()] {
        assert!(matches!(error, CgroupError::Io { .. }), "{error}");
    }
}

#[test]
fn frozen_processes_stand_still() {
    let mut scratch = Scratch::new(|plan| plan);
    let pid = scratch.run("while :; do :; done");
    // utime, the 14th field, is found behind the name in brackets.
    let time = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .split(' ')
            .nth(12)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    scratch.cgroup.freeze().unwrap();
    let before = time();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(time(), before);
    scratch.cgroup.thaw().unwrap();
    within("the loop to go on", || time() > before);
}

#[test]
fn frozen_processes_can_be_killed() {
    for unified in [true, false] {
        let mut scratch = Scratch::new(|plan| plan);
        scratch.run("while :; do sleep 0.01; done");
        scratch.cgroup.freeze().unwrap();
        let mut cgroup = scratch.cgroup.clone();
        if !unified {
            cgroup.unified = None;
        }
        cgroup.kill().unwrap();
        scratch.wait();
        within("their end", || cgroup.pids().unwrap().is_empty());
    }
}

#[test]
fn figures_of_a_busy_cgroup() {
    let mut scratch = Scratch::new(|plan| plan.memory(64 << 20).pids(50));
    scratch.run("while :; do :; done");
    // The kernel counts in the user's and its own time by ticks, so that it takes a few to be seen.
    let cpu = || scratch.cgroup.stats().unwrap().cpu.unwrap();
    within("processor time", || cpu().user + cpu().kernel > 0);
    let stats = scratch.cgroup.stats().unwrap();
    let cpu = stats.cpu.unwrap();
    assert!(cpu.total > 1_000_000, "{cpu:?}");
    // Read after the total.
    assert!(cpu.per_cpu.iter().sum::<u64>() >= cpu.total, "{cpu:?}");
    let memory = stats.memory.unwrap();
    assert_eq!(memory.usage.limit, 64 << 20);
    assert!(
        memory.usage.usage > 0 && memory.usage.max >= memory.usage.usage,
        "{:?}",
        memory.usage
    );
    assert!(
        memory.stat.contains_key("total_inactive_file") && memory.stat.contains_key("rss"),
        "{:?}",
        memory.stat
    );
    assert_eq!((memory.oom_kill, memory.under_oom), (0, 0));
    let pids = stats.pids.unwrap();
    assert!(pids.current >= 1 && pids.limit == 50, "{pids:?}");
    assert!(stats.blkio.is_some());
}

#[test]
fn lack_of_memory_is_counted_and_told() {
    let mut scratch = Scratch::new(|plan| plan.memory(6 << 20));
    let event = scratch.cgroup.oom_events().unwrap().unwrap().file;
    let mut number = [0; 8];
    assert_eq!(
        rustix::io::read(&event, &mut number).unwrap_err(),
        rustix::io::Errno::AGAIN
    );
    // A shell variable that doubles: more than the limit after 23 rounds.
    scratch.run("x=aaaaaaaa; while :; do x=$x$x; done");
    scratch.wait();
    assert!(scratch.cgroup.oom_kills().unwrap() >= 1);
    within("the event", || {
        rustix::io::read(&event, &mut number).is_ok()
    });
}

#[test]
fn a_cgroup_in_use_is_not_taken_and_not_removed() {
    let mut scratch = Scratch::new(|plan| plan);
    let pid = scratch.run("exec sleep 60");
    let error = Cgroup::create(&CgroupPlan::new(&scratch.path), layout()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("has processes in it"), "{cause}");
    match scratch.cgroup.try_remove().unwrap_err() {
        CgroupError::Io { source, .. } => assert_eq!(source.kind(), ErrorKind::ResourceBusy),
        other => panic!("{other}"),
    }
    assert_eq!(scratch.cgroup.pids().unwrap(), [pid]);
}

#[test]
fn an_empty_cgroup_that_exists_is_taken() {
    let scratch = Scratch::new(|plan| plan);
    Cgroup::create(&CgroupPlan::new(&scratch.path).pids(3), layout()).unwrap();
    assert_eq!(scratch.read("pids", "pids.max"), "3");
}

#[test]
fn a_failure_leaves_what_was_there() {
    let scratch = Scratch::new(|plan| plan);
    let mut refused = CgroupPlan::new(&scratch.path).pids(3);
    refused.settings[0].value = "many".to_owned();
    Cgroup::create(&refused, layout()).unwrap_err();
    for path in scratch.cgroup.paths() {
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn nothing_is_left_of_a_cgroup_that_could_not_be_made() {
    let path = Scratch::path();
    let plan = CgroupPlan::new(&path).pids(3);
    let mut refused = plan.clone();
    refused.settings[0].value = "many".to_owned();
    let error = Cgroup::create(&refused, layout()).unwrap_err().to_string();
    assert!(
        error.contains("could not set process limit: writing \"many\" to /sys/fs/cgroup/pids/"),
        "{error}"
    );
    let top = path.split('/').nth(1).unwrap();
    assert!(!layout().hierarchy("pids").unwrap().mount.join(top).exists());
    let mut unknown = plan;
    unknown.settings[0].controller = "nothing";
    let error = Cgroup::create(&unknown, layout()).unwrap_err().to_string();
    assert_eq!(
        error,
        "process limit asks for the cgroup controller nothing, which is not mounted on this node"
    );
    assert!(!layout().hierarchy("pids").unwrap().mount.join(top).exists());
}

#[test]
fn shares_that_the_kernel_changes_are_refused() {
    let mut plan = CgroupPlan::new(Scratch::path()).cpu_shares(1);
    plan.settings[0].check = Check::ReadBack;
    let error = Cgroup::create(&plan, layout()).unwrap_err().to_string();
    assert!(error.contains("became 2 instead of 1"), "{error}");
}

#[test]
fn what_others_made_is_left_to_them() {
    let scratch = Scratch::new(|plan| plan);
    let pods = layout()
        .hierarchy("pids")
        .unwrap()
        .mount
        .join(format!("skiff-test-others-{}", std::process::id()));
    fs::create_dir(&pods).unwrap();
    let path = format!("/{}/made/c1", pods.file_name().unwrap().to_str().unwrap());
    Cgroup::create(&CgroupPlan::new(&path), layout()).unwrap();
    // Another process removes it, which did not make it.
    Cgroup::open(&path, layout()).unwrap().remove().unwrap();
    assert!(pods.exists());
    assert!(!pods.join("made").exists());
    fs::remove_dir(&pods).unwrap();
    drop(scratch);
}

#[test]
fn containers_come_and_go_beside_each_other() {
    let top = format!("/skiff-test-race-{}", std::process::id());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let top = &top;
            scope.spawn(move || {
                for round in 0..50 {
                    let plan = CgroupPlan::new(format!("{top}/pod/c{worker}-{round}")).pids(3);
                    let cgroup = Cgroup::create(&plan, layout()).unwrap();
                    cgroup.remove().unwrap();
                }
            });
        }
    });
    for hierarchy in layout().hierarchies.iter().chain(&layout().unified) {
        assert!(!hierarchy.mount.join(&top[1..]).exists());
    }
}

#[test]
fn cgroups_below_are_removed_too() {
    let mut scratch = Scratch::new(|plan| plan);
    let below = scratch.cgroup.directory("pids").unwrap().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let pid = scratch.run("exec sleep 60");
    fs::write(below.join("cgroup.procs"), pid.to_string()).unwrap();
    scratch.cgroup.kill().unwrap();
    scratch.wait();
    scratch.cgroup.remove().unwrap();
    assert!(!below.exists());
}

#[test]
fn limits_of_our_own_are_left_out_where_the_node_lacks_a_controller() {
    let layout = Layout::parse(SYSTEMD_HYBRID, SYSTEMD_HYBRID_OWN).unwrap();
    let plan = CgroupPlan::new("a")
        .memory(1)
        .pids(2)
        .where_possible(&layout);
    assert!(
        plan.settings
            .iter()
            .all(|setting| setting.controller == "memory"),
        "{plan:?}"
    );
}

/// The kernel copies a cpuset when it is made: nothing is written, and the node's own root is left as it is.
#[test]
fn cpusets_are_copied_and_the_root_is_left_alone() {
    let layout = Layout::of_node().unwrap();
    let Some(hierarchy) = layout.hierarchy("cpuset") else {
        println!("skipped: this machine has no cpuset controller of v1");
        return;
    };
    let flag = |place: &Path| {
        std::fs::read_to_string(place.join("cgroup.clone_children"))
            .unwrap()
            .trim()
            .to_owned()
    };
    let before = flag(&hierarchy.mount);
    let name = format!("/skiff-test-{}-copies", std::process::id());
    let first = Cgroup::create(&CgroupPlan::new(format!("{name}/one")), layout).unwrap();
    let second = Cgroup::create(&CgroupPlan::new(format!("{name}/two")), layout).unwrap();
    let parent = hierarchy.mount.join(name.trim_start_matches('/'));
    assert_eq!(
        (flag(&parent).as_str(), flag(&hierarchy.mount)),
        ("1", before)
    );
    for cgroup in ["one", "two"] {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value = |place: &Path| std::fs::read_to_string(place.join(file)).unwrap();
            assert_eq!(
                value(&parent.join(cgroup)),
                value(&parent),
                "{cgroup} {file}"
            );
        }
    }
    first.remove().unwrap();
    second.remove().unwrap();
    assert!(!parent.exists());
}
