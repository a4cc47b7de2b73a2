//! Jobs, CronJobs and Deployments of Wasm pods.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::condition;

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    a_job_of_twenty_at_once,
    a_job_tries_again,
    a_cron_job_starts_by_the_clock,
    a_deployment_rolls_over,
    a_deployment_rolls_back_from_a_bad_image,
    a_daemon_set_and_a_stateful_set,
);

/// The template of a workload: a pod without kind and name.
fn template(pod: &Value, restart: &str) -> Value {
    let mut spec = pod["spec"].clone();
    spec["restartPolicy"] = json!(restart);
    json!({ "metadata": { "labels": pod["metadata"]["labels"] }, "spec": spec })
}

fn a_job_of_twenty_at_once() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("job")?;
    let pod = pod("many", &["say", "done"])?;
    space.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "many" },
        "spec": { "parallelism": 20, "completions": 40, "backoffLimit": 0, "template": template(&pod, "Never") },
    }))?;
    let job = space.wait("the job does not complete", "job/many", |job| {
        (condition(job, "Complete").as_deref() == Some("True")).then(|| job.clone())
    })?;
    ensure!(
        job["status"]["succeeded"] == 40 && job["status"]["failed"].is_null(),
        "{}",
        job["status"]
    );
    Ok(())
}

fn a_job_tries_again() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("job-again")?;
    let pod = pod("bad", &["exit", "9"])?;
    space.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "bad" },
        "spec": { "backoffLimit": 1, "template": template(&pod, "Never") },
    }))?;
    let job = space.wait("the job does not fail", "job/bad", |job| {
        (condition(job, "Failed").as_deref() == Some("True")).then(|| job.clone())
    })?;
    ensure!(job["status"]["failed"] == 2, "{}", job["status"]);
    Ok(())
}

/// Every minute: it may take one.
fn a_cron_job_starts_by_the_clock() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("cron")?;
    let pod = pod("tick", &["say", "tick"])?;
    space.apply(&json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "tick" },
        "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template(&pod, "Never") } } },
    }))?;
    let done = skiff_test::command::wait_for("no job was made", Duration::from_secs(100), || {
        let jobs = space.get("jobs")?;
        let jobs = jobs["items"].as_array().cloned().unwrap_or_default();
        Ok(jobs
            .iter()
            .any(|job| job["status"]["succeeded"] == 1)
            .then_some(()))
    });
    done?;
    let log = space.kubectl(&["logs", "--selector", "app=tick"])?.ok()?;
    holds(&log, "tick")
}

/// A Deployment of servers that are ready when they answer.
fn servers(image: &str, replicas: u32, mark: &str) -> Value {
    let mut pod = pod_of("web", image, &["serve", "8080"]);
    let container = &mut pod["spec"]["containers"][0];
    container["readinessProbe"] =
        json!({ "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 });
    container["env"] = json!([{ "name": "MARK", "value": mark }]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": template(&pod, "Always") },
    })
}

const ROLLED_OUT: [&str; 4] = ["rollout", "status", "deployment/web", "--timeout=50s"];

fn a_deployment_rolls_over() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("rollover")?;
    let image = &cluster.images().component;
    space.apply(&servers(image, 3, "first"))?;
    space.kubectl(&ROLLED_OUT)?.ok()?;
    space.apply(&servers(image, 3, "second"))?;
    space.kubectl(&ROLLED_OUT)?.ok()?;
    let words = ["rollout", "undo", "deployment/web"];
    space.kubectl(&words)?.ok()?;
    space.kubectl(&ROLLED_OUT)?.ok()?;
    let found = space.get("deployment/web")?;
    ensure!(found["status"]["readyReplicas"] == 3, "{}", found["status"]);
    Ok(())
}

/// The pods that work stay.
fn a_deployment_rolls_back_from_a_bad_image() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("bad-image")?;
    let image = &cluster.images().component;
    space.apply(&servers(image, 2, "good"))?;
    space.kubectl(&ROLLED_OUT)?.ok()?;
    space.apply(&servers(&format!("{image}-missing"), 2, "bad"))?;
    space.wait("nothing is said of the image", "pods", |pods| {
        let text = pods.to_string();
        (text.contains("ErrImagePull") || text.contains("ImagePullBackOff")).then_some(())
    })?;
    let found = space.get("deployment/web")?;
    ensure!(found["status"]["readyReplicas"] == 2, "{}", found["status"]);
    space
        .kubectl(&["rollout", "undo", "deployment/web"])?
        .ok()?;
    space.kubectl(&ROLLED_OUT)?.ok()?;
    Ok(())
}

fn a_daemon_set_and_a_stateful_set() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("sets")?;
    let pod = pod("set", &["sleep", "1000"])?;
    let set = |kind: &str, name: &str, spec: Value| {
        let mut pod = pod.clone();
        pod["metadata"]["labels"] = json!({ "app": name });
        let mut whole = json!({
            "selector": { "matchLabels": { "app": name } }, "template": template(&pod, "Always") });
        if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
            whole.extend(spec.clone());
        }
        json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": whole })
    };
    let daemon = set("DaemonSet", "daemon", json!({}));
    let stateful = set(
        "StatefulSet",
        "stateful",
        json!({ "replicas": 2, "serviceName": "stateful" }),
    );
    space.apply(&json!([daemon, stateful]))?;
    for object in ["daemonset/daemon", "statefulset/stateful"] {
        let words = ["rollout", "status", object, "--timeout=50s"];
        space.kubectl(&words)?.ok()?;
    }
    let host = space.exec("stateful-1", &["sh", "-c", "echo $HOSTNAME"])?;
    holds(&host.ok()?, "stateful-1")
}
