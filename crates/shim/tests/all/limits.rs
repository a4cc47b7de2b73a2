//! Containers that are paused, given other limits, or out of memory.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use containerd_shim_protos::api::{
    PauseRequest, ResumeRequest, StatsRequest, Status, UpdateTaskRequest,
};
use containerd_shim_protos::cgroups::metrics::Metrics;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::{self, Code, context};

use crate::harness::{Containerd, PATIENCE, Shim, Spec, code, eventually, is_alive, refusal};

const RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

fn time() -> context::Context {
    context::with_duration(PATIENCE)
}

fn pause(shim: &Shim, id: &str) -> ttrpc::Result<()> {
    let request = PauseRequest {
        id: id.to_owned(),
        ..PauseRequest::default()
    };
    shim.tasks.pause(time(), &request).map(|_| ())
}

fn resume(shim: &Shim, id: &str) -> ttrpc::Result<()> {
    let request = ResumeRequest {
        id: id.to_owned(),
        ..ResumeRequest::default()
    };
    shim.tasks.resume(time(), &request).map(|_| ())
}

fn update(shim: &Shim, id: &str, kind: &str, resources: &str) -> ttrpc::Result<()> {
    let mut any = Any::new();
    kind.clone_into(&mut any.type_url);
    any.value = resources.as_bytes().to_vec();
    let request = UpdateTaskRequest {
        id: id.to_owned(),
        resources: MessageField::some(any),
        ..UpdateTaskRequest::default()
    };
    shim.tasks.update(time(), &request).map(|_| ())
}

fn status(shim: &Shim, id: &str) -> Status {
    shim.state(id).unwrap().status.enum_value().unwrap()
}

impl Containerd {
    /// A file of the container's cgroup.
    fn cgroup_file(&self, id: &str, name: &str) -> String {
        let found = self
            .cgroups()
            .into_iter()
            .find_map(|path| fs::read_to_string(path.join(id).join(name)).ok());
        found.unwrap().trim().to_owned()
    }
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    assert_eq!(code(pause(&shim, "c")), Code::NOT_FOUND);
    shim.create(&containerd.request("c")).unwrap();
    let (early, sentence) = refusal(pause(&shim, "c"));
    assert_eq!(early, Code::FAILED_PRECONDITION);
    assert_eq!(
        sentence,
        "container c has not been started: it cannot be paused"
    );
    shim.start("c").unwrap();
    assert_eq!(code(resume(&shim, "c")), Code::FAILED_PRECONDITION);

    for _ in 0..3 {
        pause(&shim, "c").unwrap();
        assert_eq!(status(&shim, "c"), Status::PAUSED);
        assert_eq!(containerd.cgroup_file("c", "freezer.state"), "FROZEN");
        let (twice, sentence) = refusal(pause(&shim, "c"));
        assert_eq!(twice, Code::FAILED_PRECONDITION);
        assert_eq!(sentence, "container c is paused already");
        assert_eq!(code(shim.start("c")), Code::FAILED_PRECONDITION);
        assert_eq!(code(shim.delete("c")), Code::FAILED_PRECONDITION);
        resume(&shim, "c").unwrap();
        assert_eq!(status(&shim, "c"), Status::RUNNING);
        assert_eq!(containerd.cgroup_file("c", "freezer.state"), "THAWED");
    }
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    assert_eq!(code(pause(&shim, "c")), Code::FAILED_PRECONDITION);
    assert_eq!(code(resume(&shim, "c")), Code::FAILED_PRECONDITION);
    shim.delete("c").unwrap();
    let mut topics = vec!["/tasks/create", "/tasks/start"];
    topics.extend(["/tasks/paused", "/tasks/resumed"].repeat(3));
    topics.extend(["/tasks/exit", "/tasks/delete"]);
    containerd.wait_for_topics(&topics);
    shim.shutdown();
}

#[test]
fn a_paused_container_is_killed() {
    for all in [false, true] {
        let containerd = Containerd::new();
        containerd.make(&Spec::guest("c", "run"));
        let shim = containerd.shim("c");
        let pid = shim.create(&containerd.request("c")).unwrap();
        shim.start("c").unwrap();
        pause(&shim, "c").unwrap();
        // Any other signal waits for the container to go on.
        shim.kill("c", 10, all).unwrap();
        thread::sleep(Duration::from_millis(50));
        assert!(is_alive(pid));
        assert_eq!(status(&shim, "c"), Status::PAUSED);
        shim.kill("c", 9, all).unwrap();
        // Neither of these keeps it from its end, whichever comes first.
        pause(&shim, "c").unwrap_err();
        resume(&shim, "c").unwrap_err();
        assert_eq!(shim.wait("c").unwrap().exit_status, 137);
        assert_eq!(status(&shim, "c"), Status::STOPPED);
        shim.delete("c").unwrap();
        shim.shutdown();
    }
}

/// The kernel's signal for a dead shim waits in a paused process, too.
#[test]
fn a_paused_container_goes_with_its_shim() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let pid = shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    pause(&shim, "c").unwrap();
    shim.crash();
    assert_eq!(containerd.call_delete("c").exit_status, 137);
    eventually(|| !is_alive(pid), || "it is still there".to_owned());
}

