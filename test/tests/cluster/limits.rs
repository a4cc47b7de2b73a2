//! Requests and limits: what the kernel keeps, what Kubernetes shows, and changing them while a pod runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::{NODE, Space, container_state};
use skiff_test::command::wait_for;
use skiff_test::residue::{cgroup_trees, walk};

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    limits_are_the_kernels,
    out_of_memory_is_shown,
    a_refused_growth_is_described,
    resized_in_place,
    figures_of_the_kubelet,
    scaled_by_its_processor_time,
);

/// A file of the controller's cgroup of a pod's only container.
fn file_of(pod: &Value, controller: &str, file: &str) -> Result<PathBuf> {
    let cluster = cluster()?;
    let state = container_state(pod, "main").context("no container")?;
    let id = state["containerID"].as_str().context("no id")?;
    let id = id.trim_start_matches("containerd://");
    let mut found = None;
    for tree in cgroup_trees() {
        if !(tree.ends_with(controller) || tree.join("cgroup.controllers").exists()) {
            continue;
        }
        walk(&tree.join(cluster.cgroup()), &mut |path| {
            if path.ends_with(id) && path.join(file).exists() {
                found = Some(path.join(file));
            }
        });
    }
    found.with_context(|| format!("container {id} has no {file}"))
}

/// The first of these files that is there: version 1 of cgroups, or 2.
fn limit(pod: &Value, controller: &str, files: &[&str]) -> Result<String> {
    let found = files
        .iter()
        .find_map(|file| file_of(pod, controller, file).ok());
    let path = found.with_context(|| format!("none of {files:?} is there"))?;
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn memory(pod: &Value) -> Result<String> {
    limit(pod, "memory", &["memory.limit_in_bytes", "memory.max"])
}

fn limits_are_the_kernels() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("limits")?;
    let mut one = pod("one", &["sleep", "1000"])?;
    one["spec"]["containers"][0]["resources"] = json!({
        "requests": { "cpu": "50m", "memory": "32Mi" }, "limits": { "cpu": "250m", "memory": "64Mi" } });
    space.apply(&one)?;
    let seen = space.ready("one")?;
    ensure!(memory(&seen)? == "67108864", "{}", memory(&seen)?);
    let cpu = limit(&seen, "cpu", &["cpu.cfs_quota_us", "cpu.max"])?;
    ensure!(cpu.starts_with("25000"), "{cpu}");
    ensure!(seen["status"]["qosClass"] == "Burstable");
    Ok(())
}

/// Files in memory are the container's and not the guest's: the kernel ends it.
fn out_of_memory_is_shown() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("oom")?;
    let mut greedy = pod("greedy", &["fill", "/full/file", "200"])?;
    let container = &mut greedy["spec"]["containers"][0];
    container["resources"] = json!({ "limits": { "memory": "64Mi" } });
    container["volumeMounts"] = json!([{ "name": "full", "mountPath": "/full" }]);
    greedy["spec"]["volumes"] = json!([{ "name": "full", "emptyDir": { "medium": "Memory" } }]);
    space.apply(&greedy)?;
    let seen = space.phase("greedy", "Failed")?;
    let ended = &container_state(&seen, "main").context("no container")?["state"]["terminated"];
    ensure!(
        ended["reason"] == "OOMKilled" && ended["exitCode"] == 137,
        "{ended}"
    );
    holds(
        &space.kubectl(&["describe", "pod", "greedy"])?.ok()?,
        "OOMKilled",
    )
}

/// A guest that asks for more than its limit is refused it, and the end says so.
fn a_refused_growth_is_described() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("refused-growth")?;
    let mut greedy = pod("greedy", &["grow", "200"])?;
    greedy["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "64Mi" } });
    space.apply(&greedy)?;
    space.phase("greedy", "Failed")?;
    let text = space.kubectl(&["describe", "pod", "greedy"])?.ok()?;
    holds(&text, "at a cap of 59 MiB")
}

