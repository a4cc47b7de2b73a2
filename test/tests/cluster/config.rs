//! What pods are given: ConfigMaps and Secrets as variables and as files, updates of them, volumes of each kind.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{cluster, holds, pod};

skiff_test::cases!(
    variables_of_config_maps_secrets_and_fields,
    files_of_config_maps_and_secrets_follow_updates,
    a_module_out_of_a_config_map,
    a_persistent_volume_keeps_what_was_written,
    a_volume_that_is_read_only,
    projected_tokens_and_the_downward_interface,
);

fn map(name: &str, data: &serde_json::Value) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

fn variables_of_config_maps_secrets_and_fields() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("variables")?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hidden" },
        "stringData": { "password": "s3cret" } });
    let mut show = pod("show", &["show"])?;
    let container = &mut show["spec"]["containers"][0];
    container["resources"] = json!({ "limits": { "memory": "64Mi" } });
    container["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
    container["env"] = json!([
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "hidden", "key": "password" } } },
        { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "LIMIT", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory" } } },
        { "name": "WHOLE", "value": "$(COLOUR) and $(POD)" },
    ]);
    space.apply(&json!([
        map("settings", &json!({ "COLOUR": "blue" })),
        secret,
        show
    ]))?;
    space.phase("show", "Succeeded")?;
    let log = space.logs("show")?;
    for line in [
        "env COLOUR=blue\n",
        "env PASSWORD=s3cret\n",
        "env POD=show\n",
        "env LIMIT=67108864\n",
    ] {
        holds(&log, line)?;
    }
    holds(&log, "env WHOLE=blue and show\n")
}

fn files_of_config_maps_and_secrets_follow_updates() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("files")?;
    let settings = |colour: &str| map("settings", &json!({ "colour": colour }));
    let secret = |word: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hidden" },
            "stringData": { "word": word } })
    };
    let mut watch = pod("watch", &["watch", "/settings/colour"])?;
    watch["spec"]["volumes"] = json!([
        { "name": "settings", "configMap": { "name": "settings" } },
        { "name": "hidden", "secret": { "secretName": "hidden", "defaultMode": 256 } },
    ]);
    watch["spec"]["containers"][0]["volumeMounts"] = json!([
        { "name": "settings", "mountPath": "/settings" },
        { "name": "hidden", "mountPath": "/hidden", "readOnly": true },
        { "name": "settings", "mountPath": "/one", "subPath": "colour" },
    ]);
    space.apply(&json!([settings("blue"), secret("sesame"), watch]))?;
    space.says("watch", "/settings/colour: blue")?;
    ensure!(space.exec("watch", &["cat", "/hidden/word"])?.ok()? == "sesame");
    ensure!(space.exec("watch", &["cat", "/one"])?.ok()? == "blue");
    let ran = space.exec("watch", &["touch", "/hidden/more"])?;
    ensure!(ran.code != 0, "a secret could be written to");
    space.apply(&json!([settings("green"), secret("opens")]))?;
    space.says("watch", "/settings/colour: green")?;
    skiff_test::command::wait_for(
        "the secret is the old one",
        std::time::Duration::from_secs(30),
        || {
            let ran = space.exec("watch", &["cat", "/hidden/word"])?;
            Ok((ran.stdout == "opens").then_some(()))
        },
    )?;
    // Kubernetes never updates what is mounted by subPath.
    ensure!(space.exec("watch", &["cat", "/one"])?.ok()? == "blue");
    Ok(())
}

/// A handler in text form, without any image of its own.
fn a_module_out_of_a_config_map() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("module")?;
    let text = fs::read_to_string(skiff_test::tools::checkout().join("examples/hello.wat"))?;
    let mut hello = pod("hello", &[])?;
    hello["spec"]["volumes"] = json!([{ "name": "code", "configMap": { "name": "code" } }]);
    let container = &mut hello["spec"]["containers"][0];
    container["command"] = json!(["/code/hello.wat"]);
    container["volumeMounts"] = json!([{ "name": "code", "mountPath": "/code" }]);
    space.apply(&json!([map("code", &json!({ "hello.wat": text })), hello]))?;
    space.phase("hello", "Succeeded")?;
    holds(&space.logs("hello")?.to_lowercase(), "hello")
}

fn a_persistent_volume_keeps_what_was_written() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("volume")?;
    let place = cluster.directory().join("files/volume");
    fs::create_dir_all(&place)?;
    let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "kept" },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": { "path": place } } });
    let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "claim" },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
            "resources": { "requests": { "storage": "1Gi" } } } });
    let with_volume = |name: &str, words: &[&str]| -> Result<serde_json::Value> {
        let mut pod = pod(name, words)?;
        pod["spec"]["volumes"] =
            json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "claim" } }]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{ "name": "data", "mountPath": "/data" }]);
        Ok(pod)
    };
    let writer = with_volume("writer", &["write", "/data/note", "kept\n"])?;
    space.apply(&json!([volume, claim, writer]))?;
    space.phase("writer", "Succeeded")?;
    space.delete("pod/writer")?;
    space.apply(&with_volume("reader", &["read", "/data/note"])?)?;
    space.phase("reader", "Succeeded")?;
    ensure!(space.logs("reader")? == "kept\n");
    ensure!(fs::read_to_string(place.join("note"))? == "kept\n");
    space.delete("pod/reader")?;
    space.delete("persistentvolumeclaim/claim")?;
    space.delete("persistentvolume/kept")
}

fn a_volume_that_is_read_only() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("read-only")?;
    let place = cluster.directory().join("files/read-only");
    fs::create_dir_all(&place)?;
    fs::write(place.join("note"), "look\n")?;
    let mut one = pod("one", &["read", "/data/note", "write", "/data/note", "x"])?;
    one["spec"]["volumes"] = json!([{ "name": "data", "hostPath": { "path": place } }]);
    one["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "data", "mountPath": "/data", "readOnly": true }]);
    space.apply(&one)?;
    space.phase("one", "Succeeded")?;
    let log = space.logs("one")?;
    holds(&log, "look\nwrite failed: ")?;
    ensure!(fs::read_to_string(place.join("note"))? == "look\n");
    Ok(())
}

fn projected_tokens_and_the_downward_interface() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("projected")?;
    let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
    let words = ["read", "/about/labels", "say", "", "list", folder];
    let mut one = pod("one", &words)?;
    one["spec"]["volumes"] = json!([{ "name": "about", "downwardAPI": { "items": [
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } } ] } }]);
    one["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "about", "mountPath": "/about" }]);
    space.apply(&one)?;
    space.phase("one", "Succeeded")?;
    let log = space.logs("one")?;
    holds(&log, "app=\"one\"")?;
    holds(&log, "ca.crt namespace token")
}
