//! Resources and figures.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::wait_for;
use skiff_test::node::CriContainer;
use skiff_test::residue::cgroup_trees;

use crate::world::{World, says};

crate::specs!(
    memory_limit,
    share_of_the_processor,
    quota_of_the_processor,
    processors_to_run_on,
    limit_while_running,
    out_of_memory_is_an_end,
    memory_figure,
    processor_time_grows,
    figures_of_the_pod,
);

/// A file of the container's cgroup, by its names in the first and in the second version.
fn setting(container: &CriContainer<'_>, first: &str, second: &str) -> Result<String> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
    let controller = first.split('.').next().unwrap_or_default();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        for tree in cgroup_trees() {
            let here = tree.join(path.trim_start_matches('/'));
            let file: PathBuf = if names.split(',').any(|name| name == controller) {
                here.join(first)
            } else if names.is_empty() {
                here.join(second)
            } else {
                continue;
            };
            if let Ok(text) = fs::read_to_string(&file) {
                return Ok(text.trim().to_owned());
            }
        }
    }
    anyhow::bail!("neither {first} nor {second} is in a cgroup of {groups}")
}

fn resources(resources: &Value) -> Value {
    json!({ "linux": { "resources": resources } })
}

fn memory_limit(world: &World<'_>) -> Result<()> {
    let config = resources(&json!({ "memory_limit_in_bytes": 134_217_728 }));
    world.sleeping(&config, |container| {
        let limit = setting(container, "memory.limit_in_bytes", "memory.max")?;
        ensure!(limit == "134217728", "{limit}");
        Ok(())
    })
}

fn share_of_the_processor(world: &World<'_>) -> Result<()> {
    let config = resources(&json!({ "cpu_shares": 512 }));
    world.sleeping(&config, |container| {
        let share = setting(container, "cpu.shares", "cpu.weight")?;
        ensure!(share == "512" || share == "20" || share == "59", "{share}");
        Ok(())
    })
}

fn quota_of_the_processor(world: &World<'_>) -> Result<()> {
    let config = resources(&json!({ "cpu_period": 100_000, "cpu_quota": 50_000 }));
    world.sleeping(&config, |container| {
        let quota = setting(container, "cpu.cfs_quota_us", "cpu.max")?;
        ensure!(quota.starts_with("50000"), "{quota}");
        Ok(())
    })
}

fn processors_to_run_on(world: &World<'_>) -> Result<()> {
    let config = resources(&json!({ "cpuset_cpus": "0" }));
    world.sleeping(&config, |container| {
        let allowed = crate::world::status_of(container, "Cpus_allowed_list")?;
        ensure!(allowed == "0", "{allowed}");
        Ok(())
    })
}

fn limit_while_running(world: &World<'_>) -> Result<()> {
    let config = resources(&json!({ "memory_limit_in_bytes": 134_217_728 }));
    world.sleeping(&config, |container| {
        world
            .cri
            .crictl(&["update", "--memory", "201326592", &container.id])?
            .ok()?;
        let limit = setting(container, "memory.limit_in_bytes", "memory.max")?;
        ensure!(limit == "201326592", "{limit}");
        Ok(())
    })
}

/// Whether the guest is refused memory first or killed for it, it does not get more than its limit.
fn out_of_memory_is_an_end(world: &World<'_>) -> Result<()> {
    let mut config = resources(&json!({ "memory_limit_in_bytes": 67_108_864 }));
    config["args"] = json!(["grow", "256", "say", "got it all"]);
    let ended = world.run_with(&config)?;
    ensure!(
        ended.code != 0 && !ended.out.contains("got it all"),
        "{ended:?}"
    );
    Ok(())
}

fn stats(world: &World<'_>, container: &CriContainer<'_>) -> Result<Value> {
    let words = ["stats", "--output", "json", "--id", &container.id];
    let all: Value = serde_json::from_str(&world.cri.crictl(&words)?.ok()?)?;
    Ok(all["stats"][0].clone())
}

fn figure(value: &Value) -> Result<u64> {
    value["value"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .or_else(|| value["value"].as_u64())
        .with_context(|| format!("no figure in {value}"))
}

fn memory_figure(world: &World<'_>) -> Result<()> {
    let config = json!({ "args": ["grow", "16", "say", "grown", "sleep", "1000"] });
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &config)?;
        // What has grown is given back; what the engine keeps is more than nothing.
        says(&container, "grown")?;
        let used = figure(&stats(world, &container)?["memory"]["workingSetBytes"])?;
        ensure!(used > 100_000, "{used} bytes");
        Ok(())
    })
}

fn processor_time_grows(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["spin"] }))?;
        says(&container, "spinning")?;
        let time = || figure(&stats(world, &container)?["cpu"]["usageCoreNanoSeconds"]);
        let before = time()?;
        wait_for(
            "the processor's time does not grow",
            Duration::from_secs(20),
            || Ok((time()? > before + 50_000_000).then_some(())),
        )
    })
}

fn figures_of_the_pod(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = world.sleeper(pod, &json!({}))?;
        let words = ["statsp", "--output", "json", "--id", &pod.id];
        let text = world.cri.crictl(&words)?.ok()?;
        ensure!(text.contains(&container.id), "{text}");
        Ok(())
    })
}
