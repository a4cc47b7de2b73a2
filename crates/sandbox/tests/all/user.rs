//! Containers in user namespaces of their own, id-mapped mounts, and clocks of their own, on the kernel that is there.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::{Value, json};
use skiff_sandbox::launch::LaunchError;
use skiff_sandbox::rootfs::{ContainerdMount, mount_root};
use skiff_sandbox::spec::{Facts, Role, blueprint, gather, read};
use skiff_sandbox::user::{Map, Maps, Range, maps_of};

use crate::blueprint::{CRI, Mounted, PAUSE, container, spec};
use crate::harness::{Alone, Image};

const FIRST: u32 = 200_000;
const COUNT: u32 = 65_536;

fn mapping() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": COUNT}])
}

/// A spec in a new user namespace.
fn with_user(text: &str, image: &Image, name: &str) -> Value {
    let mut spec = spec(text, image, name);
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    spec["root"]["readonly"] = json!(false);
    spec["linux"]["uidMappings"] = mapping();
    spec["linux"]["gidMappings"] = mapping();
    // containerd leaves this one out where there is a user namespace.
    if let Some(sysctl) = spec["linux"]["sysctl"].as_object_mut() {
        sysctl.remove("net.ipv4.ping_group_range");
    }
    spec
}

/// The root's files belong to the namespace's root, as the snapshotter has it.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(FIRST), Some(FIRST)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// The user namespace that a namespace of process `pid` belongs to.
fn owner(pid: u32, name: &str) -> String {
    /// `NS_GET_USERNS` of `linux/nsfs.h`.
    const SCRIPT: &str = "import fcntl, os, sys\n\
        owner = fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0xb701)\n\
        print(os.readlink('/proc/self/fd/%d' % owner))";
    let output = std::process::Command::new("python3")
        .args(["-c", SCRIPT, &format!("/proc/{pid}/ns/{name}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_pause_container_in_a_new_one() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut spec = with_user(PAUSE, &image, "pause");
    spec["process"]["user"] = json!({"uid": 65_535, "gid": 65_535});
    give(&image.root());
    let (cgroup, mut case) = container(&image, &spec, Role::Pause, &["wait"]);
    case.program = crate::harness::programs().join("skiff-pause");
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    let mut running = case.start();
    running.go();
    let pid = running.launched.pid;
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), dumpable);
    assert_eq!(
        running
            .proc("uid_map")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "200000", "65536"]
    );
    // The pause process runs as the image says.
    let id = FIRST + 65_535;
    assert_eq!(running.status("Uid"), format!("{id} {id} {id} {id}"));
    assert_eq!(running.status("NSpid").split(' ').next_back().unwrap(), "1");
    assert_eq!(running.proc("oom_score_adj").trim(), "900");
    // A process of this kind may ask for everything there, and nothing here: so may those who join it.
    let user = running.link("ns/user");
    for name in ["pid", "ipc", "uts", "net", "mnt"] {
        assert_eq!(owner(pid, name), user, "{name}");
    }
    let seen = std::process::Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-U", "-n", "-p", "--"])
        .args(["unshare", "--mount", "--fork", "sh", "-c"])
        .arg("mount -t proc proc /proc && cat /proc/sys/net/ipv4/ip_unprivileged_port_start && id -u")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "0\n0\n", "{seen:?}");
    cgroup.0.kill().unwrap();
    running.wait();
    drop(running);
}

