//! From a `config.json` as containerd writes it to a running process, the way of the shim.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skiff_sandbox::cgroup::Cgroup;
use skiff_sandbox::plan::Propagation;
use skiff_sandbox::rootfs::mount_root;
use skiff_sandbox::spec::{Facts, Role, blueprint, gather, read};
use skiff_sandbox::sys::mount::{self, Change};

use crate::harness::{Alone, Case, Image};

pub(crate) const CTR: &str = include_str!("../../src/spec/testdata/ctr-limits.json");
pub(crate) const CRI: &str = include_str!("../../src/spec/testdata/cri-restricted.json");
pub(crate) const PAUSE: &str = include_str!("../../src/spec/testdata/cri-pause.json");

/// A spec with the paths of this machine.
pub(crate) fn spec(text: &str, image: &Image, name: &str) -> Value {
    let mut spec: Value = serde_json::from_str(text).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/skiff-blueprint-{}/{name}", std::process::id()));
    for mount in spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "bind" {
            let at = mount["destination"].as_str().unwrap();
            let path = image.path(&format!("volume-{}", at.replace('/', "-")));
            if at == "/data" || at == "/shared" || at == "/dev/shm" || at.starts_with("/var/run") {
                std::fs::create_dir_all(&path).unwrap();
            } else {
                std::fs::write(&path, at).unwrap();
            }
            mount["source"] = json!(path);
        }
    }
    // The pod's namespaces are new ones here.
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        namespace.as_object_mut().unwrap().remove("path");
    }
    // This machine may not raise it.
    spec["process"]["oomScoreAdj"] = json!(900);
    spec
}

/// A cgroup that is gone when its test is, whatever became of that.
pub(crate) struct Held(pub(crate) Cgroup);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        let removed = self.0.remove();
        // The processes of a test that failed are reaped after this.
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

/// The container of a spec, and its cgroup.
pub(crate) fn container(image: &Image, spec: &Value, role: Role, args: &[&str]) -> (Held, Case) {
    let facts = Facts::read().unwrap();
    let spec = read(spec.to_string().as_bytes()).unwrap();
    let mut made = blueprint(&spec, role, &facts, "c1").unwrap();
    let tree = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
    let cgroup = Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
    let gathered = gather(&mut made, tree.try_clone().unwrap(), &cgroup).unwrap();
    let mut case = Case::with_tree(tree, args);
    case.plan = made.plan;
    case.new = made.new;
    case.slots = gathered.slots;
    case.user = gathered.user;
    case.oom_score_adj = made.user.and_then(|user| user.oom_score_adj);
    case.unified_cgroup = cgroup.unified().unwrap();
    (Held(cgroup), case)
}

fn limits(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = |line: &str| {
        Some((
            line.get(..26)?.trim().to_owned(),
            line.get(26..)?.trim().to_owned(),
        ))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn ctr_with_limits() {
    let _alone = Alone::new();
    let image = Image::new();
    let spec = spec(CTR, &image, "ctr");
    let (cgroup, case) = container(&image, &spec, Role::Guest, &["wait"]);
    let running = case.start();
    let pid = running.launched.pid;
    assert_eq!(running.status("Uid"), "1000 1000 1000 1000");
    assert_eq!(running.status("NoNewPrivs"), "1");
    assert_eq!(running.status("Seccomp"), "2");
    assert_eq!(running.status("CapBnd"), "00000000a80425fb");
    assert_eq!(running.status("CapEff"), "0000000000000000");
    assert!(
        limits(pid)["Max open files"].starts_with("1024 "),
        "{:?}",
        limits(pid)
    );
    assert_eq!(cgroup.0.pids().unwrap(), [pid]);
    let joined = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place = format!("/skiff-blueprint-{}/ctr", std::process::id());
    assert!(
        joined.lines().all(|line| line.ends_with(&place)),
        "{joined}"
    );
    let mountinfo = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounts: Vec<_> = mountinfo
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields[4], fields[5])
        })
        .collect();
    let places: Vec<_> = mounts.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, ["/", "/dev/shm", "/run", "/data"], "{mountinfo}");
    for (at, flags) in mounts {
        for flag in ["nosuid", "nodev", "noexec"] {
            assert!(flags.split(',').any(|word| word == flag), "{at} {flags}");
        }
        assert_eq!(
            flags.starts_with("ro,"),
            at == "/" || at == "/data",
            "{at} {flags}"
        );
    }
    drop(running);
}

#[test]
fn cri_container() {
    let _alone = Alone::new();
    let image = Image::new();
    // A read-only root has the places of its mounts already; containerd's snapshots are writable below.
    let mut spec = spec(CRI, &image, "cri");
    spec["root"]["readonly"] = json!(true);
    let (_cgroup, case) = container(
        &image,
        &spec,
        Role::Guest,
        &[
            "each",
            "read:/etc/hosts",
            "list:/dev",
            "list:/",
            "write:/data/file",
            "write:/etc/hostname",
            "write:/etc/new",
            "list:/proc",
        ],
    );
    // The volumes belong to root, the process does not.
    let volume = image.path("volume--data");
    for (name, mode) in [("volume--data", 0o777), ("volume--etc-hostname", 0o666)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(image.path(name), mode).unwrap();
    }
    let output = case.run();
    assert_eq!(
        output.lines().collect::<Vec<_>>(),
        [
            "read:/etc/hosts ok /etc/hosts",
            "list:/dev ok shm termination-log",
            "list:/ ok data dev etc shared tmp var",
            "write:/data/file ok",
            "write:/etc/hostname errno 30",
            "write:/etc/new errno 30",
            "list:/proc errno 2",
        ],
        "{output}"
    );
    assert_eq!(
        std::fs::read_to_string(volume.join("file")).unwrap(),
        "written"
    );
}

