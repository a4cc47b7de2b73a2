//! Many containers in a row, then a look at what they left.
//!
//! Not part of the usual run: `test/run.sh cycles`. `SKIFF_TEST_CYCLES` says how many (1,000).

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};

skiff_test::cases!(containers_by_ctr, containers_in_one_pod);

fn count() -> u32 {
    std::env::var("SKIFF_TEST_CYCLES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000)
}

/// A shim each. The probe at the end of the node sees every process, mount, cgroup, socket and file.
fn containers_by_ctr() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let descriptors =
        || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", node.daemon()))?.count()) };
    node.run(&image).output()?.ok()?;
    let before = descriptors()?;
    for number in 0..count() {
        let code = i32::try_from(number % 256)?;
        let ran = node
            .run(&image)
            .guest(&["exit", &code.to_string()])
            .output()?;
        ensure!(
            ran.code == code,
            "container {number} ended with {} instead of {code}: {}",
            ran.code,
            ran.stderr
        );
    }
    let after = descriptors()?;
    ensure!(
        after <= before + 4,
        "containerd had {before} descriptors open and now has {after}"
    );
    Ok(())
}

/// One shim, which must not grow.
fn containers_in_one_pod() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let reference = node
        .registry()?
        .push(&Image::layer("layer", &guest::module()?), "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let facts = || -> Result<(usize, u64)> {
        let shim = node.shims().pop().context("no shim")?;
        let status = fs::read_to_string(format!("/proc/{shim}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS")?;
        Ok((
            fs::read_dir(format!("/proc/{shim}/fd"))?.count(),
            resident.parse()?,
        ))
    };
    let once = || -> Result<()> {
        let container = pod.start(&reference, &json!({ "args": ["exit", "3"] }))?;
        ensure!(container.wait()? == 3, "the code is another");
        cri.crictl(&["rm", &container.id])?.ok()?;
        Ok(())
    };
    for _ in 0..50 {
        once()?;
    }
    let (descriptors, resident) = facts()?;
    // crictl needs four calls for each container: a fifth of the cycles keeps this under the time of the other.
    for _ in 0..count() / 5 {
        once()?;
    }
    let (descriptors_after, resident_after) = facts()?;
    ensure!(
        descriptors_after == descriptors,
        "the shim had {descriptors} descriptors and now has {descriptors_after}"
    );
    ensure!(
        resident_after <= resident + 256,
        "the shim had {resident} KiB resident and now has {resident_after}"
    );
    pod.remove()
}
