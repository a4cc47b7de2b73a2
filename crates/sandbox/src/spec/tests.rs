//! Blueprints of real specs: the files in `testdata` are what containerd 2.4 and 1.7 hand to a runtime for
//! `ctr run` and for pods, with the paths of a usual node. The rest are small changes of them.

use std::collections::BTreeSet;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;
use crate::cgroup::Layout;
use crate::plan::{Capabilities, Identity, Rlimit};
use crate::sys::mount::attribute::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, STRICT_ATIME};

const CTR: &str = include_str!("testdata/ctr-default.json");
const CTR_LIMITS: &str = include_str!("testdata/ctr-limits.json");
const CTR_PRIVILEGED: &str = include_str!("testdata/ctr-privileged.json");
const CRI_PAUSE: &str = include_str!("testdata/cri-pause.json");
const CRI_PAUSE_1_7: &str = include_str!("testdata/cri-pause-1.7.json");
const CRI_PAUSE_HOST: &str = include_str!("testdata/cri-pause-host-network.json");
const CRI_RESTRICTED: &str = include_str!("testdata/cri-restricted.json");
const CRI_RESTRICTED_1_7: &str = include_str!("testdata/cri-restricted-1.7.json");
const CRI_HOST: &str = include_str!("testdata/cri-host-network.json");
const CRI_PRIVILEGED: &str = include_str!("testdata/cri-privileged.json");

const GUEST: u64 = NO_SUID | NO_DEV | NO_EXEC;

/// A hybrid node with some of its controllers on one hierarchy, as systemd mounts them.
fn facts() -> Facts {
    let mountinfo = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids
36 30 0:32 / /sys/fs/cgroup/devices rw,nosuid - cgroup cgroup rw,devices
37 30 0:33 / /sys/fs/cgroup/cpuset rw,nosuid - cgroup cgroup rw,cpuset
38 30 0:34 / /sys/fs/cgroup/blkio rw,nosuid - cgroup cgroup rw,blkio
";
    let cgroup = "8:blkio:/\n7:cpuset:/\n6:devices:/\n5:pids:/\n4:memory:/system.slice/containerd.service\n\
                  3:cpu,cpuacct:/\n1:name=systemd:/system.slice\n0::/system.slice\n";
    Facts {
        cgroups: Layout::parse(mountinfo, cgroup).unwrap(),
        capabilities: (1 << 41) - 1,
        last_capability: 40,
        apparmor: false,
        selinux: false,
    }
}

fn parse(config: &str) -> Spec {
    read(config.as_bytes()).unwrap()
}

fn plan_of(config: &str) -> Blueprint {
    blueprint(&parse(config), Role::Guest, &facts(), "c1").unwrap()
}

/// The fixture with `value` at the JSON pointer `at`; objects on the way are made.
fn changed(config: &str, at: &str, value: Value) -> Spec {
    let mut json: Value = serde_json::from_str(config).unwrap();
    let mut place = &mut json;
    for name in at.split('/').skip(1) {
        place = if place.is_array() {
            let list = place.as_array_mut().unwrap();
            if name == "-" {
                list.push(Value::Null);
                list.last_mut().unwrap()
            } else {
                &mut list[name.parse::<usize>().unwrap()]
            }
        } else {
            if place.is_null() {
                *place = json!({});
            }
            &mut place[name]
        };
    }
    *place = value;
    read(json.to_string().as_bytes()).unwrap()
}

fn changed_plan(at: &str, value: Value) -> Result<Blueprint, Refusal> {
    blueprint(&changed(CTR, at, value), Role::Guest, &facts(), "c1")
}

fn mounted(blueprint: &Blueprint) -> Vec<&str> {
    blueprint
        .plan
        .root
        .as_ref()
        .unwrap()
        .mounts
        .iter()
        .map(|attach| attach.at.as_str())
        .collect()
}

fn written(blueprint: &Blueprint) -> Vec<String> {
    let line = |setting: &crate::cgroup::Setting| format!("{} {}", setting.file, setting.value);
    blueprint
        .cgroup
        .settings
        .iter()
        .map(line)
        .filter(|line| !line.starts_with("devices."))
        .collect()
}

#[test]
fn every_real_spec_is_understood() {
    for (name, config) in [
        ("ctr", CTR),
        ("ctr limits", CTR_LIMITS),
        ("ctr privileged", CTR_PRIVILEGED),
        ("cri pause", CRI_PAUSE),
        ("cri pause 1.7", CRI_PAUSE_1_7),
        ("cri pause host", CRI_PAUSE_HOST),
        ("cri restricted", CRI_RESTRICTED),
        ("cri restricted 1.7", CRI_RESTRICTED_1_7),
        ("cri host", CRI_HOST),
        ("cri privileged", CRI_PRIVILEGED),
    ] {
        for role in [Role::Guest, Role::Pause] {
            let made = blueprint(&parse(config), role, &facts(), "c1");
            let made = made.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            let root = made.plan.root.as_ref().unwrap();
            assert!(root.guest, "{name}");
            assert_eq!(root.tree, Slot(0), "{name}");
            assert_eq!(made.sources[0], Source::Root, "{name}");
            for at in mounted(&made) {
                assert!(
                    !at.starts_with("/proc") && !at.starts_with("/sys"),
                    "{name}: {at}"
                );
                assert_ne!(at, "/dev", "{name}");
            }
            // Every slot names a source of its kind.
            for attach in &root.mounts {
                let source = &made.sources[usize::from(attach.tree.0)];
                assert!(
                    matches!(source, Source::Bind(_) | Source::Tmpfs(_)),
                    "{name}: {source:?}"
                );
            }
            for join in &made.plan.join {
                let source = &made.sources[usize::from(join.from.0)];
                assert!(
                    matches!(source, Source::Namespace { kind, .. } if *kind == join.kind),
                    "{name}: {source:?}"
                );
            }
            let hierarchies: BTreeSet<_> = made
                .plan
                .cgroup_tasks
                .iter()
                .chain(&made.plan.processor_tasks)
                .map(|slot| match made.sources[usize::from(slot.0)] {
                    Source::CgroupTasks(index) => index,
                    ref source => panic!("{name}: {source:?}"),
                })
                .collect();
            assert_eq!(hierarchies, (0..7).collect(), "{name}");
            assert_eq!(made.plan.cgroup_tasks.len(), 6, "{name}");
        }
    }
}

