//! Where images come from, and which nodes a pod fits on.

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::cluster::condition;

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    a_private_registry,
    one_tag_for_linux_and_wasm,
    an_engine_that_no_node_has,
    a_handler_that_containerd_has_not,
);

fn a_private_registry() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("private")?;
    let image = &cluster.images().private;
    space.apply(&pod_of("stranger", image, &["say", "in"]))?;
    space.wait("it is not refused", "events", |events| {
        let text = events.to_string();
        (text.contains("401") || text.contains("authorization failed")).then_some(())
    })?;
    let (server, _) = image.split_once('/').expect("a registry and a path");
    let (user, password) = skiff_test::cluster::READER;
    let (server, user, password) = (
        format!("--docker-server={server}"),
        format!("--docker-username={user}"),
        format!("--docker-password={password}"),
    );
    let words = ["create", "secret", "docker-registry", "key"];
    let words = [&words[..], &[&server, &user, &password]].concat();
    space.kubectl(&words)?.ok()?;
    let mut guest = pod_of("guest", image, &["say", "in"]);
    guest["spec"]["imagePullSecrets"] = json!([{ "name": "key" }]);
    guest["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    space.apply(&guest)?;
    space.phase("guest", "Succeeded")?;
    holds(&space.logs("guest")?, "in")
}

/// containerd pulls the entry for the node's own platform, whatever the RuntimeClass: the tag is what it is for Linux.
fn one_tag_for_linux_and_wasm() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("one-tag")?;
    let image = &cluster.images().both;
    for (name, class) in [("linux", None), ("wasm", Some("wasmtime"))] {
        let mut one = pod_of(name, image, &[]);
        one["spec"]["runtimeClassName"] = json!(class);
        one["spec"]["containers"][0]["command"] = json!(["/bin/echo", "natively"]);
        space.apply(&one)?;
        space.phase(name, "Succeeded")?;
        holds(&space.logs(name)?, "natively")?;
    }
    Ok(())
}

fn an_engine_that_no_node_has() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("no-engine")?;
    let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": "other-engine" },
        "handler": "other-engine", "scheduling": { "nodeSelector": { "handler.skiff.dev/other-engine": "true" } } });
    let mut one = pod("one", &["say", "never"])?;
    one["spec"]["runtimeClassName"] = json!("other-engine");
    space.apply(&json!([class]))?;
    space.apply(&one)?;
    let why = space.wait("nothing is said of the reason", "pod/one", |pod| {
        let conditions = pod["status"]["conditions"].as_array()?;
        let scheduled = conditions
            .iter()
            .find(|condition| condition["type"] == "PodScheduled")?;
        (scheduled["status"] == "False")
            .then(|| scheduled["message"].as_str().unwrap_or_default().to_owned())
    })?;
    holds(&why, "node affinity/selector")?;
    let seen = space.get("pod/one")?;
    ensure!(seen["status"]["phase"] == "Pending" && condition(&seen, "Ready").is_none());
    space.delete("pod/one")?;
    space.delete("runtimeclass/other-engine")
}

/// What happens on a node without Skiff, when the RuntimeClass selects no nodes.
fn a_handler_that_containerd_has_not() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("no-handler")?;
    let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": "nobodys" },
        "handler": "nobodys" });
    let mut one = pod("one", &["say", "never"])?;
    one["spec"]["runtimeClassName"] = json!("nobodys");
    space.apply(&class)?;
    space.apply(&one)?;
    space.wait("nothing is said of the reason", "events", |events| {
        let text = events.to_string();
        text.contains("no runtime for").then_some(())
    })?;
    space.delete("pod/one")?;
    space.delete("runtimeclass/nobodys")
}
