//! A shim alone: what a spec asks for is in the cgroup's files, and what Update asks for is there after it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::{self, wait_for};
use skiff_test::node::{Node, Version};
use skiff_test::raw::{Shim, Stdio, code, sentence};
use skiff_test::{guest, tools};

use super::{Driver, file, needs_v2, systemctl};

skiff_test::cases!(
    limits_are_written_and_changed,
    what_v2_cannot_do_is_refused,
    a_paused_container_stands_still,
    devices_are_for_those_who_may,
);

pub(super) const MEGABYTE: u64 = 1 << 20;

/// A shim with a container that is yet to be created: its resources, and what its guest does.
pub(super) fn shim<'a>(
    node: &'a Node,
    driver: Driver,
    resources: &Value,
    words: &[&str],
) -> Result<Shim<'a>> {
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let module = guest::module()?;
    let words: Vec<&str> = ["/app.wasm"].iter().chain(words).copied().collect();
    let shim = Shim::start(node, &program, &[("app.wasm", &module)], &words)?;
    shim.change_spec(|spec| {
        spec["linux"]["cgroupsPath"] = json!(driver.path(node, shim.id()));
        spec["linux"]["resources"] = resources.clone();
    })?;
    Ok(shim)
}

fn create(shim: &Shim<'_>) -> Result<()> {
    shim.create(&Stdio::default())
        .map_err(|error| anyhow::anyhow!("Create: {error}"))?;
    Ok(())
}

fn limits_are_written_and_changed() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    for driver in Driver::BOTH {
        written_and_changed(&node, driver)?;
    }
    Ok(())
}

fn written_and_changed(node: &Node, driver: Driver) -> Result<()> {
    let resources = json!({
        "memory": { "limit": 128 * MEGABYTE, "swap": 160 * MEGABYTE, "reservation": 8 * MEGABYTE },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 50 },
        "blockIO": { "throttleReadBpsDevice": [{ "major": 254, "minor": 0, "rate": 10_000_000 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 * MEGABYTE }],
        "unified": { "memory.high": (120 * MEGABYTE).to_string() },
    });
    let shim = shim(
        node,
        driver,
        &resources,
        &["grow", "20", "say", "up", "sleep", "1000"],
    )?;
    create(&shim)?;
    let place = driver.directory(node, shim.id());
    let are = |expected: &[(&str, String)]| -> Result<()> {
        for (name, value) in expected {
            assert_eq!(file(&place, name)?, *value, "{driver:?}: {name}");
        }
        Ok(())
    };
    let text = |number: u64| number.to_string();
    let mut expected = vec![
        ("memory.max", text(128 * MEGABYTE)),
        ("memory.low", text(8 * MEGABYTE)),
        ("memory.high", text(120 * MEGABYTE)),
        ("cpu.weight", text(59)),
        ("cpu.max", "50000 100000".to_owned()),
        ("cpuset.cpus", "0".to_owned()),
        ("cpuset.mems", "0".to_owned()),
        ("pids.max", text(50)),
        (
            "io.max",
            "254:0 rbps=10000000 wbps=max riops=max wiops=max".to_owned(),
        ),
        ("hugetlb.2MB.max", text(4 * MEGABYTE)),
        ("hugetlb.2MB.rsvd.max", text(4 * MEGABYTE)),
    ];
    if place.join("memory.swap.max").exists() {
        expected.push(("memory.swap.max", text(32 * MEGABYTE)));
    }
    are(&expected)?;
    if driver == Driver::Systemd {
        // Which writes all that it knows once more.
        systemctl(&["daemon-reload"])?;
        are(&expected)?;
    }
    let pid = shim.run()?;
    assert_eq!(file(&place, "cgroup.procs")?, pid.to_string());
    wait_for("the guest takes no memory", Duration::from_secs(60), || {
        let used: u64 = file(&place, "memory.current")?.parse()?;
        Ok((used > 20 * MEGABYTE).then_some(()))
    })?;

    shim.update(&json!({
        "memory": { "limit": 256 * MEGABYTE, "swap": 256 * MEGABYTE },
        "cpu": { "shares": 1024, "quota": 20_000, "cpus": "0-1" },
        "pids": { "limit": 60 },
        "unified": { "memory.high": "max" },
    }))
    .map_err(|error| anyhow::anyhow!("Update: {error}"))?;
    let changed = [
        ("memory.max", text(256 * MEGABYTE)),
        ("memory.high", "max".to_owned()),
        ("cpu.weight", text(100)),
        ("cpu.max", "20000 100000".to_owned()),
        ("cpuset.cpus", "0-1".to_owned()),
        ("pids.max", text(60)),
    ];
    are(&changed)?;
    shim.update(&json!({ "cpu": { "period": 50_000 } }))
        .map_err(|error| anyhow::anyhow!("Update of the period: {error}"))?;
    are(&[("cpu.max", "20000 50000".to_owned())])?;
    shim.update(&json!({ "cpu": { "quota": 20_000, "period": 100_000 } }))
        .map_err(|error| anyhow::anyhow!("Update of both: {error}"))?;

    // Below what is used: the kernel would kill. All of it is as it was.
    let refused = shim.update(&json!({ "pids": { "limit": 70 }, "memory": { "limit": MEGABYTE } }));
    assert_eq!(code(&refused), "FAILED_PRECONDITION");
    let told = sentence(&refused);
    ensure!(
        told.contains("linux.resources.memory.limit") && told.contains("use "),
        "{told}"
    );
    are(&changed)?;
    if driver == Driver::Systemd {
        systemctl(&["daemon-reload"])?;
        are(&changed)?;
    }
    assert!(
        shim.state()?
            .status
            .enum_value()
            .is_ok_and(|status| format!("{status:?}") == "RUNNING")
    );

    ensure!(!shim.stats()?.is_empty(), "no figures");
    shim.kill(9)?;
    assert_eq!(shim.wait()?, 137);
    assert_eq!(shim.delete()?, 137);
    ensure!(!place.exists(), "{} is left", place.display());
    shim.clean()
}

