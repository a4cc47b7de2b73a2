//! Pods that are paused, resized, or take more memory than they may: under ours, and under runc where what is right
//! is what everybody is used to.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{CriContainer, Node, RUNC, Run, SKIFF, Version};

skiff_test::cases!(
    pause_and_resume,
    pause_and_resume_of_runc,
    pause_and_resume_of_a_linux_container,
    a_signal_waits_for_the_end_of_a_pause,
    out_of_memory_2_4,
    out_of_memory_1_7,
    out_of_memory_of_runc,
    out_of_memory_of_a_linux_container,
    resize_2_4,
    resize_1_7,
    resize_of_runc,
    resize_of_a_linux_container,
);

const MEGABYTE: u64 = 1 << 20;

fn paused_and_killed(node: &Node, run: Run<'_>) -> Result<()> {
    let task = run.start()?;
    task.wait_for_output("up")?;
    for _ in 0..3 {
        node.ctr(&["task", "pause", task.id()])?.ok()?;
        assert_eq!(task.state()?.0, "PAUSED");
        let again = node.ctr(&["task", "pause", task.id()])?;
        ensure!(again.code != 0, "a task can be paused twice");
        node.ctr(&["task", "resume", task.id()])?.ok()?;
        assert_eq!(task.state()?.0, "RUNNING");
        let again = node.ctr(&["task", "resume", task.id()])?;
        ensure!(again.code != 0, "a task can be resumed twice");
    }
    node.ctr(&["task", "pause", task.id()])?.ok()?;
    task.signal("SIGKILL")?.ok()?;
    task.wait_until_stopped(Duration::from_secs(5))?;
    assert_eq!(task.remove()?, 137);
    Ok(())
}

fn pause_and_resume() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        let image = Image::layer("layer", &guest::module()?);
        node.import(&image)?;
        let run = node.run(&image).guest(&["say", "up", "spin"]);
        paused_and_killed(&node, run)?;
    }
    Ok(())
}

fn pause_and_resume_of_runc() -> Result<()> {
    linux_pause_and_resume(RUNC)
}

fn pause_and_resume_of_a_linux_container() -> Result<()> {
    linux_pause_and_resume(SKIFF)
}

fn linux_pause_and_resume(runtime: &str) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::busybox("busybox")?;
    node.import(&image)?;
    let script = "echo up; while :; do :; done";
    let run = node.run(&image).runtime(runtime);
    paused_and_killed(&node, run.args(["/bin/busybox", "sh", "-c", script]))
}

fn a_signal_waits_for_the_end_of_a_pause() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let task = node.run(&image).guest(&["say", "up", "spin"]).start()?;
    task.wait_for_output("up")?;
    node.ctr(&["task", "pause", task.id()])?.ok()?;
    task.signal("SIGTERM")?.ok()?;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(task.state()?.0, "PAUSED");
    node.ctr(&["task", "resume", task.id()])?.ok()?;
    task.wait_until_stopped(Duration::from_secs(5))?;
    assert_eq!(task.remove()?, 143);
    Ok(())
}

/// Takes a page of Wasm after the other, and writes to each of the kernel's in it, until it gets no more.
const GREEDY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (loop $more
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)))
      (loop $page
        (i32.store8 (local.get $at) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $page (i32.rem_u (local.get $at) (i32.const 65536))))
      (br $more))))"#;

fn out_of_memory_2_4() -> Result<()> {
    let greedy = Image::layer("greedy", &guest::text(GREEDY)?);
    out_of_memory(Version::V2_4, "wasmtime-uncapped", &greedy, &[])
}

fn out_of_memory_1_7() -> Result<()> {
    let greedy = Image::layer("greedy", &guest::text(GREEDY)?);
    out_of_memory(Version::V1_7, "wasmtime-uncapped", &greedy, &[])
}

fn out_of_memory_of_runc() -> Result<()> {
    let command = ["/bin/busybox", "tail", "/dev/zero"];
    out_of_memory(Version::V2_4, "runc", &Image::busybox("box")?, &command)
}

fn out_of_memory_of_a_linux_container() -> Result<()> {
    let command = ["/bin/busybox", "tail", "/dev/zero"];
    for version in [Version::V2_4, Version::V1_7] {
        out_of_memory(version, "skiff", &Image::busybox("box")?, &command)?;
    }
    Ok(())
}

