//! Termination messages, through CRI with a file that looks like the kubelet's.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Pod, Version, engine};

skiff_test::cases!(
    ends_that_are_told,
    starts_that_fail_are_told,
    the_guests_own_message_stays,
);

const MEGABYTE: u64 = 1 << 20;

/// A container's file as a kubelet makes it, and the CRI config that mounts it.
struct Message {
    file: PathBuf,
    config: Value,
}

impl Message {
    fn new(node: &Node, pod: &Pod<'_>, name: &str, more: &Value) -> Result<Self> {
        let folder = node
            .directory()
            .join("tmp/kubelet/pods")
            .join(pod.uid()?)
            .join("containers")
            .join(name);
        fs::create_dir_all(&folder)?;
        let file = folder.join("0a1b2c3d");
        fs::write(&file, "")?;
        let mut config = json!({
            "metadata": { "name": name },
            "mounts": [{ "container_path": "/var/run/last-words", "host_path": file }],
        });
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        Ok(Self { file, config })
    }

    /// Takes away what a kubelet would.
    fn remove(node: &Node) -> Result<()> {
        Ok(fs::remove_dir_all(node.directory().join("tmp/kubelet"))?)
    }

    fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.file)?)
    }
}

fn ends_that_are_told() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("image", &guest::module()?);
    let reference = node.registry()?.push(&image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let limited = json!({ "resources": { "memory_limit_in_bytes": 32 * MEGABYTE } });
    for (name, handler, more, code, words) in [
        ("good", "wasmtime", json!({ "args": ["exit", "0"] }), 0, ""),
        ("own", "wasmtime", json!({ "args": ["exit", "3"] }), 3, ""),
        (
            "trap",
            "wasmtime",
            json!({ "args": ["trap"] }),
            134,
            if engine() == "wasmtime" {
                "trapped: wasm trap: wasm `unreachable` instruction executed"
            } else {
                "trapped: unreachable"
            },
        ),
        (
            "refused",
            "wasmtime",
            json!({ "args": ["grow", "100"], "linux": limited }),
            134,
            "at a cap of 27 MiB (handler option MemoryCap = \"default\") and was refused",
        ),
        (
            "killed",
            "wasmtime-uncapped",
            json!({ "args": ["grow", "100"], "linux": limited }),
            137,
            "it had reached its limit of 32 MiB",
        ),
    ] {
        let pod = cri.pod(handler, handler)?;
        let message = Message::new(&node, &pod, name, &more)?;
        let container = pod.start(&reference, &message.config)?;
        let ended = container.wait().with_context(|| name.to_owned())?;
        assert_eq!(ended, code, "{name}");
        let text = message.text()?;
        ensure!(
            text.contains(words) && text.is_empty() == words.is_empty(),
            "{name}: {text}"
        );
        if code == 137 {
            wait_for("CRI does not say OOMKilled", Duration::from_secs(5), || {
                Ok((container.status()?["reason"] == "OOMKilled").then_some(()))
            })?;
        }
        if !words.is_empty() {
            let (_, errors) = container.logs()?;
            ensure!(errors.contains(words), "{name} is not in the log: {errors}");
        }
        pod.remove()?;
    }
    Message::remove(&node)
}

fn starts_that_fail_are_told() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let stranger =
        guest::text(r#"(module (import "env" "strange" (func)) (func (export "_start") call 0))"#)?;
    let stranger = Image::layer("stranger", &stranger);
    let reference = node.registry()?.push(&stranger, "stranger")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let message = Message::new(&node, &pod, "stranger", &json!({}))?;
    let container = pod.try_create(&reference, &message.config)?;
    let Ok(container) = container else {
        anyhow::bail!("CRI does not create it");
    };
    let refused = cri.crictl(&["start", &container.id])?;
    ensure!(refused.code != 0, "it is started");
    let text = message.text()?;
    ensure!(
        text.contains("imports strange from env, which is not provided here"),
        "{text}"
    );
    // The same words as in the answer, which the kubelet has too.
    ensure!(refused.stderr.contains(&text), "{text}\n{}", refused.stderr);
    pod.remove()?;
    Message::remove(&node)
}

fn the_guests_own_message_stays() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("image", &guest::module()?);
    let reference = node.registry()?.push(&image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let words = ["write", "/var/run/last-words", "my own words", "trap"];
    let message = Message::new(&node, &pod, "app", &json!({ "args": words }))?;
    let container = pod.start(&reference, &message.config)?;
    assert_eq!(container.wait()?, 134);
    assert_eq!(message.text()?, "my own words");
    // A file that is mounted like it and is not the kubelet's.
    let other = node.directory().join("tmp/other");
    fs::write(&other, "")?;
    let config = json!({
        "args": ["trap"],
        "mounts": [{ "container_path": "/dev/termination-log", "host_path": other }],
    });
    let container = pod.start(&reference, &config)?;
    assert_eq!(container.wait()?, 134);
    assert_eq!(fs::read_to_string(&other)?, "");
    fs::remove_file(&other)?;
    pod.remove()?;
    Message::remove(&node)
}
