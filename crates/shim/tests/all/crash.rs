//! The shim is killed at every stage of a container's life; then containerd calls `delete`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use containerd_shim_protos::api::CreateTaskRequest;

use crate::harness::{Containerd, Shim, Spec, eventually, is_alive, reader, refusal};

/// What is done before the shim is killed, and the code that `delete` must answer.
fn crash_after(words: &str, before: impl FnOnce(&Containerd, &Shim) -> Option<u32>, expected: u32) {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", words));
    let shim = containerd.shim("c");
    let process = before(&containerd, &shim);
    shim.crash();
    if let Some(pid) = process {
        eventually(
            || !is_alive(pid),
            || format!("process {pid} outlives its shim"),
        );
    }
    for round in 0..2 {
        let response = containerd.call_delete("c");
        assert_eq!(response.exit_status, expected, "{words}, round {round}");
        assert!(response.exited_at.seconds > 0);
        containerd.assert_clean();
    }
}

#[test]
fn before_anything_was_created() {
    crash_after("run", |_, _| None, 137);
}

#[test]
fn created() {
    crash_after(
        "run",
        |containerd, shim| Some(shim.create(&containerd.request("c")).unwrap()),
        137,
    );
}

#[test]
fn running() {
    crash_after(
        "run",
        |containerd, shim| {
            let pid = shim.create(&containerd.request("c")).unwrap();
            shim.start("c").unwrap();
            Some(pid)
        },
        137,
    );
}

#[test]
fn ended() {
    crash_after(
        "exit 42",
        |containerd, shim| {
            let pid = shim.create(&containerd.request("c")).unwrap();
            shim.start("c").unwrap();
            shim.wait("c").unwrap();
            Some(pid)
        },
        42,
    );
}

#[test]
fn deleted() {
    crash_after(
        "exit 42",
        |containerd, shim| {
            shim.create(&containerd.request("c")).unwrap();
            shim.start("c").unwrap();
            shim.wait("c").unwrap();
            shim.delete("c").unwrap();
            None
        },
        42,
    );
}

/// The host has written its code and is about to exit: the code is the truth, not the kill.
#[test]
fn about_to_end() {
    crash_after(
        "almost-exit 9",
        |containerd, shim| {
            let output = reader(&containerd.bundle("c").join("out"));
            let pid = shim.create(&containerd.request("c")).unwrap();
            shim.start("c").unwrap();
            let early = containerd.bundle("c").join("exit.early");
            eventually(
                || fs::read(&early).unwrap().starts_with(b"SKFX"),
                || "no early record".to_owned(),
            );
            drop(output);
            Some(pid)
        },
        9,
    );
}

/// Another container in the bundle of one that runs is refused, and takes nothing of it along.
#[test]
fn about_to_end_beside_a_stranger() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "almost-exit 9"));
    let shim = containerd.shim("c");
    let output = reader(&containerd.bundle("c").join("out"));
    shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    let early = containerd.bundle("c").join("exit.early");
    eventually(
        || fs::read(&early).unwrap().starts_with(b"SKFX"),
        || "no early record".to_owned(),
    );
    let stranger = CreateTaskRequest {
        id: "d".to_owned(),
        ..containerd.request("c")
    };
    let (_, sentence) = refusal(shim.create(&stranger));
    assert!(sentence.contains("has processes in it"), "{sentence}");
    drop(output);
    shim.crash();
    assert_eq!(containerd.call_delete("c").exit_status, 9);
}

/// A small file system at a directory.
struct Disk(PathBuf);