#[test]
fn ctr_default() {
    let made = plan_of(CTR);
    let plan = &made.plan;
    // The two files of the node are of ctr; `/proc`, `/dev`, `/dev/pts`, `/dev/mqueue` and `/sys` are left out.
    assert_eq!(mounted(&made), ["/dev/shm", "/run"]);
    let Source::Tmpfs(run) = &made.sources[made.sources.len() - 1] else {
        panic!("{:?}", made.sources)
    };
    assert_eq!(run.attributes, GUEST | STRICT_ATIME);
    let option = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    assert_eq!(
        run.options,
        [option("mode", "755"), option("size", "65536k")]
    );
    assert_eq!(run.propagation, Some((Propagation::Private, true)));
    assert_eq!(
        made.new,
        [
            Namespace::Pid,
            Namespace::Ipc,
            Namespace::Uts,
            Namespace::Network
        ]
        .into_iter()
        .collect()
    );
    assert_eq!(plan.new, [Namespace::Mount].into_iter().collect());
    assert!(plan.join.is_empty());
    assert_eq!(
        plan.rlimits,
        [Rlimit {
            resource: libc::RLIMIT_NOFILE,
            soft: 1024,
            hard: 1024
        }]
    );
    assert!(plan.no_new_privileges);
    assert_eq!(plan.capabilities.bounding, 0xa804_25fb);
    assert_eq!(plan.capabilities.ambient, 0);
    assert_eq!(plan.working_directory, "/");
    assert_eq!(made.cgroup.path, "/default/default");
    assert_eq!(written(&made), ["cpu.shares 1024"]);
    assert!(plan.seccomp.is_none());
}

#[test]
fn ctr_with_limits_user_and_seccomp() {
    let made = plan_of(CTR_LIMITS);
    let plan = &made.plan;
    assert_eq!(mounted(&made), ["/dev/shm", "/run", "/data"]);
    let Some(Source::Bind(data)) = made.sources.last() else {
        panic!("{:?}", made.sources)
    };
    assert!(data.recursive);
    assert_eq!(data.change.set, READ_ONLY);
    assert_eq!(data.recursive_change.set, GUEST);
    assert!(plan.root.as_ref().unwrap().read_only);
    assert_eq!(
        plan.identity,
        Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            umask: None
        }
    );
    assert_eq!(plan.working_directory, "/data");
    assert!(
        plan.seccomp
            .as_ref()
            .is_some_and(|filter| filter.program.len() > 1000 && filter.flags == 0)
    );
    assert_eq!(
        written(&made),
        [
            "memory.limit_in_bytes 67108864",
            "cpu.shares 1024",
            "cpu.cfs_period_us 100000",
            "cpu.cfs_quota_us 50000"
        ]
    );
}

#[test]
fn cri_pause() {
    for config in [CRI_PAUSE, CRI_PAUSE_1_7] {
        let made = blueprint(&parse(config), Role::Pause, &facts(), "c1").unwrap();
        assert_eq!(mounted(&made), ["/dev/shm", "/etc/resolv.conf"]);
        assert_eq!(made.plan.hostname.as_deref(), Some("plain"));
        assert_eq!(made.plan.oom_score_adj, Some(0));
        assert_eq!(
            made.plan
                .join
                .iter()
                .map(|join| join.kind)
                .collect::<Vec<_>>(),
            [Namespace::Network]
        );
        assert_eq!(
            made.new,
            [Namespace::Pid, Namespace::Ipc, Namespace::Uts]
                .into_iter()
                .collect()
        );
        assert!(made.plan.root.as_ref().unwrap().read_only);
        assert_eq!(written(&made), ["cpu.shares 2"]);
    }
    // Only containerd 2 lets pods have low ports and ping without privileges.
    let made = plan_of(CRI_PAUSE);
    let sysctl = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        made.plan.sysctls,
        [
            sysctl("net/ipv4/ip_unprivileged_port_start", "0"),
            sysctl("net/ipv4/ping_group_range", "0 2147483647")
        ]
    );
}

#[test]
fn cri_container_of_a_restricted_pod() {
    for config in [CRI_RESTRICTED, CRI_RESTRICTED_1_7] {
        let made = plan_of(config);
        let plan = &made.plan;
        assert_eq!(
            mounted(&made),
            [
                "/data",
                "/shared",
                "/etc/hosts",
                "/dev/termination-log",
                "/etc/hostname",
                "/etc/resolv.conf",
                "/dev/shm",
                "/var/run/secrets/kubernetes.io/serviceaccount",
            ]
        );
        assert_eq!(plan.capabilities, Capabilities::default());
        assert_eq!(
            plan.identity,
            Identity {
                uid: 65534,
                gid: 65534,
                groups: vec![65534],
                umask: None
            }
        );
        assert_eq!(plan.oom_score_adj, Some(900));
        assert_eq!(
            plan.join.iter().map(|join| join.kind).collect::<Vec<_>>(),
            [Namespace::Ipc, Namespace::Uts, Namespace::Network]
        );
        assert_eq!(made.new, [Namespace::Pid].into_iter().collect());
        assert_eq!(plan.root.as_ref().unwrap().propagation, Propagation::Slave);
        let bind = |at: &str| {
            made.sources
                .iter()
                .find_map(|source| match source {
                    Source::Bind(bind) if bind.destination == at => Some(bind),
                    _ => None,
                })
                .unwrap()
        };
        assert_eq!(
            bind("/shared").propagation,
            Some((Propagation::Slave, true))
        );
        assert_eq!(
            bind("/data").propagation,
            Some((Propagation::Private, true))
        );
        assert_eq!(bind("/data").change, Change::default());
        assert_eq!(bind("/etc/resolv.conf").change.set, READ_ONLY);
        assert_eq!(
            written(&made),
            [
                "memory.limit_in_bytes 134217728",
                "memory.memsw.limit_in_bytes 134217728",
                "cpu.shares 512",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 50000",
            ]
        );
    }
}

