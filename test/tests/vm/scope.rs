//! The systemd driver: what systemd knows of a container's scope, and what is left of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::command::wait_for;
use skiff_test::node::{Node, Version};
use skiff_test::raw::{Stdio, code, sentence};

use super::limits::{MEGABYTE, shim};
use super::{Driver, file, needs_v2, systemctl};

skiff_test::cases!(
    systemd_knows_the_limits,
    a_scope_goes_with_a_shim_that_dies,
    scopes_that_cannot_be_made,
);

fn known(unit: &str) -> Result<bool> {
    Ok(!systemctl(&["list-units", "--all", "--no-legend", unit])?
        .trim()
        .is_empty())
}

fn systemd_knows_the_limits() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let resources = json!({
        "memory": { "limit": 64 * MEGABYTE },
        "cpu": { "shares": 2048, "quota": 12_345, "period": 50_000, "cpus": "1" },
        "pids": { "limit": 40 },
    });
    let shim = shim(&node, Driver::Systemd, &resources, &["sleep", "1000"])?;
    let pid = shim.create(&Stdio::default())?;
    let unit = format!("skiff-{}.scope", shim.id());
    let show = |properties: &str| systemctl(&["show", "--property", properties, &unit]);
    let shown = show(
        "MemoryMax,CPUWeight,CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,AllowedCPUs,TasksMax,Delegate,Slice,DevicePolicy,ActiveState",
    )?;
    for line in [
        "MemoryMax=67108864".to_owned(),
        "CPUWeight=174".to_owned(),
        "CPUQuotaPerSecUSec=250ms".to_owned(),
        "CPUQuotaPeriodUSec=50ms".to_owned(),
        "AllowedCPUs=1".to_owned(),
        "TasksMax=40".to_owned(),
        "Delegate=yes".to_owned(),
        format!("Slice={}-pod.slice", node.namespace()),
        "DevicePolicy=strict".to_owned(),
        "ActiveState=active".to_owned(),
    ] {
        ensure!(
            shown.lines().any(|shown| shown == line),
            "no {line} in:\n{shown}"
        );
    }
    // The container's process alone: the one that the scope was made for is gone.
    let place = Driver::Systemd.directory(&node, shim.id());
    assert_eq!(file(&place, "cgroup.procs")?, pid.to_string());
    shim.run()?;
    shim.update(&json!({ "memory": { "limit": 96 * MEGABYTE }, "pids": { "limit": -1 } }))?;
    let shown = show("MemoryMax,TasksMax")?;
    ensure!(
        shown.contains("MemoryMax=100663296") && shown.contains("TasksMax=infinity"),
        "{shown}"
    );
    shim.kill(9)?;
    shim.wait()?;
    shim.delete()?;
    ensure!(!known(&unit)?, "systemd still knows {unit}");
    shim.clean()
}

fn a_scope_goes_with_a_shim_that_dies() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let shim = shim(&node, Driver::Systemd, &json!({}), &["sleep", "1000"])?;
    shim.create(&Stdio::default())?;
    shim.run()?;
    let unit = format!("skiff-{}.scope", shim.id());
    ensure!(known(&unit)?, "systemd does not know {unit}");
    let server = rustix::process::Pid::from_raw(i32::try_from(shim.connect()?)?);
    let server = server.context("the shim has no process id")?;
    rustix::process::kill_process(server, rustix::process::Signal::KILL)?;
    assert_eq!(shim.delete_by_command()?, 137);
    wait_for("the scope is still there", Duration::from_secs(10), || {
        Ok((!known(&unit)?).then_some(()))
    })?;
    let place = Driver::Systemd.directory(&node, shim.id());
    ensure!(!Path::new(&place).exists(), "{} is left", place.display());
    shim.clean()
}

fn scopes_that_cannot_be_made() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let refused = |path: &str, words: &str| -> Result<()> {
        let shim = shim(&node, Driver::Systemd, &json!({}), &["exit", "0"])?;
        shim.change_spec(|spec| spec["linux"]["cgroupsPath"] = json!(path))?;
        let answer = shim.create(&Stdio::default());
        let told = sentence(&answer);
        ensure!(told.contains(words), "{}: {told}", code(&answer));
        shim.clean()
    };
    refused("system:skiff:x", "no name of a slice")?;
    refused("system.slice:skiff:a/b", "no name of a scope")?;
    // A unit that is in use.
    let first = shim(&node, Driver::Systemd, &json!({}), &["sleep", "1000"])?;
    first.create(&Stdio::default())?;
    let path = Driver::Systemd.path(&node, first.id());
    refused(&path, "org.freedesktop.systemd1.UnitExists")?;
    let place = Driver::Systemd.directory(&node, first.id());
    ensure!(
        !file(&place, "cgroup.procs")?.is_empty(),
        "the first container is gone"
    );
    first.clean()
}