/// A Wasm container as CRI describes it: it joins its pod's namespaces, its volumes show their ids as the pod's.
#[test]
fn a_container_in_its_pods() {
    let _alone = Alone::new();
    let pod_image = Image::new();
    give(&pod_image.root());
    let pod_spec = with_user(PAUSE, &pod_image, "pause");
    let (pod_cgroup, mut case) = container(&pod_image, &pod_spec, Role::Pause, &["wait"]);
    case.program = crate::harness::programs().join("skiff-pause");
    let mut pod = case.start();
    pod.go();
    let pod_pid = pod.launched.pid;

    // Also from a slim mount namespace, and with the pod's pid namespace.
    let node = Image::new();
    let slim = crate::slim::Slim::new(&node);
    for (from_slim, shared_pid) in [(false, false), (true, false), (false, true)] {
        let image = Image::new();
        let mut spec = with_user(CRI, &image, "guest");
        for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
            let file = match namespace["type"].as_str().unwrap() {
                "user" => "user",
                "network" => "net",
                "ipc" => "ipc",
                "uts" => "uts",
                "pid" if shared_pid => "pid",
                _ => continue,
            };
            namespace["path"] = json!(format!("/proc/{pod_pid}/ns/{file}"));
        }
        spec["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000}]);
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "bind" {
                mount["uidMappings"] = mapping();
                mount["gidMappings"] = mapping();
            }
            if mount["destination"] == "/shared" {
                // Nobody's, seen through the namespace.
                mount.as_object_mut().unwrap().remove("uidMappings");
                mount.as_object_mut().unwrap().remove("gidMappings");
            }
        }
        give(&image.root());
        let (_cgroup, mut case) = container(
            &image,
            &spec,
            Role::Guest,
            &[
                "each",
                "write:/data/file",
                "read:/etc/hosts",
                "write:/etc/new",
                "write:/shared/file",
                "write:/tmp/file",
            ],
        );
        if shared_pid {
            let file = std::fs::File::open(format!("/proc/{pod_pid}/ns/pid")).unwrap();
            case.pid_namespace = Some(file.into());
        }
        if from_slim {
            case = slim.start_of(case);
        }
        let mut running = case.start();
        assert_eq!(running.link("ns/user"), pod.link("ns/user"));
        assert_eq!(running.link("ns/pid") == pod.link("ns/pid"), shared_pid);
        assert_eq!(
            running.status("Uid"),
            format!("{FIRST} {FIRST} {FIRST} {FIRST}")
        );
        assert_eq!(running.status("Groups"), (FIRST + 5).to_string());
        for name in ["pid", "mnt", "net"] {
            assert_eq!(
                owner(running.launched.pid, name),
                pod.link("ns/user"),
                "{name}"
            );
        }
        running.go();
        running.wait();
        assert_eq!(
            running.output().lines().collect::<Vec<_>>(),
            [
                "write:/data/file ok",
                "read:/etc/hosts ok /etc/hosts",
                "write:/etc/new ok",
                "write:/shared/file errno 13",
                "write:/tmp/file ok",
            ]
        );
        // Root in there has written it, and it is root's on the node: the volume can be used by another pod.
        let written = std::fs::metadata(image.path("volume--data/file")).unwrap();
        assert_eq!((written.uid(), written.gid()), (0, 0));
        let own = std::fs::metadata(image.root().join("tmp/file")).unwrap();
        assert_eq!((own.uid(), own.gid()), (FIRST, FIRST));
        drop(running);
    }
    pod_cgroup.0.kill().unwrap();
    pod.wait();
    drop(pod);
}

