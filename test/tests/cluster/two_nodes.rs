//! Two nodes that get Skiff by the chart: what Kubernetes does between them, and a version that is stopped at the first.
//! Each scenario begins where the one before has ended.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::{NODE, SECOND_NODE, Second, Space};
use skiff_test::command::wait_for;

use crate::chart::{PATIENCE, SPACE, UNINSTALL, chart, helm, image, image_with, said, state_of};
use crate::node::{rolled_out, sleepers};
use crate::{cluster, holds, pod, pod_of, services};

skiff_test::cases!(
    both_nodes_get_it,
    pods_of_both_reach_each_other,
    a_drained_nodes_pods_go_to_the_other,
    a_version_that_does_not_work_stops_at_the_first_node,
    it_is_taken_off_both,
);

const NODES: [&str; 2] = [NODE, SECOND_NODE];

/// The pod, to be put on that node.
fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
    pod
}

/// Where each pod is, and its address.
fn places(space: &Space<'_>) -> Result<Vec<(String, String)>> {
    let pods = space.get("pods")?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alive = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(alive
        .map(|pod| {
            (
                text(&pod["spec"]["nodeName"]),
                text(&pod["status"]["podIP"]),
            )
        })
        .collect())
}

/// A pod runs to its end on both nodes.
fn runs_on_both(space: &Space<'_>, name: &str) -> Result<()> {
    for node in NODES {
        let name = format!("{name}-{node}");
        space.apply(&on(node, pod(&name, &["say", "it works"])?))?;
        space.phase(&name, "Succeeded")?;
        holds(&space.logs(&name)?, "it works")?;
    }
    Ok(())
}

/// Which build each node has.
fn builds() -> Result<[PathBuf; 2]> {
    let cluster = cluster()?;
    let second = second(cluster.second())?.root();
    let of = |root: &Path| fs::read_link(root.join("opt/skiff/current"));
    Ok([of(Path::new("/"))?, of(&second)?])
}

fn daemon_set() -> Result<Value> {
    let words = [
        "get",
        "daemonset",
        "skiff",
        "--namespace",
        SPACE,
        "--output",
        "json",
    ];
    Ok(serde_json::from_str(&cluster()?.kubectl(&words)?.ok()?)?)
}

fn other_than(node: &str) -> &'static str {
    if node == NODE { SECOND_NODE } else { NODE }
}

fn second(second: Option<&Second>) -> Result<&Second> {
    second.context("there is no second node")
}

fn both_nodes_get_it() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("both")?;
    chart(
        "install",
        &image("one")?,
        &cluster.restart_script()?,
        &["--wait"],
    )?
    .ok()?;
    for node in NODES {
        state_of(node, "ready")?;
    }
    runs_on_both(&space, "one")
}

fn pods_of_both_reach_each_other() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("spread")?;
    let image = &cluster.images().component;
    let mut objects = services::web(image, "first");
    let deployment = &mut objects[0]["spec"];
    deployment["replicas"] = json!(4);
    deployment["template"]["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } } }]);
    space.apply(&objects)?;
    rolled_out(&space, "web")?;
    let servers = places(&space)?;
    let nodes: BTreeSet<&str> = servers.iter().map(|(node, _)| node.as_str()).collect();
    ensure!(nodes.len() == 2, "all are on {nodes:?}");
    for node in NODES {
        // Each server by its own address, then whoever answers for all of them, by name.
        let mut words = vec![
            "fetch".to_owned(),
            "web:80".to_owned(),
            "/by-name".to_owned(),
        ];
        for (_, address) in &servers {
            words.extend([
                "fetch".to_owned(),
                format!("{address}:8080"),
                format!("/{address}"),
            ]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = format!("client-{node}");
        space.apply(&on(node, pod_of(&name, image, &words)))?;
        space.phase(&name, "Succeeded")?;
        let log = space.logs(&name)?;
        holds(&log, "was asked for /by-name")?;
        for (_, address) in &servers {
            holds(&log, &format!("was asked for /{address}"))?;
        }
    }
    Ok(())
}

fn a_drained_nodes_pods_go_to_the_other() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("drained")?;
    space.apply(&sleepers(6)?)?;
    rolled_out(&space, "sleeper")?;
    let words = [
        "drain",
        SECOND_NODE,
        "--pod-selector=app=sleeper",
        "--timeout=50s",
    ];
    let drained = cluster.kubectl(&words)?;
    let moved = rolled_out(&space, "sleeper").and_then(|()| places(&space));
    let back = cluster.kubectl(&["uncordon", SECOND_NODE]);
    drained.ok()?;
    back?.ok()?;
    let moved = moved?;
    ensure!(
        moved.len() == 6 && moved.iter().all(|(node, _)| node == NODE),
        "{moved:?}"
    );
    Ok(())
}

/// Its engine does not start: the node that is first tells so and keeps the version before, the other one is left alone.
fn a_version_that_does_not_work_stops_at_the_first_node() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("broken")?;
    let before = builds()?;
    let broken = image_with("broken", |folder| {
        let host = folder.join("skiff-host-wasmtime");
        fs::write(&host, "#!/bin/sh\nexit 1\n")?;
        Ok(fs::set_permissions(
            &host,
            fs::Permissions::from_mode(0o755),
        )?)
    })?;
    chart("upgrade", &broken, &cluster.restart_script()?, &[])?.ok()?;
    let (node, reason) = wait_for("no node tells that it does not work", PATIENCE, || {
        for node in NODES {
            let (state, reason) = said(node)?;
            if state == "degraded" {
                return Ok(Some((node, reason)));
            }
        }
        Ok(None)
    })?;
    ensure!(!reason.is_empty(), "{node} gives no reason");
    let stands = || -> Result<Option<()>> {
        let (set, (other, _)) = (daemon_set()?, said(other_than(node))?);
        let status = &set["status"];
        let stopped = status["updatedNumberScheduled"] == 1 && status["numberReady"] == 1;
        Ok((stopped && other == "ready" && builds()? == before).then_some(()))
    };
    wait_for("the rollout does not stop at it", PATIENCE, stands)?;
    runs_on_both(&space, "meanwhile")?;
    ensure!(
        stands()?.is_some(),
        "it went on: {}, {:?}, {before:?} became {:?}",
        daemon_set()?["status"],
        said(other_than(node))?,
        builds()?
    );
    helm(&["rollback", "skiff", "1", "--wait", "--timeout=200s"])?.ok()?;
    for node in NODES {
        state_of(node, "ready")?;
    }
    runs_on_both(&space, "after")
}

fn it_is_taken_off_both() -> Result<()> {
    let cluster = cluster()?;
    helm(&UNINSTALL)?.ok()?;
    let second = second(cluster.second())?;
    ensure!(
        cluster.is_clean()? && second.is_clean()?,
        "containerd's configuration is not what it was"
    );
    for root in [PathBuf::from("/"), second.root()] {
        for ours in ["opt/skiff", "var/lib/skiff", "run/skiff"] {
            let place = root.join(ours);
            ensure!(!place.exists(), "{} is there", place.display());
        }
    }
    Ok(())
}