#[test]
fn cri_container_with_the_namespaces_of_the_node() {
    let made = plan_of(CRI_HOST);
    let pid = made.pid_namespace.as_ref().unwrap().to_str().unwrap();
    assert!(
        pid.starts_with("/proc/") && pid.ends_with("/ns/pid"),
        "{pid}"
    );
    assert!(made.new.is_empty());
    // The pid namespace is entered at launch, not by the process.
    assert!(
        !made
            .plan
            .join
            .iter()
            .any(|join| join.kind == Namespace::Pid)
    );
    let made = plan_of(CRI_PAUSE_HOST);
    assert_eq!(made.pid_namespace, None);
    assert_eq!(made.plan.hostname, None);
    assert!(made.plan.sysctls.is_empty());
}

#[test]
fn a_privileged_container_is_still_a_guest() {
    for config in [CRI_PRIVILEGED, CTR_PRIVILEGED] {
        let made = plan_of(config);
        assert!(made.plan.root.as_ref().unwrap().guest);
        assert_eq!(made.plan.capabilities.effective & 1 << 21, 1 << 21);
        let devices: Vec<_> = made
            .cgroup
            .settings
            .iter()
            .filter(|setting| setting.controller == "devices")
            .collect();
        assert_eq!(devices.len(), 1);
        assert_eq!(
            (devices[0].file.as_str(), devices[0].value.as_str()),
            ("devices.allow", "a *:* rwm")
        );
    }
}

/// Each with the words that the sentence must have: the field and what is wrong.
#[test]
fn what_is_refused_is_named() {
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let hook = json!([{"path": "/usr/bin/hook"}]);
    let cases = [
        ("/ociVersion", json!("2.0.0"), "ociVersion is \"2.0.0\""),
        ("/hooks/prestart", hook.clone(), "hooks is set"),
        ("/hooks/createContainer", hook.clone(), "hooks is set"),
        ("/hooks/poststop", hook, "hooks is set"),
        (
            "/linux/uidMappings",
            mapping.clone(),
            "linux.gidMappings has no ranges",
        ),
        (
            "/linux/gidMappings",
            mapping.clone(),
            "linux.uidMappings has no ranges",
        ),
        (
            "/linux/namespaces/-",
            json!({"type": "user"}),
            "linux.namespaces[user] asks for a new user namespace, but linux.uidMappings",
        ),
        (
            "/linux/namespaces/-",
            json!({"type": "pid"}),
            "linux.namespaces[pid] is given twice",
        ),
        (
            "/linux/namespaces/3",
            json!({"type": "mount", "path": "/proc/1/ns/mnt"}),
            "linux.namespaces[mount] joins",
        ),
        (
            "/linux/namespaces/0",
            json!({"type": "pid", "path": "ns/pid"}),
            "linux.namespaces[pid] has the path ns/pid, which is not absolute",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}]),
            "linux.namespaces has no new mount namespace",
        ),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "linux.timeOffsets[monotonic] is set, but the container has no new time namespace",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "eth1"}}),
            "linux.netDevices is set",
        ),
        (
            "/linux/intelRdt",
            json!({"closID": "a"}),
            "linux.intelRdt is set",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0"}),
            "linux.memoryPolicy is set",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX32"}),
            "linux.personality is set",
        ),
        (
            "/linux/mountLabel",
            json!("system_u:object_r:x:s0"),
            "linux.mountLabel is set",
        ),
        (
            "/linux/rootfsPropagation",
            json!("sideways"),
            "linux.rootfsPropagation is \"sideways\"",
        ),
        (
            "/linux/sysctl",
            json!({"vm.swappiness": "1"}),
            "linux.sysctl[vm.swappiness] belongs to no namespace",
        ),
        (
            "/linux/sysctl",
            json!({"net.../../vm": "1"}),
            "is not the name of a sysctl",
        ),
        (
            "/linux/resources/rdma",
            json!({"mlx5_1": {"hcaHandles": 3}}),
            "linux.resources.rdma is set",
        ),
        (
            "/linux/resources/unified",
            json!({"memory.high": "1"}),
            "linux.resources.unified is set, but this node has its controllers on cgroup v1",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 0}]),
            "linux.resources.hugepageLimits is set, but this node has no cgroup controller hugetlb",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "../x", "limit": 0}]),
            "names the page size",
        ),
        (
            "/linux/resources/network",
            json!({"classID": 5}),
            "linux.resources.network.classID is set, but this node has no cgroup controller net_cls",
        ),
        (
            "/linux/resources/network",
            json!({"priorities": [{"name": "eth0", "priority": 1}]}),
            "linux.resources.network.priorities is set, but",
        ),
        (
            "/linux/resources/memory",
            json!({"kernel": 1}),
            "linux.resources.memory.kernel is set",
        ),
        (
            "/linux/resources/memory",
            json!({"swappiness": 101}),
            "linux.resources.memory.swappiness is 101",
        ),
        (
            "/linux/resources/memory",
            json!({"useHierarchy": false}),
            "linux.resources.memory.useHierarchy is false",
        ),
        (
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "c", "access": "rx"}),
            "only r, w and m are known",
        ),
        (
            "/linux/cgroupsPath",
            json!("system:cri-containerd:c1"),
            "is no name of a slice of systemd",
        ),
        (
            "/linux/cgroupsPath",
            json!("/../../etc"),
            "linux.cgroupsPath is \"/../../etc\"",
        ),
        (
            "/linux/cgroupsPath",
            json!("/"),
            "linux.cgroupsPath is \"/\"",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/l"}),
            "linux.seccomp.listenerPath is set",
        ),
        (
            "/process/selinuxLabel",
            json!("a:b:c"),
            "process.selinuxLabel is \"a:b:c\", but SELinux is not in force",
        ),
        (
            "/process/apparmorProfile",
            json!("strict"),
            "process.apparmorProfile is \"strict\", but AppArmor is not in force",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO"}),
            "process.scheduler is set",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_RT", "priority": 1}),
            "process.ioPriority is set",
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "0"}),
            "process.execCPUAffinity is set",
        ),
        (
            "/process/cwd",
            json!("data"),
            "process.cwd is \"data\", which is not an absolute path",
        ),
        (
            "/process/args",
            json!(["/app.wasm", "a\0b"]),
            "process.args[1] has a NUL byte in it",
        ),
        (
            "/process/env",
            json!(["A=b\0c"]),
            "process.env[0] has a NUL byte in it",
        ),
        (
            "/process/user/additionalGids",
            json!((0..65537).collect::<Vec<_>>()),
            "process.user.additionalGids are 65537 groups, but",
        ),
        (
            "/process/oomScoreAdj",
            json!(1001),
            "process.oomScoreAdj is 1001",
        ),
        (
            "/process/user/umask",
            json!(0o1777),
            "process.user.umask is 0o1777",
        ),
        (
            "/process/rlimits/-",
            json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}),
            "process.rlimits[RLIMIT_NOFILE] is given twice",
        ),
        (
            "/process/rlimits/0",
            json!({"type": "RLIMIT_CPU", "soft": 2, "hard": 1}),
            "process.rlimits[RLIMIT_CPU] has a soft limit of 2 above",
        ),
        (
            "/process/capabilities",
            json!({"effective": ["CAP_KILL"]}),
            "process.capabilities.effective has capabilities that are not in",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "type": "ext4", "source": "/dev/sda"}),
            "mounts[/a] has the type \"ext4\"",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "type": "bind", "source": "a"}),
            "mounts[/a] is a bind mount without an absolute path",
        ),
        (
            "/mounts/-",
            json!({"destination": "a", "type": "tmpfs"}),
            "mounts[a] has a destination that is not an absolute path",
        ),
        (
            "/mounts/-",
            json!({"destination": "/x/..", "type": "tmpfs"}),
            "mounts[/x/..] would hide the container's root",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "type": "tmpfs", "options": ["tmpcopyup"]}),
            "mounts[/a] has the option \"tmpcopyup\"",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "type": "bind", "source": "/b", "options": ["rbind", "remount"]}),
            "mounts[/a] has the option \"remount\"",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "source": "/b", "options": ["rbind", "idmap"]}),
            "mounts[/a] is to show its ids as others, but neither it nor the container has maps",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "source": "/b", "options": ["rbind", "size=1"]}),
            "mounts[/a] has the option \"size=1\", which is not known",
        ),
        (
            "/mounts/-",
            json!({"destination": "/a", "source": "/b", "options": ["rbind"], "uidMappings": mapping}),
            "mounts[/a].gidMappings has no ranges",
        ),
    ];
    for (at, value, words) in cases {
        let refusal = match changed_plan(at, value.clone()) {
            Err(refusal) => refusal.to_string(),
            Ok(_) => panic!("{at} {value} was accepted"),
        };
        assert!(
            refusal.contains(words),
            "{at} {value}: {refusal:?} does not contain {words:?}"
        );
    }
}

