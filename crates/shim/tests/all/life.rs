//! The calls of a container's life, in the right and in the wrong order.

use std::fs::File;
use std::io::Write;
use std::thread;

use containerd_shim_protos::api::{ConnectRequest, PidsRequest, StatsRequest, Status};
use containerd_shim_protos::cgroups::metrics::Metrics;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::{Code, context};

use crate::harness::{Containerd, Spec, code, eventually, is_alive, raw_call, reader};

#[test]
fn a_container_from_create_to_delete() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "exit 42"));
    let shim = containerd.shim("c");
    let request = containerd.request("c");
    assert_eq!(code(shim.state("c")), Code::NOT_FOUND);

    let pid = shim.create(&request).unwrap();
    let state = shim.state("c").unwrap();
    assert_eq!(
        (state.status.enum_value().unwrap(), state.pid),
        (Status::CREATED, pid)
    );
    assert_eq!(
        (state.bundle, state.stdout),
        (request.bundle.clone(), request.stdout.clone())
    );
    assert!(is_alive(pid));
    assert_eq!(code(shim.create(&request)), Code::ALREADY_EXISTS);

    assert_eq!(shim.start("c").unwrap(), pid);
    let exit = shim.wait("c").unwrap();
    assert_eq!(exit.exit_status, 42);
    let state = shim.state("c").unwrap();
    assert_eq!(
        (state.status.enum_value().unwrap(), state.exit_status),
        (Status::STOPPED, 42)
    );
    assert_eq!(state.exited_at, exit.exited_at);
    assert_eq!(code(shim.start("c")), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.kill("c", 15, false)), Code::NOT_FOUND);
    assert_eq!(code(shim.kill("c", 9, true)), Code::NOT_FOUND);

    let deleted = shim.delete("c").unwrap();
    assert_eq!((deleted.exit_status, deleted.pid), (42, pid));
    assert_eq!(deleted.exited_at, exit.exited_at);
    assert_eq!(code(shim.delete("c")), Code::NOT_FOUND);
    assert_eq!(code(shim.wait("c")), Code::NOT_FOUND);
    containerd.wait_for_topics(&[
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
    ]);
    assert_eq!(containerd.exits(), [("c".to_owned(), 42)]);
    shim.shutdown();
    drop(shim);
    containerd.assert_clean();
    // containerd calls it after every shim, also after one that was done.
    assert_eq!(containerd.call_delete("c").exit_status, 42);
    assert_eq!(containerd.call_delete("c").exit_status, 42);
}

#[test]
fn a_running_container_is_looked_at_and_killed() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let pid = shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    assert_eq!(code(shim.start("c")), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.delete("c")), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.kill("c", 99, false)), Code::INVALID_ARGUMENT);
    assert_eq!(code(shim.kill("d", 9, false)), Code::NOT_FOUND);

    let time = || context::with_duration(crate::harness::PATIENCE);
    let pids = shim
        .tasks
        .pids(
            time(),
            &PidsRequest {
                id: "c".into(),
                ..PidsRequest::default()
            },
        )
        .unwrap();
    assert_eq!(
        pids.processes
            .iter()
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
        [pid]
    );
    let stats = shim
        .tasks
        .stats(
            time(),
            &StatsRequest {
                id: "c".into(),
                ..StatsRequest::default()
            },
        )
        .unwrap();
    let stats = Metrics::parse_from_bytes(&stats.stats.value).unwrap();
    assert_eq!(stats.pids.current, 1);
    assert!(stats.memory.usage.usage > 0);
    let connected = shim
        .tasks
        .connect(
            time(),
            &ConnectRequest {
                id: "c".into(),
                ..ConnectRequest::default()
            },
        )
        .unwrap();
    assert_eq!(connected.task_pid, pid);

    // Many wait, from connections of their own.
    let waiters: Vec<_> = (0..64)
        .map(|_| {
            let shim = containerd.connect(&shim.address);
            thread::spawn(move || shim.wait("c").unwrap().exit_status)
        })
        .collect();
    shim.kill("c", 9, true).unwrap();
    assert!(
        waiters
            .into_iter()
            .all(|waiter| waiter.join().unwrap() == 137)
    );
    // A task that has ended still has its process in the answer, see the shim's `Task::pids`.
    let pids = shim
        .tasks
        .pids(
            time(),
            &PidsRequest {
                id: "c".into(),
                ..PidsRequest::default()
            },
        )
        .unwrap();
    assert_eq!(pids.processes.len(), 1);
    assert_eq!(shim.delete("c").unwrap().exit_status, 137);
    shim.shutdown();
}

#[test]
fn a_container_that_was_never_started_is_deleted() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let pid = shim.create(&containerd.request("c")).unwrap();
    assert_eq!(shim.delete("c").unwrap().exit_status, 137);
    assert!(!is_alive(pid));
    containerd.wait_for_topics(&["/tasks/create", "/tasks/exit", "/tasks/delete"]);
    shim.shutdown();
}

#[test]
fn streams_are_the_callers_own() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "cat 3"));
    let bundle = containerd.bundle("c");
    let (output, errors) = (reader(&bundle.join("out")), reader(&bundle.join("err")));
    let shim = containerd.shim("c");
    let input = {
        let path = bundle.join("in");
        thread::spawn(move || {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .write_all(b"from outside")
                .unwrap();
        })
    };
    shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    input.join().unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 3);
    assert_eq!(
        (
            output.join().unwrap().as_str(),
            errors.join().unwrap().as_str()
        ),
        ("from outside", "done")
    );
    shim.delete("c").unwrap();
    shim.shutdown();
}