impl Disk {
    fn at(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", directory, "tmpfs", flags, Some(c"size=256k")).unwrap();
        Self(directory.to_owned())
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write(&[b'x'; 4096]).is_ok_and(|length| length > 0) {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(&self.0, flags).unwrap();
    }
}

/// An end that was told is told again after a crash, whether the host could write its own record of it or not.
#[test]
fn ended_on_a_full_disk() {
    // The second writes none, as one that is killed.
    for (words, code) in [("exit 42", 42), ("cat 7", 7)] {
        let containerd = Containerd::new();
        let disk = Disk::at(&containerd.path("bundles"));
        containerd.make(&Spec::guest("c", words));
        let shim = containerd.shim("c");
        let request = CreateTaskRequest {
            stdin: String::new(),
            ..containerd.request("c")
        };
        shim.create(&request).unwrap();
        disk.fill();
        shim.start("c").unwrap();
        assert_eq!(shim.wait("c").unwrap().exit_status, code, "{words}");
        shim.crash();
        let bundle = containerd.bundle("c");
        assert!(!bundle.join("exit.json").exists(), "the disk is not full");
        assert!(!bundle.join(".exit.json").exists(), "half a record is left");
        for _ in 0..2 {
            assert_eq!(containerd.call_delete("c").exit_status, code, "{words}");
        }
        drop(disk);
    }
}

/// At moments that nobody chose, while calls are under way.
#[test]
fn at_any_moment() {
    for delay in 0..20 {
        let containerd = Containerd::new();
        containerd.make(&Spec::guest("c", "exit 42"));
        let shim = containerd.shim("c");
        let caller = containerd.connect(&shim.address);
        let request = containerd.request("c");
        let life = thread::spawn(move || {
            let created = caller.create(&request).is_ok();
            let started = created && caller.start("c").is_ok();
            (
                created,
                started,
                caller.wait("c").is_ok_and(|exit| exit.exit_status == 42),
            )
        });
        thread::sleep(Duration::from_micros(delay * 700));
        shim.crash();
        let (_, started, ended) = life.join().unwrap();
        let status = containerd.call_delete("c").exit_status;
        // Nothing lost: who was told 42 hears 42 again. Nothing invented: 42 only of one that ran.
        assert!(!ended || status == 42, "{delay}");
        assert!(
            status == 137 || (status == 42 && (started || !ended)),
            "{delay}: {status}"
        );
        containerd.assert_clean();
    }
}

/// containerd calls `delete` for the sandbox alone when the shim of a pod dies.
#[test]
fn a_pods_other_containers_leave_nothing() {
    let containerd = Containerd::new();
    containerd.make(&Spec::pause("pod"));
    containerd.make(&Spec::guest("one", "run").in_pod("pod"));
    let shim = containerd.shim("pod");
    let pids = ["pod", "one"].map(|id| {
        let pid = shim.create(&containerd.request(id)).unwrap();
        shim.start(id).unwrap();
        pid
    });
    assert!(!containerd.cgroups().is_empty());
    shim.crash();
    for pid in pids {
        eventually(
            || !is_alive(pid),
            || format!("process {pid} outlives its shim"),
        );
    }
    assert_eq!(containerd.call_delete("pod").exit_status, 137);
    containerd.assert_clean();
    assert_eq!(containerd.call_delete("one").exit_status, 137);
}

/// containerd has given up a shim that does not answer: its `delete` does not leave it behind.
#[test]
fn a_shim_that_hangs() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let process = shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    crate::harness::kill(shim.pid(), 19);
    assert_eq!(containerd.call_delete("c").exit_status, 137);
    assert!(!is_alive(process));
    containerd.assert_clean();
}

/// `delete` may come while the shim is still going.
#[test]
fn a_shim_that_is_dying() {
    for _ in 0..20 {
        let containerd = Containerd::new();
        containerd.make(&Spec::guest("c", "run"));
        let shim = containerd.shim("c");
        shim.create(&containerd.request("c")).unwrap();
        crate::harness::kill(shim.pid(), 9);
        let first = containerd.call_delete("c");
        assert_eq!(first.exit_status, 137);
        containerd.assert_clean();
        assert_eq!(containerd.call_delete("c"), first);
    }
}

/// The pause process of a pod may die alone. containerd deletes it and calls `delete`: the pod's other
/// containers are none of its business.
#[test]
fn a_pod_goes_on_without_its_sandbox() {
    let containerd = Containerd::new();
    containerd.make(&Spec::pause("pod"));
    containerd.make(&Spec::guest("one", "run").in_pod("pod"));
    let shim = containerd.shim("pod");
    for id in ["pod", "one"] {
        shim.create(&containerd.request(id)).unwrap();
        shim.start(id).unwrap();
    }
    shim.kill("pod", 9, false).unwrap();
    shim.wait("pod").unwrap();
    shim.delete("pod").unwrap();
    shim.shutdown();
    assert_eq!(containerd.call_delete("pod").exit_status, 137);
    shim.kill("one", 9, false).unwrap();
    assert_eq!(shim.wait("one").unwrap().exit_status, 137);
    shim.delete("one").unwrap();
    shim.shutdown();
}

/// A bundle that is used again does not answer with the end of its first container.
#[test]
fn an_old_record_is_not_the_end() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "exit 42"));
    let shim = containerd.shim("c");
    for _ in 0..2 {
        shim.create(&containerd.request("c")).unwrap();
        shim.start("c").unwrap();
        assert_eq!(shim.wait("c").unwrap().exit_status, 42);
        shim.delete("c").unwrap();
    }
    shim.create(&containerd.request("c")).unwrap();
    shim.crash();
    assert_eq!(containerd.call_delete("c").exit_status, 137);
}