/// What containerd, Docker and others write without meaning anything by it.
#[test]
fn harmless_settings_pass() {
    for (at, value) in [
        ("/hooks", json!({})),
        ("/hooks/prestart", json!([])),
        ("/linux/personality", json!({"domain": "LINUX"})),
        ("/linux/uidMappings", json!([])),
        ("/linux/mountLabel", json!("")),
        ("/linux/resources/rdma", json!({})),
        ("/linux/resources/unified", json!({})),
        ("/linux/resources/network", json!({})),
        (
            "/linux/resources/memory",
            json!({"limit": 0, "swap": 0, "kernel": 0, "disableOOMKiller": false}),
        ),
        (
            "/linux/resources/cpu",
            json!({"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}),
        ),
        ("/linux/resources/pids", json!({"limit": 0})),
        ("/linux/resources/blockIO", json!({})),
        // The shim's business.
        ("/process/terminal", json!(true)),
        ("/process/selinuxLabel", json!("")),
        ("/process/apparmorProfile", json!("")),
        ("/process/apparmorProfile", json!("unconfined")),
        ("/process/consoleSize", json!({"height": 1, "width": 1})),
        ("/linux/seccomp", json!(null)),
        ("/annotations", json!({"a": "b"})),
        // Of a later version of the OCI specification.
        ("/linux/laterField", json!(null)),
    ] {
        if let Err(refusal) = changed_plan(at, value.clone()) {
            panic!("{at} {value}: {refusal}");
        }
    }
}

#[test]
fn names_need_a_namespace() {
    let without_uts = |field: &str| {
        let mut json: Value = serde_json::from_str(CTR).unwrap();
        json["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "uts");
        json["hostname"] = json!("");
        json[field] = json!("other");
        blueprint(&parse(&json.to_string()), Role::Guest, &facts(), "c1")
            .unwrap_err()
            .to_string()
    };
    assert!(
        without_uts("hostname")
            .starts_with("hostname is \"other\", but the container shares the node's uts")
    );
    assert!(
        without_uts("domainname").starts_with("domainname is \"other\", but the container shares")
    );
    // A pod's containers share a namespace that is not the node's.
    let joined = changed(
        CTR,
        "/linux/namespaces/2",
        json!({"type": "uts", "path": "/proc/7/ns/uts"}),
    );
    let mut json = serde_json::to_value(&joined).unwrap();
    json["hostname"] = json!("other");
    let made = blueprint(&parse(&json.to_string()), Role::Guest, &facts(), "c1").unwrap();
    assert_eq!(made.plan.hostname.as_deref(), Some("other"));
}

#[test]
fn sysctls_are_paths_and_belong_to_the_container() {
    let made = changed_plan(
        "/linux/sysctl",
        json!({"net.ipv4.conf.eth0/100.forwarding": "1", "net/ipv4/conf/eth0.200/forwarding": "1",
               "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "5", "kernel.hostname": "a"}),
    )
    .unwrap();
    let paths: Vec<_> = made
        .plan
        .sysctls
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "fs/mqueue/msg_max",
            "kernel/hostname",
            "kernel/shm_rmid_forced",
            "net/ipv4/conf/eth0.100/forwarding",
            "net/ipv4/conf/eth0.200/forwarding",
        ]
    );
    let spec = changed(
        CTR_PRIVILEGED,
        "/linux/sysctl",
        json!({"net.core.somaxconn": "1"}),
    );
    let refusal = blueprint(&spec, Role::Guest, &facts(), "c1")
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("the container has no network namespace of its own"),
        "{refusal}"
    );
}

#[test]
fn capabilities_that_the_node_cannot_give() {
    let mut facts = facts();
    facts.capabilities &= !(1 << 24);
    let spec = changed(
        CTR,
        "/process/capabilities",
        json!({"bounding": ["CAP_SYS_RESOURCE"]}),
    );
    let refusal = blueprint(&spec, Role::Guest, &facts, "c1")
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("process.capabilities.bounding asks for CAP_SYS_RESOURCE"),
        "{refusal}"
    );
    // A kernel that does not know one does not check it either.
    facts.last_capability = 37;
    let spec = changed(
        CTR,
        "/process/capabilities",
        json!({"bounding": ["CAP_BPF", "CAP_KILL"], "ambient": ["CAP_KILL"]}),
    );
    let made = blueprint(&spec, Role::Guest, &facts, "c1").unwrap();
    assert_eq!(
        made.plan.capabilities,
        Capabilities {
            bounding: 1 << 5,
            ..Capabilities::default()
        }
    );
}

/// An engine host executes nothing after it has become the container: it must not keep what a program of
/// the same spec would lose.
#[test]
fn a_guest_has_the_capabilities_that_a_program_would_have() {
    let kill = 1 << 5;
    let sets = |uid: u32, role: Role, ambient: bool| {
        let mut json: Value = serde_json::from_str(CTR).unwrap();
        let all = json!(["CAP_KILL"]);
        json["process"]["user"]["uid"] = json!(uid);
        json["process"]["capabilities"] =
            json!({"bounding": all, "effective": all, "permitted": all});
        if ambient {
            json["process"]["capabilities"]["inheritable"] = all.clone();
            json["process"]["capabilities"]["ambient"] = all;
        }
        let made = blueprint(&parse(&json.to_string()), role, &facts(), "c1").unwrap();
        let sets = made.plan.capabilities;
        (sets.bounding, sets.permitted, sets.effective, sets.ambient)
    };
    assert_eq!(sets(0, Role::Guest, false), (kill, kill, kill, 0));
    assert_eq!(sets(1000, Role::Guest, false), (kill, 0, 0, 0));
    assert_eq!(sets(1000, Role::Guest, true), (kill, kill, kill, kill));
    // The pause program is executed: the kernel does it.
    assert_eq!(sets(1000, Role::Pause, false), (kill, kill, kill, 0));
}

#[test]
fn apparmor_profiles_are_for_nodes_that_have_it() {
    let facts = Facts {
        apparmor: true,
        ..facts()
    };
    let profile = |name: &str| {
        let spec = changed(CTR, "/process/apparmorProfile", json!(name));
        blueprint(&spec, Role::Guest, &facts, "c1").map(|made| made.plan.apparmor_profile)
    };
    assert_eq!(
        profile("cri-containerd.apparmor.d"),
        Ok(Some("cri-containerd.apparmor.d".to_owned()))
    );
    assert_eq!(profile("unconfined"), Ok(None));
    assert_eq!(profile(""), Ok(None));
    assert!(
        profile("a\nb")
            .unwrap_err()
            .to_string()
            .contains("is not the name of a profile")
    );
}

#[test]
fn mount_options() {
    let bind = |options: Value| {
        let mount = json!({"destination": "/a/./b//../c", "type": "none", "source": "/v", "options": options});
        let made = changed_plan("/mounts/-", mount).unwrap();
        match made.sources.last() {
            Some(Source::Bind(bind)) => bind.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bind(json!(["bind"])).destination, "/a/c");
    assert!(!bind(json!(["bind"])).recursive);
    assert_eq!(bind(json!(["rbind", "ro", "rw"])).change.set, 0);
    assert_eq!(bind(json!(["rbind", "rw", "ro"])).change.set, READ_ONLY);
    let recursive = bind(json!(["rbind", "rro", "rnosymfollow"]))
        .recursive_change
        .set;
    assert_eq!(
        recursive,
        GUEST | READ_ONLY | crate::sys::mount::attribute::NO_SYMLINKS
    );
    // A guest's mounts stay what they are, whatever the spec says.
    assert_eq!(
        bind(json!([
            "rbind", "rsuid", "rdev", "rexec", "suid", "dev", "exec"
        ]))
        .recursive_change
        .set,
        GUEST
    );
    let noatime = bind(json!(["bind", "strictatime", "noatime"])).change;
    assert_eq!((noatime.set, noatime.clear), (0x10, 0x70));
    for (word, propagation) in [
        ("private", (Propagation::Private, false)),
        ("rslave", (Propagation::Slave, true)),
        ("shared", (Propagation::Shared, false)),
        ("runbindable", (Propagation::Unbindable, true)),
    ] {
        assert_eq!(
            bind(json!(["rbind", "rprivate", word])).propagation,
            Some(propagation),
            "{word}"
        );
    }
}

#[test]
fn what_a_guest_has_no_use_for_is_left_out() {
    for (destination, typ, options, kept) in [
        ("/proc", "proc", json!([]), false),
        ("/a", "proc", json!([]), false),
        ("/proc/x", "bind", json!(["rbind"]), false),
        ("/proc/../proc/x", "bind", json!(["rbind"]), false),
        ("/sys/fs/bpf", "bpf", json!([]), false),
        ("/sys/x", "tmpfs", json!([]), false),
        ("/sysx", "tmpfs", json!([]), true),
        ("/a", "cgroup2", json!([]), false),
        ("/a", "debugfs", json!([]), false),
        ("/dev", "tmpfs", json!([]), false),
        ("/dev/", "tmpfs", json!([]), false),
        ("/dev", "devtmpfs", json!([]), false),
        ("/dev/hugepages", "tmpfs", json!([]), true),
        ("/dev/pts", "devpts", json!([]), false),
        // With a bind, the type means nothing: what it is shows when it is opened.
        ("/a", "proc", json!(["bind"]), true),
        ("/dev", "bind", json!(["rbind"]), true),
    ] {
        let before = mounted(&plan_of(CTR)).len();
        let mount =
            json!({"destination": destination, "type": typ, "source": "/v", "options": options});
        let made = changed_plan("/mounts/-", mount).unwrap();
        assert_eq!(mounted(&made).len() > before, kept, "{destination} {typ}");
    }
}

#[test]
fn limits_in_their_order() {
    let made = changed_plan(
        "/linux/resources",
        json!({
            "memory": {"limit": 100, "swap": 200, "reservation": 50, "kernelTCP": 10, "disableOOMKiller": true, "swappiness": 0},
            "cpu": {"shares": 5, "quota": 20, "period": 10, "burst": 3, "realtimeRuntime": 1, "realtimePeriod": 2, "cpus": "0-1", "mems": "0"},
            "pids": {"limit": 9},
            "blockIO": {"weight": 100, "weightDevice": [{"major": 8, "minor": 0, "weight": 200}],
                        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        }),
    )
    .unwrap();
    assert_eq!(
        written(&made),
        [
            "memory.limit_in_bytes 100",
            "memory.memsw.limit_in_bytes 200",
            "memory.soft_limit_in_bytes 50",
            "memory.kmem.tcp.limit_in_bytes 10",
            "memory.oom_control 1",
            "memory.swappiness 0",
            "cpu.shares 5",
            "cpu.rt_period_us 2",
            "cpu.rt_runtime_us 1",
            "cpu.cfs_period_us 10",
            "cpu.cfs_quota_us 20",
            "cpu.cfs_burst_us 3",
            "cpuset.cpus 0-1",
            "cpuset.mems 0",
            "pids.max 9",
            "blkio.weight 100",
            "blkio.weight_device 8:0 200",
            "blkio.throttle.read_bps_device 8:0 1000",
        ]
    );
    let unlimited = changed_plan(
        "/linux/resources",
        json!({"memory": {"limit": -1}, "pids": {"limit": -1}}),
    )
    .unwrap();
    assert_eq!(
        written(&unlimited),
        [
            "memory.limit_in_bytes -1",
            "memory.memsw.limit_in_bytes -1",
            "pids.max max"
        ]
    );
}

#[test]
fn device_rules() {
    let rules = |rules: Value| {
        let made = changed_plan("/linux/resources/devices", rules).unwrap();
        let line = |setting: &crate::cgroup::Setting| format!("{} {}", setting.file, setting.value);
        let devices = made
            .cgroup
            .settings
            .iter()
            .map(line)
            .filter(|line| line.starts_with("devices."));
        devices.collect::<Vec<_>>()
    };
    let always = rules(json!([{"allow": false, "access": "rwm"}]));
    assert_eq!(always.len(), 11);
    assert_eq!(always[0], "devices.deny a *:* rwm");
    assert!(always.contains(&"devices.allow c 1:3 rwm".to_owned()));
    // No rules at all forbid as much.
    assert_eq!(rules(json!([])), always);
    // What is allowed to everyone is not written twice.
    let spec = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
    assert_eq!(rules(spec).len(), 11);
    let spec = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "r"}]);
    assert_eq!(rules(spec)[1], "devices.allow b 8:* r");
    // A rule for all of them makes the ones before void.
    let spec = json!([{"allow": true, "type": "b", "major": 8, "access": "r"}, {"allow": true, "access": "rwm"},
                      {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]);
    assert_eq!(
        rules(spec),
        ["devices.allow a *:* rwm", "devices.deny c 10:200 rwm"]
    );
}

#[test]
fn the_cgroup_without_a_path_is_below_the_shim() {
    assert_eq!(
        changed_plan("/linux/cgroupsPath", json!(""))
            .unwrap()
            .cgroup
            .path,
        "c1"
    );
    assert_eq!(
        changed_plan("/linux/cgroupsPath", json!("pods/c2"))
            .unwrap()
            .cgroup
            .path,
        "pods/c2"
    );
    let scope = "a-b.slice:cri-containerd:c1";
    let made = changed_plan("/linux/cgroupsPath", json!(scope)).unwrap();
    assert_eq!(made.cgroup.path, scope);
}

/// A node with cgroup v2 and most of its controllers.
fn facts_v2() -> Facts {
    let mut facts = facts();
    facts.cgroups = Layout::parse(
        "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
        "0::/system.slice/containerd.service\n",
    )
    .unwrap();
    facts.cgroups.unified.as_mut().unwrap().controllers =
        ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"]
            .map(str::to_owned)
            .into();
    facts
}

fn changed_on_v2(at: &str, value: Value) -> Result<Blueprint, Refusal> {
    blueprint(&changed(CTR, at, value), Role::Guest, &facts_v2(), "c1")
}

#[test]
fn limits_of_v2() {
    let made = changed_on_v2(
        "/linux/resources",
        json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 300},
            "cpu": {"shares": 1024, "quota": 20, "period": 10, "burst": 3, "cpus": "0-1", "mems": "0"},
            "pids": {"limit": 9},
            "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
                        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            "unified": {"memory.high": "900", "io.max": "8:0 rbps=5\n8:16 wbps=6\n", "cgroup.max.depth": "1"},
        }),
    )
    .unwrap();
    assert_eq!(
        written(&made),
        [
            "memory.swap.max 500",
            "memory.max 1000",
            "memory.low 300",
            "cpu.weight 100",
            "cpu.max 20 10",
            "cpu.max.burst 3",
            "cpuset.cpus 0-1",
            "cpuset.mems 0",
            "pids.max 9",
            "io.bfq.weight 500",
            "io.bfq.weight 8:0 10",
            "io.max 8:0 rbps=1000",
            "io.max 8:0 wiops=max",
            "hugetlb.2MB.max 4194304",
            "hugetlb.2MB.rsvd.max 4194304",
            "cgroup.max.depth 1",
            "io.max 8:0 rbps=5",
            "io.max 8:16 wbps=6",
            "memory.high 900",
        ]
    );
    let checks: Vec<_> = made
        .cgroup
        .settings
        .iter()
        .map(|setting| setting.check)
        .collect();
    assert!(
        checks.contains(&crate::cgroup::Check::OrNumber("io.weight", 4950)),
        "{checks:?}"
    );
    // Nothing is joined by a file: the process starts in its cgroup.
    assert!(made.plan.cgroup_tasks.is_empty() && made.plan.processor_tasks.is_empty());
    assert!(
        made.cgroup
            .settings
            .iter()
            .all(|setting| !setting.file.starts_with("devices."))
    );
    let devices = made.cgroup.devices.unwrap();
    assert!(
        !devices.allow_all
            && devices
                .rules
                .iter()
                .any(|rule| rule.to_string() == "c 1:3 rwm")
    );
}

