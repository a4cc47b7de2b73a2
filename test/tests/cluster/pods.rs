//! Pods that run once, and what Kubernetes shows of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::cluster::container_state;
use skiff_test::command::wait_for;

use crate::{cluster, holds, pod, pod_of};

const PATIENCE: Duration = Duration::from_secs(60);

skiff_test::cases!(
    a_pod_completes_and_its_log_is_there,
    every_layout_of_an_image_runs,
    an_exit_code_is_shown,
    a_trap_is_described,
    a_missing_module_is_described,
    init_containers_and_sidecars_of_both_kinds,
    a_restarted_container_starts_afresh,
    a_deleted_pod_is_gone_within_its_grace,
);

fn a_pod_completes_and_its_log_is_there() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("completes")?;
    space.apply(&pod("hello", &["say", "hello from Wasm", "show"])?)?;
    space.phase("hello", "Succeeded")?;
    let log = space.logs("hello")?;
    holds(&log, "hello from Wasm\n")?;
    holds(&log, "env FROM=guest\n")?;
    holds(&log, "env HOSTNAME=hello\n")?;
    holds(&log, "env KUBERNETES_SERVICE_HOST=10.96.0.1\n")?;
    let shown = space.kubectl(&["get", "pod", "hello"])?.ok()?;
    holds(&shown, "Completed")
}

fn every_layout_of_an_image_runs() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("layouts")?;
    let images = cluster.images();
    let all = [
        ("combined", &images.guest),
        ("component", &images.component),
        ("layer", &images.layer),
    ];
    for (name, image) in all {
        space.apply(&pod_of(name, image, &["say", "it runs"]))?;
    }
    for (name, _) in all {
        space.phase(name, "Succeeded")?;
        holds(&space.logs(name)?, "it runs")?;
    }
    Ok(())
}

fn an_exit_code_is_shown() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("exit-code")?;
    space.apply(&pod("seven", &["warn", "something is wrong", "exit", "7"])?)?;
    let seen = space.phase("seven", "Failed")?;
    let ended = &container_state(&seen, "main").expect("a container")["state"]["terminated"];
    ensure!(
        ended["exitCode"] == 7 && ended["reason"] == "Error",
        "{ended}"
    );
    holds(&space.logs("seven")?, "something is wrong")
}

/// `kubectl describe` says what happened, without a log being looked at.
fn a_trap_is_described() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("trap")?;
    space.apply(&pod("trap", &["trap"])?)?;
    space.phase("trap", "Failed")?;
    let text = space.kubectl(&["describe", "pod", "trap"])?.ok()?;
    holds(&text, "skiff: /guest.wasm trapped")?;
    holds(&text, "unreachable")?;
    holds(&text, "wasm backtrace")?;
    holds(&text, "Exit Code:    134")
}

fn a_missing_module_is_described() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("missing")?;
    let mut lost = pod("lost", &[])?;
    lost["spec"]["containers"][0]["command"] = json!(["/no-such.wasm"]);
    space.apply(&lost)?;
    let message = space.wait("nothing is said about it", "pod/lost", |pod| {
        let state = &container_state(pod, "main")?["state"];
        let message = ["waiting", "terminated"]
            .iter()
            .find_map(|kind| state[kind]["message"].as_str())?;
        Some(message.to_owned())
    })?;
    holds(&message, "no-such.wasm")
}

fn init_containers_and_sidecars_of_both_kinds() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("sidecars")?;
    let images = cluster.images();
    let share = json!([{ "name": "share", "mountPath": "/share" }]);
    let mut whole = pod("whole", &["read", "/share/wasm", "read", "/share/native"])?;
    let spec = &mut whole["spec"];
    spec["volumes"] = json!([{ "name": "share", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = share.clone();
    let beat = "while sleep 0.2; do echo beat; done";
    spec["initContainers"] = json!([
        { "name": "first", "image": images.guest, "args": ["write", "/share/wasm", "by Wasm\n"], "volumeMounts": share },
        { "name": "second", "image": images.native, "command": ["sh", "-c", "echo by Linux >/share/native"], "volumeMounts": share },
        { "name": "beside", "image": images.native, "command": ["sh", "-c", beat], "restartPolicy": "Always" },
        { "name": "watcher", "image": images.guest, "args": ["watch", "/share/native"], "restartPolicy": "Always", "volumeMounts": share },
    ]);
    space.apply(&whole)?;
    let seen = space.phase("whole", "Succeeded")?;
    let log = space
        .kubectl(&["logs", "whole", "--container", "main"])?
        .ok()?;
    ensure!(log == "by Wasm\nby Linux\n", "{log}");
    let log = space
        .kubectl(&["logs", "whole", "--container", "watcher"])?
        .ok()?;
    holds(&log, "/share/native: by Linux")?;
    for sidecar in ["beside", "watcher"] {
        let state = container_state(&seen, sidecar).expect("a sidecar");
        ensure!(!state["state"]["terminated"].is_null(), "{state}");
    }
    Ok(())
}

fn a_restarted_container_starts_afresh() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("restarts")?;
    let mut again = pod(
        "again",
        &["read", "/mark", "write", "/mark", "here", "exit", "3"],
    )?;
    again["spec"]["restartPolicy"] = json!("Always");
    space.apply(&again)?;
    space.wait("it is not restarted", "pod/again", |pod| {
        (container_state(pod, "main")?["restartCount"].as_u64()? >= 2).then_some(())
    })?;
    // The container before is another one at each restart, and its log is there for a while only.
    wait_for("no log says that the mark is gone", PATIENCE, || {
        let log = space.kubectl(&["logs", "again", "--previous"])?;
        Ok(log.stdout.contains("read failed").then_some(()))
    })
}

/// A guest that sleeps is ended by SIGTERM at once, not by SIGKILL after the grace.
fn a_deleted_pod_is_gone_within_its_grace() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("deleted")?;
    let mut sleeper = pod("sleeper", &["sleep", "1000"])?;
    sleeper["spec"]["terminationGracePeriodSeconds"] = json!(30);
    space.apply(&sleeper)?;
    space.ready("sleeper")?;
    let begin = std::time::Instant::now();
    space.delete("pod/sleeper")?;
    ensure!(
        begin.elapsed().as_secs() < 15,
        "it took {:?} of a grace of 30 s",
        begin.elapsed()
    );
    Ok(())
}