fn resized_in_place() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("resize")?;
    let mut one = pod_of("one", &cluster.images().component, &["serve", "8080"]);
    let size = |cpu: &str, memory: &str| {
        json!({
            "requests": { "cpu": cpu, "memory": memory }, "limits": { "cpu": cpu, "memory": memory } })
    };
    one["spec"]["containers"][0]["resources"] = size("100m", "64Mi");
    space.apply(&one)?;
    space.ready("one")?;
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": size("200m", "96Mi") }] } });
    let patch = patch.to_string();
    let words = [
        "patch",
        "pod",
        "one",
        "--subresource",
        "resize",
        "--patch",
        &patch,
    ];
    space.kubectl(&words)?.ok()?;
    let seen = space.wait("it is not resized", "pod/one", |pod| {
        let limits = &container_state(pod, "main")?["resources"]["limits"];
        let conditions = pod["status"]["conditions"].to_string();
        if conditions.contains("Infeasible") {
            return Some(None);
        }
        (limits["memory"] == "96Mi" && limits["cpu"] == "200m").then(|| Some(pod.clone()))
    })?;
    let Some(seen) = seen else {
        let why = space.get("pod/one")?["status"]["conditions"].to_string();
        skiff_test::skip!("the kubelet resizes no pod on this node: {why}");
    };
    ensure!(memory(&seen)? == "100663296", "{}", memory(&seen)?);
    let cpu = limit(&seen, "cpu", &["cpu.cfs_quota_us", "cpu.max"])?;
    ensure!(cpu.starts_with("20000"), "{cpu}");
    let state = container_state(&seen, "main").context("no container")?;
    ensure!(state["restartCount"] == 0, "it was restarted to be resized");
    Ok(())
}

/// What `kubectl top` would be told: the kubelet's own end points.
fn figures_of_the_kubelet() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("figures")?;
    space.apply(&pod("busy", &["spin"])?)?;
    space.ready("busy")?;
    let path = format!("/api/v1/nodes/{NODE}/proxy/stats/summary");
    let (cpu, memory) = wait_for("no figures", Duration::from_secs(60), || {
        let text = cluster.kubectl(&["get", "--raw", &path])?.ok()?;
        let summary: Value = serde_json::from_str(&text)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let own = pods.iter().find(|pod| pod["podRef"]["name"] == "busy");
        let figures = own.and_then(|pod| {
            let main = &pod["containers"][0];
            let cpu = main["cpu"]["usageCoreNanoSeconds"].as_u64()?;
            let memory = main["memory"]["workingSetBytes"].as_u64()?;
            (cpu > 500_000_000).then_some((cpu, memory))
        });
        Ok(figures)
    })?;
    ensure!(
        cpu > 0 && (100_000..200_000_000).contains(&memory),
        "{cpu} ns, {memory} B"
    );
    let path = format!("/api/v1/nodes/{NODE}/proxy/metrics/resource");
    let text = cluster.kubectl(&["get", "--raw", &path])?.ok()?;
    let line =
        "container_memory_working_set_bytes{container=\"main\",namespace=\"figures\",pod=\"busy\"}";
    holds(&text, line)
}

/// `kubectl top`, and an autoscaler that counts with the same figures.
fn scaled_by_its_processor_time() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("autoscaled")?;
    let mut pod = pod("busy", &["spin"])?;
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "cpu": "50m" }, "limits": { "cpu": "150m" } });
    let mut idle = pod_of("idle", &cluster.images().guest, &["sleep", "100000"]);
    idle["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "50m" } });
    space.apply(&idle)?;
    space.apply(&json!([
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "busy" },
            "spec": { "selector": { "matchLabels": { "app": "busy" } },
                "template": { "metadata": pod["metadata"], "spec": pod["spec"] } } },
        { "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "busy" },
            "spec": { "minReplicas": 1, "maxReplicas": 3,
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "busy" },
                "metrics": [{ "type": "Resource", "resource": { "name": "cpu",
                    "target": { "type": "Utilization", "averageUtilization": 60 } } }] } },
    ]))?;
    let server = cluster.start_metrics_server()?;
    let scaled = scaled(&space);
    cluster.forget_metrics_server()?;
    drop(server);
    scaled
}

fn scaled(space: &Space<'_>) -> Result<()> {
    let patience = Duration::from_secs(120);
    let words = ["top", "pod", "--no-headers"];
    let top = wait_for("nothing is at the top", patience, || {
        let ran = space.kubectl(&words)?;
        let of = |name: &str| {
            let line = ran.stdout.lines().find(|line| line.starts_with(name))?;
            let cpu = line.split_whitespace().nth(1)?;
            cpu.strip_suffix('m')?.parse::<u32>().ok()
        };
        Ok(of("busy").zip(of("idle")))
    })?;
    ensure!(
        top.0 > 20 && top.1 < 20,
        "the busy pod takes {} m, the idle one {} m",
        top.0,
        top.1
    );
    wait_for("it is not scaled", patience, || {
        let deployment = space.get("deployment/busy")?;
        Ok((deployment["status"]["readyReplicas"] == 3).then_some(()))
    })
    .with_context(|| {
        let told = space.kubectl(&["describe", "hpa", "busy"]);
        told.map_or_else(|error| format!("{error:#}"), |ran| ran.stdout)
    })
}