#[test]
fn conversions_to_v2() {
    let lines = |resources: Value| written(&changed_on_v2("/linux/resources", resources).unwrap());
    assert_eq!(
        lines(json!({"memory": {"limit": -1}, "pids": {"limit": -1}})),
        ["memory.swap.max max", "memory.max max", "pids.max max"]
    );
    assert_eq!(
        lines(json!({"memory": {"limit": 5, "swap": 5}})),
        ["memory.swap.max 0", "memory.max 5"]
    );
    assert_eq!(
        lines(json!({"memory": {"limit": 5, "swap": -1}})),
        ["memory.swap.max max", "memory.max 5"]
    );
    assert_eq!(
        lines(json!({"cpu": {"quota": -1, "period": 1000}})),
        ["cpu.max max 1000"]
    );
    assert_eq!(lines(json!({"cpu": {"quota": 500}})), ["cpu.max 500"]);
    assert_eq!(
        lines(json!({"cpu": {"idle": 1, "shares": 5}})),
        ["cpu.idle 1"]
    );
    assert_eq!(
        lines(json!({"cpu": {"shares": 0}, "memory": {"limit": 0}, "pids": {"limit": 0}})),
        [""; 0]
    );
    for (resources, part) in [
        (json!({"memory": {"swap": 5}}), "no limit of memory"),
        (
            json!({"memory": {"limit": 6, "swap": 5}}),
            "limit of memory alone is 6",
        ),
        (
            json!({"memory": {"limit": 6, "swappiness": 5}}),
            "memory.swappiness is set, but cgroup v2",
        ),
        (
            json!({"memory": {"disableOOMKiller": true}}),
            "disableOOMKiller is set, but cgroup v2",
        ),
        (
            json!({"cpu": {"realtimeRuntime": 5}}),
            "realtimeRuntime is set, but cgroup v2",
        ),
        (
            json!({"blockIO": {"leafWeight": 5}}),
            "leafWeight is set, but cgroup v2",
        ),
        (
            json!({"network": {"classID": 5}}),
            "no cgroup controller net_cls",
        ),
        (json!({"unified": {"memory/high": "1"}}), "\"memory/high\""),
        (json!({"unified": {"memory": "1"}}), "\"memory\""),
        (
            json!({"unified": {"warp.speed": "1"}}),
            "no controller warp",
        ),
        (
            json!({"unified": {"rdma.max": "1"}}),
            "this node has no controller rdma",
        ),
    ] {
        let told = changed_on_v2("/linux/resources", resources)
            .unwrap_err()
            .to_string();
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn every_real_spec_is_understood_on_v2() {
    for config in [
        CTR,
        CTR_LIMITS,
        CTR_PRIVILEGED,
        CRI_PAUSE,
        CRI_PAUSE_HOST,
        CRI_RESTRICTED,
        CRI_HOST,
        CRI_PRIVILEGED,
    ] {
        for role in [Role::Guest, Role::Pause] {
            blueprint(&parse(config), role, &facts_v2(), "c1").unwrap();
        }
    }
}

#[test]
fn text_that_is_no_spec() {
    for text in ["", "{", "[1]", "{\"ociVersion\": 5}"] {
        let refusal = read(text.as_bytes()).unwrap_err().to_string();
        assert!(
            refusal.starts_with("config.json is not an OCI runtime spec: "),
            "{refusal}"
        );
    }
}

/// The same spec gives the same plan: the launch is measured and compared.
#[test]
fn a_blueprint_is_stable() {
    assert_eq!(plan_of(CRI_RESTRICTED), plan_of(CRI_RESTRICTED));
}

/// Every value of a spec exchanged for others: a blueprint or a sentence, and never a panic.
#[test]
fn no_value_makes_it_panic() {
    fn places(json: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match json {
            Value::Object(map) => {
                for (name, value) in map {
                    places(
                        value,
                        &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                        found,
                    );
                }
            }
            // One call is like another.
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate().take(3) {
                    places(value, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let others = [
        json!(null),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(""),
        json!("../.."),
        json!("a\0b"),
        json!("/"),
        json!("x".repeat(5000)),
        json!([]),
        json!({}),
        json!([null]),
        json!(true),
    ];
    let (mut understood, mut refused) = (0, 0);
    for config in [CRI_RESTRICTED, CTR] {
        let mut original: Value = serde_json::from_str(config).unwrap();
        // One entry of the profile is like another, and all of them take long.
        if let Some(syscalls) = original.pointer_mut("/linux/seccomp/syscalls") {
            let entries = syscalls.as_array_mut().unwrap();
            entries.retain(|entry| entry["args"].is_array());
            entries.truncate(1);
        }
        let mut found = Vec::new();
        places(&original, "", &mut found);
        for at in found {
            for other in &others {
                let mut json = original.clone();
                *json.pointer_mut(&at).unwrap() = other.clone();
                let made = read(json.to_string().as_bytes())
                    .and_then(|spec| blueprint(&spec, Role::Guest, &facts(), "c1"));
                match made {
                    Ok(_) => understood += 1,
                    Err(refusal) => {
                        refused += 1;
                        assert!(
                            !refusal.field.is_empty() && !refusal.reason.is_empty(),
                            "{at}: {refusal}"
                        );
                    }
                }
            }
        }
    }
    assert!(understood > 200 && refused > 1000, "{understood} {refused}");
}

#[test]
fn an_update_writes_limits_and_no_devices() {
    // What containerd's CRI sends for a pod that is resized: all resources of the container's spec.
    let spec = changed(
        CRI_RESTRICTED,
        "/linux/resources/memory",
        json!({"limit": 1 << 27, "swap": 1 << 27}),
    );
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert!(resources.devices().is_some());
    let settings = update(&resources, &facts()).unwrap();
    let file = |name: &str| {
        let setting = settings.iter().find(|setting| setting.file == name);
        setting.map(|setting| setting.value.as_str())
    };
    assert_eq!(file("memory.limit_in_bytes"), Some("134217728"));
    assert_eq!(file("memory.memsw.limit_in_bytes"), Some("134217728"));
    assert!(
        settings
            .iter()
            .all(|setting| setting.controller != "devices")
    );
    for (resources, sentence) in [
        (
            json!({"unified": {"memory.max": "1"}}),
            "linux.resources.unified is set, but this node has its controllers on cgroup v1",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}),
            "linux.resources.hugepageLimits is set, but this node has no cgroup controller hugetlb",
        ),
        (
            json!({"memory": {"swappiness": 101}}),
            "linux.resources.memory.swappiness is 101",
        ),
        (
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
            "linux.resources.rdma is set, and not supported",
        ),
    ] {
        let resources = serde_json::from_value(resources).unwrap();
        let refusal = update(&resources, &facts()).unwrap_err().to_string();
        assert!(refusal.starts_with(sentence), "{refusal}");
    }
}

/// Each word of the features document, in a spec.
#[test]
fn what_is_announced_is_carried_out() {
    for option in features::MOUNT_OPTIONS {
        for mount in [
            json!({"destination": "/a", "source": "/b", "options": ["bind", option]}),
            json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": [option]}),
        ] {
            if mount["type"] == "tmpfs" && option.contains("bind") {
                continue;
            }
            let made = changed_plan("/mounts/-", mount).unwrap_or_else(|error| panic!("{error}"));
            let Some(Source::Tmpfs(tmpfs)) = made.sources.last() else {
                continue;
            };
            assert_eq!(tmpfs.options, [], "{option} was left to tmpfs");
        }
    }
    for namespace in features::NAMESPACES {
        let mut json: Value = serde_json::from_str(CTR).unwrap();
        json["linux"]["namespaces"] = json!([{"type": "mount"}]);
        if *namespace != "mount" {
            json["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": namespace}]);
        }
        json["linux"]["uidMappings"] = match *namespace {
            "user" => json!([{"containerID": 0, "hostID": 1000, "size": 65536}]),
            _ => json!([]),
        };
        json["linux"]["gidMappings"] = json["linux"]["uidMappings"].clone();
        json["hostname"] = json!("");
        json["linux"]["sysctl"] = json!({});
        let spec = parse(&json.to_string());
        blueprint(&spec, Role::Guest, &facts(), "c1").unwrap_or_else(|error| panic!("{error}"));
    }
    for action in features::SECCOMP_ACTIONS {
        changed_plan("/linux/seccomp", json!({"defaultAction": action})).unwrap();
    }
    for flag in features::SECCOMP_FLAGS {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]});
        changed_plan("/linux/seccomp", profile).unwrap();
    }
}