#[test]
fn limits_are_changed_while_a_container_runs() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    assert_eq!(code(update(&shim, "c", RESOURCES, "{}")), Code::NOT_FOUND);
    shim.create(&containerd.request("c")).unwrap();
    let first = r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":20}}"#;
    update(&shim, "c", RESOURCES, first).unwrap();
    shim.start("c").unwrap();
    let files = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "cpu.shares",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "cpuset.cpus",
        "cpuset.mems",
        "pids.max",
    ];
    let read = || files.map(|file| containerd.cgroup_file("c", file));
    let second = r#"{"memory":{"limit":134217728,"swap":134217728,"reservation":1048576},
        "cpu":{"shares":512,"quota":20000,"period":50000,"cpus":"0","mems":"0"},
        "pids":{"limit":30},"devices":[{"allow":false,"access":"rwm"}]}"#;
    let expected = [
        "134217728",
        "134217728",
        "1048576",
        "512",
        "20000",
        "50000",
        "0",
        "0",
        "30",
    ];
    for _ in 0..2 {
        update(&shim, "c", RESOURCES, second).unwrap();
        assert_eq!(read(), expected);
    }
    let request = StatsRequest {
        id: "c".into(),
        ..StatsRequest::default()
    };
    let stats = shim.tasks.stats(time(), &request).unwrap();
    let stats = Metrics::parse_from_bytes(&stats.stats.value).unwrap();
    assert_eq!((stats.pids.limit, stats.memory.usage.limit), (30, 1 << 27));

    for (kind, resources, code, words) in [
        ("x/Nothing", "{}", Code::INVALID_ARGUMENT, "Nothing"),
        (RESOURCES, "{", Code::INVALID_ARGUMENT, "LinuxResources"),
        (
            RESOURCES,
            r#"{"unified":{"memory.max":"1"}}"#,
            Code::INVALID_ARGUMENT,
            "container c: linux.resources.unified is set",
        ),
        (
            RESOURCES,
            r#"{"pids":{"limit":9},"cpu":{"shares":1}}"#,
            Code::FAILED_PRECONDITION,
            "linux.resources.cpu.shares",
        ),
        (
            RESOURCES,
            r#"{"pids":{"limit":9},"cpu":{"shares":2,"cpus":"4095"}}"#,
            Code::FAILED_PRECONDITION,
            "linux.resources.cpu.cpus to 4095: the cgroup above it has only ",
        ),
        (
            RESOURCES,
            r#"{"memory":{"limit":4096,"swap":4096},"pids":{"limit":9}}"#,
            Code::FAILED_PRECONDITION,
            "its processes use ",
        ),
    ] {
        let (answer, sentence) = refusal(update(&shim, "c", kind, resources));
        assert_eq!(answer, code, "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert_eq!(read(), expected, "{sentence}");
    }
    // Also while it stands still.
    pause(&shim, "c").unwrap();
    update(&shim, "c", RESOURCES, r#"{"pids":{"limit":-1}}"#).unwrap();
    assert_eq!(containerd.cgroup_file("c", "pids.max"), "max");
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    let late = update(&shim, "c", RESOURCES, second);
    assert_eq!(code(late), Code::FAILED_PRECONDITION);
    shim.delete("c").unwrap();
    shim.shutdown();
}

const SIXTEEN_MEGABYTES: &str = r#"{"memory":{"limit":16777216,"swap":16777216}}"#;

#[test]
fn a_container_that_takes_too_much_memory_is_told_apart() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "eat 64"));
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    update(&shim, "c", RESOURCES, SIXTEEN_MEGABYTES).unwrap();
    shim.start("c").unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 137);
    shim.delete("c").unwrap();
    containerd.wait_for_topics(&[
        "/tasks/create",
        "/tasks/start",
        "/tasks/oom",
        "/tasks/exit",
        "/tasks/delete",
    ]);
    shim.shutdown();
}

/// Another process of the container is killed, again and again, and the container lives.
#[test]
fn lack_of_memory_is_told_once_while_the_container_lives() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let pid = shim.create(&containerd.request("c")).unwrap();
    update(&shim, "c", RESOURCES, SIXTEEN_MEGABYTES).unwrap();
    shim.start("c").unwrap();
    // From when the shim watches on.
    thread::sleep(Duration::from_millis(300));
    let memory = containerd
        .cgroups()
        .into_iter()
        .map(|path| path.join("c"))
        .find(|path| path.join("memory.limit_in_bytes").exists())
        .unwrap();
    let greedy = |memory: &std::path::Path| {
        // A shell's variable that doubles.
        let script = "echo 0 >\"$0/tasks\"; x=aaaaaaaa; while :; do x=$x$x; done";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).arg(memory).stderr(Stdio::null());
        assert!(!shell.status().unwrap().success());
    };
    greedy(&memory);
    let start = ["/tasks/create", "/tasks/start", "/tasks/oom"];
    containerd.wait_for_topics(&start);
    greedy(&memory);
    thread::sleep(Duration::from_millis(200));
    containerd.wait_for_topics(&start);
    assert!(is_alive(pid));
    shim.kill("c", 9, false).unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 137);
    shim.delete("c").unwrap();
    containerd.wait_for_topics(&[
        "/tasks/create",
        "/tasks/start",
        "/tasks/oom",
        "/tasks/exit",
        "/tasks/delete",
    ]);
    shim.shutdown();
}