#[test]
fn a_root_of_mapped_layers() {
    let _alone = Alone::new();
    let maps = |option: &str| format!("{option}=0:{FIRST}:{COUNT}");
    // Two layers, and so many that they do not fit one value.
    for count in [2, 150] {
        let image = Image::new();
        let mut layers = vec![image.root().display().to_string()];
        for number in 1..count {
            let layer = image.path(&format!("a-layer-of-a-long-name/{number}"));
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(format!("own-{number}")), "").unwrap();
            layers.push(layer.display().to_string());
        }
        for name in ["upper", "work"] {
            std::fs::create_dir(image.path(name)).unwrap();
            give(&image.path(name));
        }
        let mount = ContainerdMount {
            fstype: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec![
                "index=off".to_owned(),
                format!("workdir={}", image.path("work").display()),
                format!("upperdir={}", image.path("upper").display()),
                format!("lowerdir={}", layers.join(":")),
                maps("uidmap"),
                maps("gidmap"),
            ],
        };
        let tree = mount_root(&[mount], &image.path("bundle"), &image.root()).unwrap();
        let mut spec = with_user(CRI, &image, "layers");
        spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        let (_cgroup, mut case) = container(
            &image,
            &spec,
            Role::Guest,
            &[
                "each",
                "write:/etc/name",
                "write:/new",
                "read:/etc/name",
                "list:/",
            ],
        );
        case.slots[0] = tree;
        let output = case.run();
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "write:/etc/name ok",
                "write:/new ok",
                "read:/etc/name ok written"
            ]
        );
        assert!(lines[3].contains(&format!("own-{}", count - 1)), "{output}");
        // The upper directory has the namespace's ids, the image's own file is what it was.
        let owner = |path: &str| std::fs::metadata(image.path(path)).unwrap().uid();
        assert_eq!(
            (owner("upper/new"), owner("upper/etc/name")),
            (FIRST, FIRST)
        );
        assert_eq!(owner("root/etc/name"), 0);
        assert_eq!(
            std::fs::read_to_string(image.root().join("etc/name")).unwrap(),
            "image"
        );
        assert_eq!(
            std::fs::read_dir(image.path("bundle/rootfs"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn a_single_layer_is_mapped_as_a_bind() {
    let _alone = Alone::new();
    let image = Image::new();
    let mount = |source: &Path| ContainerdMount {
        fstype: "bind".to_owned(),
        source: source.display().to_string(),
        target: String::new(),
        options: [
            "rbind",
            "rw",
            "uidmap=0:200000:65536",
            "gidmap=0:200000:65536",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let tree = mount_root(
        &[mount(&image.root())],
        &image.path("bundle"),
        &image.root(),
    )
    .unwrap();
    assert_eq!(rustix::fs::fstat(&tree).unwrap().st_uid, FIRST);
    drop(tree);
    // What the snapshotter has given to the container as its own.
    give(&image.root());
    let tree = mount_root(
        &[mount(&image.root())],
        &image.path("bundle"),
        &image.root(),
    )
    .unwrap();
    assert_eq!(rustix::fs::fstat(&tree).unwrap().st_uid, FIRST);
    let refused = mount_root(
        &[mount(Path::new("/proc/sys"))],
        &image.path("bundle"),
        &image.root(),
    );
    let sentence = refused.unwrap_err().to_string();
    assert!(
        sentence.starts_with("could not show the ids of /proc/sys in the root as those of"),
        "{sentence}"
    );
}

#[test]
fn volumes_are_mapped_as_the_spec_says() {
    let _alone = Alone::new();
    let image = Image::new();
    let volume = Mounted::new(image.path("volume"));
    let below = Mounted::new(image.path("volume/below"));
    let maps = json!([{"containerID": 0, "hostID": 7000, "size": 10}]);
    for (options, own_maps, expected) in [
        (json!(["rbind", "idmap"]), Some(&maps), [7000, 0]),
        (json!(["rbind", "ridmap"]), Some(&maps), [7000, 7000]),
        (json!(["rbind"]), Some(&maps), [7000, 0]),
        (json!(["rbind", "ridmap"]), None, [FIRST, FIRST]),
        (json!(["rbind"]), None, [0, 0]),
    ] {
        let mut spec = with_user(CRI, &image, "volumes");
        let mut mount = json!({"destination": "/v", "type": "bind", "source": image.path("volume"), "options": options});
        if let Some(maps) = own_maps {
            mount["uidMappings"] = maps.clone();
            mount["gidMappings"] = maps.clone();
        }
        spec["mounts"] = json!([mount, {"destination": "/run", "type": "tmpfs", "options": ["mode=700", "gid=3"]}]);
        let facts = Facts::read().unwrap();
        let spec = read(spec.to_string().as_bytes()).unwrap();
        let mut made = blueprint(&spec, Role::Guest, &facts, "c1").unwrap();
        let cgroup = skiff_sandbox::cgroup::Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
        let tree = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
        let gathered = gather(&mut made, tree, &cgroup);
        cgroup.remove().unwrap();
        let gathered = gathered.unwrap();
        let slot = |at: &str| {
            let root = made.plan.root.as_ref().unwrap();
            let attach = root.mounts.iter().find(|attach| attach.at == at).unwrap();
            &gathered.slots[usize::from(attach.tree.0)]
        };
        let tree = slot("/v");
        let found = ["", "below"].map(|path| {
            let flags = rustix::fs::AtFlags::EMPTY_PATH;
            rustix::fs::statat(tree, path, flags).unwrap().st_uid
        });
        assert_eq!(found, expected, "{options} {own_maps:?}");
        // A file system that is made for the container belongs to its root.
        let tmpfs = rustix::fs::fstat(slot("/run")).unwrap();
        assert_eq!((tmpfs.st_uid, tmpfs.st_gid), (FIRST, FIRST + 3));
        let user = gathered.user.as_ref().unwrap();
        let range = Range {
            inside: 0,
            outside: FIRST,
            count: COUNT,
        };
        let map = Map(vec![range]);
        let maps = Maps {
            users: map.clone(),
            groups: map,
        };
        assert_eq!(maps_of(user.namespace.as_fd()).unwrap(), maps);
    }
    drop(below);
    drop(volume);
}

/// The sentence with which a spec is refused when it is read, or when what it names is opened.
fn refusal(image: &Image, spec: &Value) -> String {
    let facts = Facts::read().unwrap();
    let spec = read(spec.to_string().as_bytes()).unwrap();
    let mut made = match blueprint(&spec, Role::Guest, &facts, "c1") {
        Ok(made) => made,
        Err(refusal) => return refusal.to_string(),
    };
    let cgroup = skiff_sandbox::cgroup::Cgroup::create(&made.cgroup, &facts.cgroups).unwrap();
    let tree = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
    let gathered = gather(&mut made, tree, &cgroup);
    cgroup.remove().unwrap();
    skiff_sandbox::sentence::chain(&gathered.unwrap_err())
}

#[test]
fn what_cannot_be_had_is_refused_in_a_sentence() {
    let _alone = Alone::new();
    let image = Image::new();
    let good = with_user(CRI, &image, "refused");
    let range = |inside: u32, count: u32| json!({"containerID": inside, "hostID": 5000 + inside, "size": count});
    let many: Vec<_> = (0..341).map(|inside| range(inside, 1)).collect();
    let own = std::process::id();
    for (change, words) in [
        (
            json!({"/linux/uidMappings": [range(0, 10), range(9, 5)]}),
            "linux.uidMappings has the ranges 0:5000:10 and 9:5009:5, which overlap",
        ),
        (
            json!({"/linux/gidMappings": many}),
            "linux.gidMappings has 341 ranges, but the kernel takes 340",
        ),
        (
            json!({"/linux/uidMappings": [range(0, 0)]}),
            "0:5000:0, which is empty",
        ),
        (
            json!({"/linux/uidMappings": [range(1, 100_000)]}),
            "linux.uidMappings have no range with 0",
        ),
        (
            json!({"/linux/uidMappings": []}),
            "linux.uidMappings has no ranges",
        ),
        (
            json!({"/process/user/uid": 70_000}),
            "process.user.uid is 70000, which linux.uidMappings do not map",
        ),
        (
            json!({"/process/user/gid": 70_000}),
            "process.user.gid is 70000",
        ),
        (
            json!({"/process/user/additionalGids": [1, 70_000]}),
            "process.user.additionalGids is 70000",
        ),
        (
            json!({"/mounts": [{"destination": "/p", "type": "bind", "source": "/proc/sys", "options": ["bind", "idmap"]}]}),
            "could not show the ids of the volume /proc/sys at /p as others: its file system, or one mounted below it, cannot",
        ),
        (
            json!({"/mounts": [{"destination": "/p", "type": "tmpfs", "options": ["uid=70000"]}]}),
            "the tmpfs for /p is to have the uid=70000, which the container's user namespace does not map",
        ),
        (
            json!({"/mounts": [{"destination": "/p", "type": "tmpfs", "options": ["idmap"]}]}),
            "mounts[/p] is to show its ids as others, which only bind mounts can",
        ),
        (
            json!({"/linux/namespaces": [{"type": "mount"}, {"type": "user", "path": format!("/proc/{own}/ns/user")}]}),
            "could not read the id maps of the user namespace",
        ),
    ] {
        let mut spec = good.clone();
        for (at, value) in change.as_object().unwrap() {
            if let Some(place) = spec.pointer_mut(at) {
                *place = value.clone();
            } else {
                let (object, key) = at.rsplit_once('/').unwrap();
                spec.pointer_mut(object).unwrap()[key] = value.clone();
            }
        }
        let sentence = refusal(&image, &spec);
        assert!(sentence.contains(words), "{sentence}");
    }
}

/// Maps that are not those of the namespace that is joined.
#[test]
fn maps_of_another_namespace_are_refused() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut spec = with_user(CRI, &image, "other");
    let mut holder = crate::namespaces::hold_user_namespace();
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "user" {
            namespace["path"] = json!(format!("/proc/{}/ns/user", holder.id()));
        }
    }
    let sentence = refusal(&image, &spec);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(
        sentence.contains("linux.uidMappings and linux.gidMappings are not those of"),
        "{sentence}"
    );
}

/// What only the node's root may do is done before the namespace is entered, and refused in a sentence.
#[test]
fn limits_and_scores_are_the_nodes() {
    let _alone = Alone::new();
    let image = Image::new();
    give(&image.root());
    let mut spec = with_user(CRI, &image, "limits");
    spec["process"]["user"] = json!({"uid": 0, "gid": 0});
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let higher = own.maximum.unwrap() + 1;
    spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": higher}]);
    let (cgroup, case) = container(&image, &spec, Role::Guest, &["wait"]);
    let resources = 1_u64 << 24;
    if crate::harness::own_capabilities() & resources == 0 {
        let Err(LaunchError::Child { what, .. }) = case.launch().map(drop) else {
            panic!("it was launched");
        };
        assert_eq!(what, "raise its resource limits");
    } else {
        let running = case.start();
        assert!(running.proc("limits").contains(&higher.to_string()));
    }
    drop(cgroup);
}

#[test]
fn clocks_of_a_new_time_namespace() {
    let _alone = Alone::new();
    for in_user in [false, true] {
        let image = Image::new();
        give(&image.root());
        let mut spec = if in_user {
            with_user(CRI, &image, "time")
        } else {
            spec(CRI, &image, "time")
        };
        spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] =
            json!({"monotonic": {"secs": 864_000, "nanosecs": 5}, "boottime": {"secs": 1_000_000}});
        let (_cgroup, case) = container(&image, &spec, Role::Guest, &["clock"]);
        let before = clock();
        let mut running = case.start();
        assert_ne!(running.link("ns/time"), crate::namespaces::own("time"));
        running.go();
        running.wait();
        let output = running.output();
        let inside: f64 = output.trim().parse().unwrap();
        let ahead = inside - before;
        assert!((864_000.0..864_020.0).contains(&ahead), "{ahead}");
        drop(running);
    }
}

fn clock() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    std::time::Duration::try_from(now).unwrap().as_secs_f64()
}

#[test]
fn clocks_that_cannot_be_are_refused() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut spec = spec(CRI, &image, "clocks");
    spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    for (offsets, words) in [
        (
            json!({"realtime": {"secs": 1}}),
            "linux.timeOffsets[realtime] is no clock",
        ),
        (
            json!({"monotonic": {"nanosecs": 1_000_000_000}}),
            "which is a second or more",
        ),
    ] {
        spec["linux"]["timeOffsets"] = offsets;
        let sentence = refusal(&image, &spec);
        assert!(sentence.contains(words), "{sentence}");
    }
    // The kernel keeps clocks above zero.
    spec["linux"]["timeOffsets"] = json!({"monotonic": {"secs": -1_000_000_000_000_i64}});
    let (_cgroup, case) = container(&image, &spec, Role::Guest, &["wait"]);
    let sentence = case.refusal();
    assert!(sentence.contains("could not set a clock of the new time namespace ahead by \"monotonic -1000000000000 0\""), "{sentence}");
}