fn what_v2_cannot_do_is_refused() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    for (resources, words) in [
        (
            json!({ "memory": { "limit": 64 * MEGABYTE, "swappiness": 10 } }),
            "memory.swappiness",
        ),
        (json!({ "network": { "classID": 5 } }), "net_cls"),
        (json!({ "unified": { "warp.speed": "9" } }), "warp"),
        (
            json!({ "unified": { "memory.high": "a lot" } }),
            "memory.high",
        ),
    ] {
        let shim = shim(&node, Driver::Cgroupfs, &resources, &["exit", "0"])?;
        let answer = shim.create(&Stdio::default());
        let told = sentence(&answer);
        ensure!(told.contains(words), "{}: {told}", code(&answer));
        let place = Driver::Cgroupfs.directory(&node, shim.id());
        ensure!(!place.exists(), "{} is left", place.display());
        shim.clean()?;
    }
    // A cgroup below one that has processes of its own.
    let busy = Path::new("/sys/fs/cgroup").join(format!("{}-busy", node.namespace()));
    fs::create_dir(&busy)?;
    let mut sleeper = Command::new("sleep").arg("1000").spawn()?;
    fs::write(busy.join("cgroup.procs"), sleeper.id().to_string())?;
    let shim = shim(
        &node,
        Driver::Cgroupfs,
        &json!({ "memory": { "limit": 64 * MEGABYTE } }),
        &["exit", "0"],
    )?;
    shim.change_spec(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("/{}-busy/c", node.namespace()));
    })?;
    let told = sentence(&shim.create(&Stdio::default()));
    sleeper.kill()?;
    sleeper.wait()?;
    ensure!(
        told.contains("has processes of its own and cannot pass it on"),
        "{told}"
    );
    fs::remove_dir(&busy)?;
    shim.clean()
}

fn a_paused_container_stands_still() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    for driver in Driver::BOTH {
        let shim = shim(&node, driver, &json!({}), &["spin"])?;
        create(&shim)?;
        shim.run()?;
        let place = driver.directory(&node, shim.id());
        let spent = || -> Result<u64> {
            let stat = file(&place, "cpu.stat")?;
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "));
            Ok(line.unwrap_or_default().parse()?)
        };
        shim.pause()?;
        assert_eq!(code(&shim.pause()), "FAILED_PRECONDITION");
        let before = spent()?;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(spent()?, before, "{driver:?}");
        shim.resume()?;
        wait_for("it does not go on", Duration::from_secs(20), || {
            Ok((spent()? > before + 100_000).then_some(()))
        })?;
        shim.pause()?;
        shim.kill(9)?;
        assert_eq!(shim.wait()?, 137);
        shim.clean()?;
    }
    Ok(())
}

/// What a process in the cgroup may do with devices, asked by a process of the node that goes there.
fn devices_are_for_those_who_may() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    for driver in Driver::BOTH {
        let rules = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
        ]);
        let shim = shim(
            &node,
            driver,
            &json!({ "devices": rules }),
            &["sleep", "1000"],
        )?;
        create(&shim)?;
        shim.run()?;
        let procs = driver.directory(&node, shim.id()).join("cgroup.procs");
        let may = |words: &str| -> Result<bool> {
            let mut command = Command::new("/bin/sh");
            let procs = procs.clone();
            // The shell itself has to be there when it opens the device.
            command.args(["-c", &format!("echo $$ > {} && {words}", procs.display())]);
            command.process_group(0);
            Ok(command::run(&mut command)?.code == 0)
        };
        let disk = "/run/skiff-vm-disk";
        command::run(Command::new("mknod").args([disk, "b", "254", "0"]))?.ok()?;
        let found = [
            may(": < /dev/null > /dev/zero")?,
            may(": < /dev/kmsg")?,
            may(": > /dev/kmsg")?,
            may(&format!(": < {disk}"))?,
            may("mknod /run/skiff-vm-any c 10 200 && rm /run/skiff-vm-any")?,
        ];
        fs::remove_file(disk)?;
        assert_eq!(found, [true, true, false, false, true], "{driver:?}");
        shim.clean()?;
    }
    Ok(())
}
