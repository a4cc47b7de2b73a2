//! What happens to a node: drained, its kubelet and its containerd restarted, Skiff installed again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use skiff_test::cluster::{NODE, Space, container_state};

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    a_kubelet_that_is_restarted_finds_its_pods,
    a_containerd_that_is_restarted_under_load,
    a_containerd_that_is_killed_under_load,
    installed_again_nothing_restarts,
    a_node_that_is_drained,
    a_shim_that_is_killed_is_told_of,
);

/// The first process of a pod's only container.
pub(crate) fn first_process(pod: &Value) -> Result<u32> {
    let state = container_state(pod, "main").context("no container")?;
    let id = state["containerID"].as_str().context("no id")?;
    let id = id.trim_start_matches("containerd://");
    let tasks = cluster()?.ctr(&["task", "list"])?.ok()?;
    let line = tasks.lines().find(|line| line.starts_with(id));
    let process = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    process.with_context(|| format!("containerd knows no process of {id}: {tasks}"))
}

/// A Deployment of sleeping guests.
pub(crate) fn sleepers(replicas: u32) -> Result<Value> {
    let mut pod = pod("sleeper", &["say", "up", "sleep", "100000"])?;
    pod["spec"]["restartPolicy"] = json!("Always");
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "sleeper" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "sleeper" } },
            "template": { "metadata": pod["metadata"], "spec": pod["spec"] } },
    }))
}

pub(crate) fn rolled_out(space: &Space<'_>, name: &str) -> Result<()> {
    let object = format!("deployment/{name}");
    space
        .kubectl(&["rollout", "status", &object, "--timeout=55s"])?
        .ok()?;
    Ok(())
}

/// Which container each pod has, and how often it was restarted.
pub(crate) fn containers(space: &Space<'_>) -> Result<BTreeMap<String, String>> {
    let pods = space.get("pods")?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    Ok(pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            let state = &pod["status"]["containerStatuses"][0];
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            (
                name.to_owned(),
                format!("{} {}", state["containerID"], state["restartCount"]),
            )
        })
        .collect())
}

fn a_kubelet_that_is_restarted_finds_its_pods() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("kubelet")?;
    space.apply(&sleepers(5)?)?;
    rolled_out(&space, "sleeper")?;
    let before = containers(&space)?;
    cluster.kubelet().restart(Signal::TERM)?;
    cluster.wait_until_ready()?;
    // A pod that is made by the new one is proof that it works.
    space.apply(&pod("after", &["say", "after"])?)?;
    space.phase("after", "Succeeded")?;
    space.delete("pod/after")?;
    ensure!(
        containers(&space)? == before,
        "{before:?} became {:?}",
        containers(&space)?
    );
    Ok(())
}

fn a_containerd_that_is_restarted_under_load() -> Result<()> {
    restart_under_load("containerd-restarted", Signal::TERM)
}

fn a_containerd_that_is_killed_under_load() -> Result<()> {
    restart_under_load("containerd-killed", Signal::KILL)
}

/// Pods that run stay; a job whose pods start and end meanwhile completes, each exit told.
fn restart_under_load(name: &str, signal: Signal) -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space(name)?;
    space.apply(&sleepers(5)?)?;
    rolled_out(&space, "sleeper")?;
    let before = containers(&space)?;
    let mut pod = pod("short", &["sleep", "1", "say", "done"])?;
    pod["spec"]["restartPolicy"] = json!("Never");
    space.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "load" },
        "spec": { "parallelism": 4, "completions": 16, "backoffLimit": 16,
            "template": { "metadata": pod["metadata"], "spec": pod["spec"] } },
    }))?;
    space.wait("the load does not begin", "job/load", |job| {
        (job["status"]["succeeded"].as_u64()? >= 2).then_some(())
    })?;
    cluster.containerd().restart(signal)?;
    cluster.wait_for_containerd()?;
    space.wait("the load does not end", "job/load", |job| {
        (job["status"]["succeeded"].as_u64()? == 16).then_some(())
    })?;
    space.delete("job/load")?;
    let mut now = containers(&space)?;
    now.retain(|name, _| name.starts_with("sleeper"));
    ensure!(now == before, "{before:?} became {now:?}");
    // A shim that was there before obeys the new containerd.
    let first = before.keys().next().context("no pod")?;
    ensure!(space.exec(first, &["cat", "/greeting"])?.ok()? == "good morning\n");
    Ok(())
}

fn installed_again_nothing_restarts() -> Result<()> {
    let cluster = cluster()?;
    let starts = cluster.containerd().starts();
    let ran = cluster.skiff_node(&["install", "--json"])?.ok()?;
    holds(&ran, "\"changed\":false")?;
    ensure!(
        cluster.containerd().starts() == starts,
        "containerd was restarted"
    );
    let doctor = cluster.skiff_node(&["status"])?.ok()?;
    holds(&doctor, "proven")
}

fn a_node_that_is_drained() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("drain")?;
    space.apply(&sleepers(5)?)?;
    rolled_out(&space, "sleeper")?;
    let words = [
        "drain",
        NODE,
        "--pod-selector=app=sleeper",
        "--timeout=50s",
        "--delete-emptydir-data",
    ];
    let drained = cluster.kubectl(&words)?;
    let back = cluster.kubectl(&["uncordon", NODE]);
    drained.ok()?;
    back?.ok()?;
    rolled_out(&space, "sleeper")
}

/// Its containers end with it, and Kubernetes starts others.
fn a_shim_that_is_killed_is_told_of() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("shim-killed")?;
    let mut one = pod_of("one", &cluster.images().component, &["serve", "8080"]);
    one["spec"]["restartPolicy"] = json!("Always");
    space.apply(&one)?;
    let seen = space.ready("one")?;
    let process = first_process(&seen)?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let shim: i32 = shim.context("no parent")?.trim().parse()?;
    let program = std::fs::read_link(format!("/proc/{shim}/exe"))?;
    ensure!(
        program.to_string_lossy().contains("containerd-shim"),
        "the parent is {}",
        program.display()
    );
    let shim = rustix::process::Pid::from_raw(shim).context("no process id")?;
    rustix::process::kill_process(shim, Signal::KILL)?;
    space.wait("it is not started again", "pod/one", |pod| {
        let state = container_state(pod, "main")?;
        (state["restartCount"].as_u64()? >= 1 && state["ready"] == true).then_some(())
    })
}