/// `rro` and its like are for the mounts below too.
#[test]
fn recursive_flags_reach_the_mounts_below() {
    let _alone = Alone::new();
    let image = Image::new();
    let volume = Mounted::new(image.path("volume"));
    let below = Mounted::new(image.path("volume/below"));
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(image.path("volume"), mode.clone()).unwrap();
    std::fs::set_permissions(image.path("volume/below"), mode).unwrap();
    let commands = ["each", "write:/v/file", "write:/v/below/file"];
    let read_only = "errno 30";
    for (options, expected) in [
        (json!(["rbind", "rro"]), [read_only, read_only]),
        (json!(["rbind", "ro"]), [read_only, "ok"]),
        (json!(["rbind", "rro", "rrw"]), ["ok", "ok"]),
        (
            json!(["rbind", "rro", "rnoatime", "rnodiratime", "rnosymfollow"]),
            [read_only, read_only],
        ),
    ] {
        let mut spec = spec(CRI, &image, "recursive");
        spec["mounts"] = json!([{"destination": "/v", "type": "bind", "source": image.path("volume"), "options": options}]);
        let (_cgroup, case) = container(&image, &spec, Role::Guest, &commands);
        let mut running = case.start();
        let mounts = running.proc("mountinfo");
        running.go();
        running.wait();
        let output = running.output();
        let found: Vec<_> = output
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(found, expected, "{options}");
        if options.as_array().unwrap().len() == 5 {
            for at in [" /v ", " /v/below "] {
                let line = mounts.lines().find(|line| line.contains(at)).unwrap();
                for flag in [
                    "ro",
                    "noatime",
                    "nodiratime",
                    "nosymfollow",
                    "nosuid",
                    "nodev",
                    "noexec",
                ] {
                    assert!(line.contains(flag), "{flag}: {line}");
                }
            }
        }
        drop(running);
    }
    drop(below);
    drop(volume);
}