fn out_of_memory(version: Version, handler: &str, image: &Image, command: &[&str]) -> Result<()> {
    let mut node = Node::start(version)?;
    let reference = node.registry()?.push(image, "greedy")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod(handler, "pod")?;
    let mut config = json!({
        "linux": { "resources": { "memory_limit_in_bytes": 32 * MEGABYTE } },
    });
    if !command.is_empty() {
        config["command"] = json!(command);
    }
    let container = pod.start(&reference, &config)?;
    assert_eq!(container.wait()?, 137);
    // The event and the exit reach CRI on ways of their own.
    wait_for("CRI does not say OOMKilled", Duration::from_secs(5), || {
        Ok((container.status()?["reason"] == "OOMKilled").then_some(()))
    })?;
    pod.remove()
}

fn resize_2_4() -> Result<()> {
    let image = Image::layer("layer", &guest::module()?);
    let config = json!({ "args": ["grow", "20", "say", "up", "sleep", "1000"] });
    resize(Version::V2_4, "wasmtime", &image, config)
}

fn resize_1_7() -> Result<()> {
    let image = Image::layer("layer", &guest::module()?);
    let config = json!({ "args": ["grow", "20", "say", "up", "sleep", "1000"] });
    resize(Version::V1_7, "wasmtime", &image, config)
}

fn resize_of_runc() -> Result<()> {
    linux_resize("runc")
}

fn resize_of_a_linux_container() -> Result<()> {
    linux_resize("skiff")
}

fn linux_resize(handler: &str) -> Result<()> {
    let script =
        "x=aaaaaaaa; while [ ${#x} -lt 12000000 ]; do x=$x$x; done; echo up; sleep 1000; echo $x";
    let config = json!({ "command": ["/bin/busybox", "sh", "-c", script] });
    resize(Version::V2_4, handler, &Image::busybox("box")?, config)
}

fn limit(node: &Node, container: &CriContainer<'_>, controller: &str, file: &str) -> Result<u64> {
    let path = format!(
        "/sys/fs/cgroup/{controller}/{}/{}/{file}",
        node.namespace(),
        container.id
    );
    let text = std::fs::read_to_string(&path).context(path)?;
    Ok(text.trim().parse()?)
}

fn resize(version: Version, handler: &str, image: &Image, mut config: Value) -> Result<()> {
    let mut node = Node::start(version)?;
    let reference = node.registry()?.push(image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod(handler, "pod")?;
    config["linux"] = json!({ "resources": {
        "memory_limit_in_bytes": 64 * MEGABYTE,
        "cpu_shares": 512, "cpu_period": 100_000, "cpu_quota": 50_000,
    } });
    let container = pod.start(&reference, &config)?;
    wait_for("it does not come up", Duration::from_secs(20), || {
        Ok(container.logs()?.0.contains("up\n").then_some(()))
    })?;
    let figures = || -> Result<[u64; 5]> {
        Ok([
            limit(&node, &container, "memory", "memory.limit_in_bytes")?,
            limit(&node, &container, "memory", "memory.memsw.limit_in_bytes")?,
            limit(&node, &container, "cpu", "cpu.shares")?,
            limit(&node, &container, "cpu", "cpu.cfs_period_us")?,
            limit(&node, &container, "cpu", "cpu.cfs_quota_us")?,
        ])
    };
    let before = figures()?;
    assert_eq!(before, [64 * MEGABYTE, 64 * MEGABYTE, 512, 100_000, 50_000]);
    let update = |memory: u64, shares: u64, period: u64, quota: u64| {
        cri.crictl(&[
            "update".to_owned(),
            format!("--memory={memory}"),
            format!("--cpu-share={shares}"),
            format!("--cpu-period={period}"),
            format!("--cpu-quota={quota}"),
            container.id.clone(),
        ])
    };
    for (memory, shares, period, quota) in [
        (128 * MEGABYTE, 1024, 50_000, 40_000),
        (48 * MEGABYTE, 256, 100_000, 20_000),
    ] {
        update(memory, shares, period, quota)?.ok()?;
        assert_eq!(figures()?, [memory, memory, shares, period, quota]);
    }
    let before = figures()?;
    // Less than it uses.
    let refused = update(4 * MEGABYTE, 300, 50_000, 10_000)?;
    ensure!(refused.code != 0, "4 MiB are enough for 20");
    ensure!(
        handler != "wasmtime" || refused.stderr.contains("its processes use "),
        "it does not say why: {}",
        refused.stderr
    );
    assert_eq!(figures()?, before, "half of an update is left");
    assert_eq!(container.status()?["state"], "CONTAINER_RUNNING");
    // What was refused is not what CRI goes on from.
    update(56 * MEGABYTE, 400, 100_000, 30_000)?.ok()?;
    assert_eq!(figures()?[0], 56 * MEGABYTE);
    pod.remove()
}