#[test]
fn cri_pause() {
    let _alone = Alone::new();
    let image = Image::new();
    let spec = spec(PAUSE, &image, "pause");
    let (cgroup, mut case) = container(&image, &spec, Role::Pause, &["wait"]);
    case.program = crate::harness::programs().join("skiff-pause");
    let mut running = case.start();
    running.go();
    let pid = running.launched.pid;
    let sysctl = std::process::Command::new("nsenter")
        .args([
            "-t",
            &pid.to_string(),
            "-n",
            "cat",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&sysctl.stdout).trim(), "0");
    cgroup.0.kill().unwrap();
    running.wait();
    drop(running);
}

/// A tmpfs at a path of the node, as a volume driver mounts it; shared, as systemd makes all mounts.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let tree = mount::Context::open("tmpfs").unwrap().mount(0).unwrap();
        let shared = Change {
            propagation: Some(Propagation::Shared),
            ..Change::default()
        };
        mount::change(tree.as_fd(), shared, false).unwrap();
        mount::attach_path(tree.as_fd(), &at).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        mount::detach_path(&self.0).unwrap();
    }
}

/// What is mounted below a volume after the container started is seen inside with `rslave` and `rshared`.
#[test]
fn mounts_travel_as_the_spec_says() {
    let _alone = Alone::new();
    let cases = [
        (None, None, false),
        (Some("rprivate"), None, false),
        (Some("rslave"), Some("master:"), true),
        (Some("rshared"), Some("shared:"), true),
    ];
    // The same from a slim mount namespace, which was made before any of the volumes.
    let node = Image::new();
    let slim = crate::slim::Slim::new(&node);
    for (slim, (option, tag, travels)) in [None, Some(&slim)]
        .into_iter()
        .flat_map(|slim| cases.map(|case| (slim, case)))
    {
        let image = Image::new();
        let mut spec = spec(CRI, &image, "travel");
        let volume = Mounted::new(image.path("volume--data"));
        let data = spec["mounts"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find(|mount| mount["destination"] == "/data")
            .unwrap();
        data["options"] = json!(["rbind"].into_iter().chain(option).collect::<Vec<_>>());
        let (_cgroup, mut case) = container(&image, &spec, Role::Guest, &["wait"]);
        if let Some(slim) = slim {
            case = slim.start_of(case);
        }
        let running = case.start();
        let later = Mounted::new(volume.0.join("later"));
        let path = format!("/proc/{}/mountinfo", running.launched.pid);
        let mountinfo = std::fs::read_to_string(path).unwrap();
        let line = |at: &str| {
            mountinfo
                .lines()
                .find(|line| line.split(' ').nth(4) == Some(at))
        };
        assert_eq!(
            line("/data/later").is_some(),
            travels,
            "{option:?}: {mountinfo}"
        );
        let data = line("/data").unwrap();
        let tags: Vec<_> = data
            .split(" - ")
            .next()
            .unwrap()
            .split(' ')
            .skip(6)
            .collect();
        assert_eq!(tags.len(), usize::from(tag.is_some()), "{option:?}: {data}");
        assert!(
            tags.iter().all(|found| found.starts_with(tag.unwrap())),
            "{option:?}: {data}"
        );
        drop(later);
        drop(running);
        drop(volume);
    }
}

/// A volume whose mounts below hold a kernel file system is known only to the process itself.
#[test]
fn a_volume_with_a_kernel_file_system_is_refused_by_name() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut spec = spec(CTR, &image, "proc");
    let last = spec["mounts"].as_array().unwrap().len() - 1;
    spec["mounts"][last]["source"] = json!(Path::new("/proc"));
    let (_cgroup, case) = container(&image, &spec, Role::Guest, &["wait"]);
    let refusal = case.refusal();
    assert!(
        refusal.contains("/data") && refusal.contains("proc"),
        "{refusal}"
    );
}

/// The whole of a create but the process: what a start spends here.
#[test]
fn time_of_the_parts() {
    let _alone = Alone::new();
    let image = Image::new();
    let text = spec(CRI, &image, "time").to_string();
    let facts = Facts::read().unwrap();
    let mut times: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
    for _ in 0..20 {
        let mut clock = std::time::Instant::now();
        let mut lap = |part| {
            times
                .entry(part)
                .or_default()
                .push(clock.elapsed().as_micros());
            clock = std::time::Instant::now();
        };
        let spec = read(text.as_bytes()).unwrap();
        lap("1 read");
        let mut made = blueprint(&spec, Role::Guest, &facts, "c1").unwrap();
        lap("2 blueprint");
        let cgroup = Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
        lap("3 cgroup");
        let tree = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
        let slots = gather(&mut made, tree, &cgroup).unwrap();
        lap("4 gather");
        assert_eq!(slots.slots.len(), made.sources.len());
        cgroup.remove().unwrap();
        lap("5 remove");
    }
    for (part, mut times) in times {
        times.sort_unstable();
        println!("{part}: {} us", times[times.len() / 2]);
    }
}
