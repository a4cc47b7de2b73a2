//! The command `skiff` on a node with a real containerd: what it says of the node, and that what it builds and
//! compiles is what containers then use.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skiff_test::command::{self, Ran};
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};
use skiff_test::{guest, tools};

skiff_test::cases!(
    doctor_1_7,
    doctor_2_1,
    doctor_2_4,
    built_into_containerd,
    inspected_by_name,
    warmed_before_the_first_start,
    damage_is_found,
    pruned_while_it_runs,
);

/// Runs `skiff …` as an administrator of the node would: `ctr` in the path, the node's socket and cache.
fn skiff(node: &Node, arguments: &[&str]) -> Result<Ran> {
    let programs = tools::component(node.version().folder())?;
    let mut command = Command::new(tools::skiff("skiff")?);
    command
        .args(arguments)
        .current_dir(node.directory().join("tmp"))
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("TMPDIR", node.directory().join("tmp"))
        .env("CONTAINERD_ADDRESS", node.directory().join("c.sock"))
        .env("CONTAINERD_NAMESPACE", node.namespace())
        .env("SKIFF_CACHE_DIR", node.cache());
    command::run(&mut command)
}

fn json(node: &Node, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let ran = skiff(node, &arguments)?;
    serde_json::from_str(&ran.stdout).with_context(|| format!("not JSON: {ran:?}"))
}

fn doctor_1_7() -> Result<()> {
    doctor(Version::V1_7, "1.7.")
}

fn doctor_2_1() -> Result<()> {
    doctor(Version::V2_1, "2.1.")
}

fn doctor_2_4() -> Result<()> {
    doctor(Version::V2_4, "2.4.")
}

/// What runs the tests is in order; what doctor says of containerd, it has from containerd.
fn doctor(version: Version, number: &str) -> Result<()> {
    let node = Node::start(version)?;
    let report = json(&node, &["doctor"])?;
    let checks = report["checks"].as_array().context("no checks")?;
    let failed: Vec<&Value> = checks
        .iter()
        .filter(|check| check["status"] == "fail")
        .collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    for (id, words) in [
        ("containerd.socket", "answers at"),
        ("containerd.version", number),
        ("cri.handler", "wasmtime (io.containerd.wasmtime.v1)"),
        (
            "shim.containerd-shim-wasmtime-v1",
            "with its engine beside it",
        ),
        ("cache.folder", "cache /tmp/"),
    ] {
        let check = checks.iter().find(|check| check["id"] == id);
        let check = check.with_context(|| format!("no check {id}"))?;
        let finding = check["finding"].as_str().unwrap_or_default();
        ensure!(
            check["status"] == "ok" && finding.contains(words),
            "{check}"
        );
    }
    Ok(())
}

/// Straight into containerd, for each layout that `ctr run` takes; no archive stays behind.
fn built_into_containerd() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        fs::write(node.directory().join("tmp/app.wasm"), guest::module()?)?;
        for layout in ["combined", "root", "layer"] {
            let image = Image::root_file(layout, b"");
            let mut arguments = vec!["build", "app.wasm", "--containerd", "--layout", layout];
            arguments.extend(["--tag", image.name(), "--", "exit", "7"]);
            skiff(&node, &arguments)?.ok()?;
            assert_eq!(node.run(&image).output()?.code, 7, "{layout}, {version:?}");
        }
        fs::remove_file(node.directory().join("tmp/app.wasm"))?;
        let left: Vec<_> = fs::read_dir(node.directory().join("tmp"))?
            .flatten()
            .collect();
        ensure!(left.is_empty(), "left in the temporary folder: {left:?}");
    }
    Ok(())
}

/// The first start compiles; the command sees it by the same key.
fn inspected_by_name() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("inspected", &guest::module()?);
    node.import(&image)?;
    let compiled = || -> Result<Value> {
        let document = json(&node, &["inspect", image.name()])?;
        Ok(document["entries"][0]["modules"][0]["compiled"].clone())
    };
    assert_eq!(compiled()?, false);
    node.run(&image).guest(&["exit", "0"]).output()?.ok()?;
    assert_eq!(compiled()?, true);
    Ok(())
}

/// What `warm` compiled is what the first start uses: it adds nothing to the cache.
fn warmed_before_the_first_start() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("warmed", &guest::module()?);
    node.import(&image)?;
    let warmed = json(&node, &["cache", "warm", image.name()])?;
    assert_eq!(warmed["modules"][0]["state"], "compiled", "{warmed}");
    let before = json(&node, &["cache", "ls"])?;
    assert_eq!(entries(&before), 1, "{before}");
    node.run(&image).guest(&["exit", "0"]).output()?.ok()?;
    let after = json(&node, &["cache", "ls"])?;
    assert_eq!(after["entries"][0]["key"], before["entries"][0]["key"]);
    assert_eq!(entries(&after), 1, "{after}");
    let again = json(&node, &["cache", "warm", image.name()])?;
    assert_eq!(again["modules"][0]["state"], "cached", "{again}");
    Ok(())
}

/// A flipped bit is found by the command and told by its exit code; the next start compiles anew.
fn damage_is_found() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("damaged", &guest::module()?);
    node.import(&image)?;
    node.run(&image).guest(&["exit", "0"]).output()?.ok()?;
    skiff(&node, &["cache", "verify"])?.ok()?;
    let listing = json(&node, &["cache", "ls"])?;
    let key = listing["entries"][0]["key"].as_str().context("no entry")?;
    flip_a_bit(&node.cache().join("entries").join(key))?;
    let ran = skiff(&node, &["cache", "verify"])?;
    ensure!(ran.code == 1 && ran.stdout.contains(key), "{ran:?}");
    node.run(&image).guest(&["exit", "0"]).output()?.ok()?;
    skiff(&node, &["cache", "verify"])?.ok()?;
    Ok(())
}

/// Removing the entry of a running container disturbs neither it nor the next one.
fn pruned_while_it_runs() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("pruned", &guest::module()?);
    node.import(&image)?;
    let task = node.run(&image).guest(&["sleep", "60"]).start()?;
    let kept = json(&node, &["cache", "prune"])?;
    assert_eq!(kept["removed"].as_array().map(Vec::len), Some(0), "{kept}");
    let removed = json(&node, &["cache", "prune", "--all"])?;
    assert_eq!(removed["removed"].as_array().map(Vec::len), Some(1));
    assert_eq!(task.state()?.0, "RUNNING");
    node.run(&image).guest(&["exit", "0"]).output()?.ok()?;
    // SIGKILL ends a container that is undisturbed.
    assert_eq!(task.remove()?, 137);
    Ok(())
}

fn entries(listing: &Value) -> usize {
    listing["entries"].as_array().map_or(0, Vec::len)
}

fn flip_a_bit(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes)?;
    Ok(())
}