/// What a user namespace changes in a blueprint: who does what, and in which order.
#[test]
fn a_container_in_a_user_namespace() {
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mut json: Value = serde_json::from_str(CRI_RESTRICTED).unwrap();
    for namespace in json["linux"]["namespaces"].as_array_mut().unwrap() {
        let name = namespace["type"].as_str().unwrap().to_owned();
        if name != "mount" && name != "cgroup" {
            namespace["path"] = json!(format!("/proc/7/ns/{name}"));
        }
    }
    json["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": "/proc/7/ns/user"}));
    json["linux"]["uidMappings"] = mapping.clone();
    json["linux"]["gidMappings"] = mapping;
    json["process"]["oomScoreAdj"] = json!(-900);
    // More than this shim has.
    json["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_RESOURCE"]);
    let facts = Facts {
        capabilities: 0,
        ..facts()
    };
    let made = blueprint(&parse(&json.to_string()), Role::Guest, &facts, "c1").unwrap();
    let user = made.user.unwrap();
    assert_eq!(user.oom_score_adj, Some(-900));
    assert!(matches!(user.from, UserSource::Join { maps: Some(_), .. }));
    let before: Vec<_> = user.join.iter().map(|(kind, _)| *kind).collect();
    assert!(before.contains(&Namespace::Network) && !before.contains(&Namespace::Pid));
    assert_eq!(made.plan.oom_score_adj, None);
    assert_eq!(made.plan.join, []);
    assert!(made.plan.proc.is_some());
    assert_eq!(made.new, NewNamespaces::NONE);
    assert!(made.plan.new.contains(Namespace::Mount));
    assert_eq!(
        made.pid_namespace.as_deref(),
        Some(std::path::Path::new("/proc/7/ns/pid"))
    );
    assert_eq!(made.plan.capabilities.bounding, 1 << 24);
}