#[test]
fn a_pods_containers_share_a_shim() {
    let containerd = Containerd::new();
    containerd.make(&Spec::pause("pod"));
    containerd.make(&Spec::guest("one", "exit 1").in_pod("pod"));
    let shim = containerd.shim("pod");
    shim.create(&containerd.request("pod")).unwrap();
    shim.start("pod").unwrap();
    let other = containerd.shim("one");
    assert_eq!(
        (other.address.as_str(), other.pid()),
        (shim.address.as_str(), shim.pid())
    );
    other.create(&containerd.request("one")).unwrap();
    other.start("one").unwrap();
    assert_eq!(other.wait("one").unwrap().exit_status, 1);
    other.delete("one").unwrap();
    // containerd asks after each container; the pod goes on.
    other.shutdown();
    drop(other);
    assert_eq!(
        shim.state("pod").unwrap().status.enum_value().unwrap(),
        Status::RUNNING
    );
    // The pause process ends on SIGTERM by itself.
    shim.kill("pod", 15, false).unwrap();
    assert_eq!(shim.wait("pod").unwrap().exit_status, 0);
    shim.delete("pod").unwrap();
    shim.shutdown();
}

#[test]
fn signals_that_end_others_do_not_end_a_shim() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "wait"));
    let shim = containerd.shim("c");
    let pid = shim.create(&containerd.request("c")).unwrap();
    for signal in [15, 2] {
        crate::harness::kill(shim.pid(), signal);
    }
    shim.start("c").unwrap();
    eventually(
        || containerd.log("c").contains("a signal to end is ignored"),
        || containerd.log("c"),
    );
    // What the shim does with them is not inherited by containers.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    let both = 1 << (15 - 1) | 1 << (2 - 1);
    for name in ["SigIgn:", "SigCgt:", "SigBlk:"] {
        assert_eq!(mask(name) & both, 0, "{name}");
    }
    shim.kill("c", 9, false).unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 137);
    shim.delete("c").unwrap();
    shim.shutdown();
}

#[test]
fn both_names_of_the_service_are_served() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let request = ConnectRequest::new().write_to_bytes().unwrap();
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        let answer = raw_call(&shim, service, "Connect", request.clone()).unwrap();
        assert!(!answer.is_empty(), "{service}");
    }
    assert_eq!(
        code(raw_call(
            &shim,
            "containerd.task.v1.Task",
            "Connect",
            request
        )),
        Code::INVALID_ARGUMENT
    );
    shim.shutdown();
}

#[test]
fn what_is_not_there_yet_says_so() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let service = "containerd.task.v3.Task";
    assert_eq!(
        code(raw_call(&shim, service, "Checkpoint", Vec::new())),
        Code::UNIMPLEMENTED
    );
    shim.shutdown();
}

#[test]
fn events_wait_for_a_containerd_that_restarts() {
    let containerd = Containerd::without_events();
    containerd.make(&Spec::guest("c", "exit 7"));
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 7);
    shim.delete("c").unwrap();
    shim.shutdown();
    drop(shim);
    assert!(containerd.topics().is_empty());
    let containerd = containerd.with_events();
    containerd.wait_for_topics(&[
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
    ]);
    eventually(
        || containerd.exits() == [("c".to_owned(), 7)],
        || "the exit is lost".to_owned(),
    );
}

/// A pod whose container ends and is started anew, for days.
#[test]
fn a_shim_does_not_grow() {
    let containerd = Containerd::new();
    containerd.make(&Spec::pause("pod"));
    let shim = containerd.shim("pod");
    shim.create(&containerd.request("pod")).unwrap();
    shim.start("pod").unwrap();
    let daemon = shim.pid();
    let one_life = |number: u32| {
        let id = format!("c{number}");
        containerd.make(&Spec::guest(&id, "exit 0").in_pod("pod"));
        shim.create(&containerd.request(&id)).unwrap();
        shim.start(&id).unwrap();
        shim.wait(&id).unwrap();
        shim.delete(&id).unwrap();
        std::fs::remove_dir_all(containerd.bundle(&id)).unwrap();
    };
    // The allocator's heaps of threads that come and go fill up first: they stand still after some 500 lives.
    (0..500).for_each(one_life);
    // Threads that verified code end by themselves, events are sent a moment later: until nothing of a container that is
    // gone is open, for so long as a busy machine may take for it.
    let settled = || {
        for _ in 0..100 {
            thread::sleep(std::time::Duration::from_millis(100));
            if !open_files(daemon)
                .iter()
                .any(|file| file.ends_with("(deleted)"))
            {
                break;
            }
        }
        (open_files(daemon), anonymous_memory(daemon))
    };
    let (files, memory) = settled();
    let sockets = open_sockets(daemon);
    (500..800).for_each(one_life);
    let (files_then, memory_then) = settled();
    assert_eq!(files_then, files);
    // The connection for events comes and goes.
    assert!(open_sockets(daemon) <= sockets + 1);
    assert!(
        memory_then <= memory + 64,
        "{memory} KiB have become {memory_then} KiB in 300 containers"
    );
    shim.kill("pod", 9, false).unwrap();
    shim.wait("pod").unwrap();
    shim.delete("pod").unwrap();
    shim.shutdown();
}

/// What the process has open, without sockets.
fn open_files(pid: u32) -> Vec<String> {
    let mut files = open(pid);
    files.retain(|target| !target.starts_with("socket:"));
    files
}

fn open_sockets(pid: u32) -> usize {
    open(pid).len() - open_files(pid).len()
}

fn open(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut targets: Vec<_> = targets.map(|target| target.display().to_string()).collect();
    targets.sort();
    targets
}

/// In KiB.
fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
