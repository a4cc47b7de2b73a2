//! Pod Security, users, user namespaces.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::container_state;
use skiff_test::node::Version;

use crate::{cluster, holds, pod};

skiff_test::cases!(
    the_restricted_profile,
    a_user_and_its_groups,
    a_user_namespace,
    a_root_that_cannot_be_written,
    without_a_token,
);

/// What the profile asks of a pod.
fn restrict(pod: &mut Value) {
    pod["spec"]["securityContext"] = json!({ "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } });
    pod["spec"]["containers"][0]["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
}

fn the_restricted_profile() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("restricted")?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster
        .kubectl(&["label", "namespace", "restricted", label])?
        .ok()?;
    let mut one = pod("one", &["say", "restricted and well"])?;
    space
        .try_apply(&one)?
        .fails_with(&["violates PodSecurity"])?;
    restrict(&mut one);
    space.apply(&one)?;
    space.phase("one", "Succeeded")?;
    holds(&space.logs("one")?, "restricted and well")?;
    // A server, and a command in it.
    let mut server = crate::pod_of("server", &cluster.images().component, &["serve", "8080"]);
    restrict(&mut server);
    space.apply(&server)?;
    space.says("server", "serving on port 8080")?;
    ensure!(space.exec("server", &["cat", "/greeting"])?.ok()? == "good morning\n");
    Ok(())
}

fn a_user_and_its_groups() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("users")?;
    let mut one = pod("one", &["write", "/data/note", "x", "sleep", "1000"])?;
    one["spec"]["securityContext"] = json!({ "runAsUser": 4000, "runAsGroup": 4001, "fsGroup": 4002, "supplementalGroups": [4003] });
    one["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    one["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "data", "mountPath": "/data" }]);
    space.apply(&one)?;
    let seen = space.ready("one")?;
    space.says("one", "written /data/note")?;
    // containerd 1.7 does not tell the kubelet.
    let user = &container_state(&seen, "main").context("no container")?["user"]["linux"];
    if cluster.version() != Version::V1_7 {
        ensure!(user["uid"] == 4000 && user["gid"] == 4001, "{user}");
        let groups = user["supplementalGroups"].to_string();
        holds(&groups, "4002")?;
        holds(&groups, "4003")?;
    }
    // The volume of the node, since WASI tells a guest no owners.
    let uid = seen["metadata"]["uid"].as_str().context("no uid")?;
    let volume = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/data/note");
    let facts = std::fs::metadata(volume)?;
    ensure!(
        facts.uid() == 4000 && facts.gid() == 4002,
        "the file is of {}:{}",
        facts.uid(),
        facts.gid()
    );
    Ok(())
}

/// containerd 1.7 tells the kubelet nothing of its handlers, which then refuses.
fn a_user_namespace() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("user-namespace")?;
    let mut one = pod("one", &["say", "up", "sleep", "1000"])?;
    one["spec"]["hostUsers"] = json!(false);
    space.apply(&one)?;
    if cluster.version() == Version::V1_7 {
        return space.wait("nothing is said of the refusal", "events", |events| {
            let text = events.to_string();
            text.contains("user namespace").then_some(())
        });
    }
    space.ready("one")?;
    space.says("one", "up")?;
    let id = crate::node::first_process(&space.get("pod/one")?)?;
    let map = std::fs::read_to_string(format!("/proc/{id}/uid_map"))?;
    let words: Vec<&str> = map.split_whitespace().collect();
    ensure!(
        words.first() == Some(&"0") && words.get(1) != Some(&"0"),
        "{map}"
    );
    ensure!(space.exec("one", &["cat", "/greeting"])?.ok()? == "good morning\n");
    Ok(())
}

fn a_root_that_cannot_be_written() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("read-only-root")?;
    let mut one = pod("one", &["write", "/x", "y", "write", "/data/x", "y"])?;
    one["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    let container = &mut one["spec"]["containers"][0];
    container["securityContext"] = json!({ "readOnlyRootFilesystem": true });
    container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    space.apply(&one)?;
    space.phase("one", "Succeeded")?;
    let log = space.logs("one")?;
    holds(&log, "write failed: ")?;
    holds(&log, "written /data/x")
}

fn without_a_token() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("no-token")?;
    let mut one = pod("one", &["list", "/var/run/secrets"])?;
    one["spec"]["automountServiceAccountToken"] = json!(false);
    space.apply(&one)?;
    space.phase("one", "Succeeded")?;
    holds(&space.logs("one")?, "failed")
}
