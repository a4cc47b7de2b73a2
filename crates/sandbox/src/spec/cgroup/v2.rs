//! Limits in the files of cgroup v2.
//!
//! A spec speaks of v1; what has other units there is converted as runc 1.5 does. What v2 has no file for is refused
//! by name. `unified` names files of v2 itself, and is written after all else.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::Writes;
use crate::cgroup::Check;
use crate::cgroup::plan::{CORE, weight_of_shares};
use crate::spec::Refusal;

pub(super) fn limits(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    if let Some(limits) = resources.memory() {
        memory(limits, writes)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, writes)?;
    }
    super::pids(resources, writes)?;
    if let Some(limits) = resources.block_io() {
        block_io(limits, writes)?;
    }
    super::huge_pages(resources, "max", writes)?;
    super::network(resources, writes)?;
    unified(resources, writes)
}

/// Refuses what is asked for and is not to be had with v2.
fn none(set: bool, field: &'static str) -> Result<(), Refusal> {
    if set {
        let reason = "is set, but cgroup v2, which this node has, has nothing to enforce it with";
        return Err(Refusal::new(field, reason));
    }
    Ok(())
}

fn memory(limits: &LinuxMemory, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    let (limit, both) = (limits.limit().unwrap_or(0), limits.swap().unwrap_or(0));
    none(
        limits.kernel().is_some_and(|limit| limit != 0),
        "linux.resources.memory.kernel",
    )?;
    none(
        limits.kernel_tcp().is_some_and(|limit| limit != 0),
        "linux.resources.memory.kernelTCP",
    )?;
    none(
        limits.swappiness().is_some(),
        "linux.resources.memory.swappiness",
    )?;
    none(
        limits.disable_oom_killer() == Some(true),
        "linux.resources.memory.disableOOMKiller",
    )?;
    none(
        limits.use_hierarchy() == Some(false),
        "linux.resources.memory.useHierarchy",
    )?;
    if let Some(swap) = swap(limit, both)? {
        let field = "linux.resources.memory.swap";
        // A kernel that does not count swap has no such file; what is asked for is then so anyway.
        let check = if matches!(swap.as_str(), "0" | "max") {
            Check::IfPresent
        } else {
            Check::Written
        };
        writes.add_checked("memory", "memory.swap.max", swap, field, check)?;
    }
    // 0 is how containerd and Docker write "not set".
    if limit != 0 {
        writes.add(
            "memory",
            "memory.max",
            number(limit),
            "linux.resources.memory.limit",
        )?;
    }
    if let Some(reservation) = limits.reservation().filter(|reservation| *reservation != 0) {
        let field = "linux.resources.memory.reservation";
        writes.add("memory", "memory.low", number(reservation), field)?;
    }
    Ok(())
}

/// A negative limit is none.
fn number(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// A spec limits memory and swap together, v2 swap alone. `None` leaves it as it is.
fn swap(limit: i64, both: i64) -> Result<Option<String>, Refusal> {
    let field = "linux.resources.memory.swap";
    Ok(match (limit, both) {
        // Memory without a limit has swap without a limit, as with v1.
        (-1, 0) | (_, -1) => Some("max".to_owned()),
        (_, 0) => None,
        (-1, both) => Some(number(both)),
        (0, _) => {
            let reason =
                "is for memory and swap together, and there is no limit of memory to take from it";
            return Err(Refusal::new(field, reason));
        }
        (limit, both) if both < limit => {
            let reason = format!(
                "is {both}, which is for memory and swap together, and the limit of memory alone is {limit}"
            );
            return Err(Refusal::new(field, reason));
        }
        (limit, both) => Some((both - limit).to_string()),
    })
}

fn cpu(limits: &LinuxCpu, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    none(
        limits.realtime_period().is_some_and(|period| period != 0),
        "linux.resources.cpu.realtimePeriod",
    )?;
    none(
        limits
            .realtime_runtime()
            .is_some_and(|runtime| runtime != 0),
        "linux.resources.cpu.realtimeRuntime",
    )?;
    if let Some(idle) = limits.idle() {
        writes.add("cpu", "cpu.idle", idle, "linux.resources.cpu.idle")?;
    }
    let shares = limits.shares().filter(|shares| *shares != 0);
    // Of an idle group the kernel does not take a weight.
    if let Some(shares) = shares.filter(|_| limits.idle() != Some(1)) {
        let field = "linux.resources.cpu.shares";
        writes.add("cpu", "cpu.weight", weight_of_shares(shares), field)?;
    }
    let period = limits.period().filter(|period| *period != 0);
    let quota = limits.quota().filter(|quota| *quota != 0);
    match (quota.map(number), period) {
        // Without the second word, the period stays as it is.
        (Some(quota), None) => writes.add("cpu", "cpu.max", quota, "linux.resources.cpu.quota")?,
        (Some(quota), Some(period)) => {
            let value = format!("{quota} {period}");
            writes.add("cpu", "cpu.max", value, "linux.resources.cpu.quota")?;
        }
        (None, Some(period)) => {
            let field = "linux.resources.cpu.period";
            writes.add_checked("cpu", "cpu.max", period, field, Check::SecondWord)?;
        }
        (None, None) => {}
    }
    if let Some(burst) = limits.burst() {
        writes.add("cpu", "cpu.max.burst", burst, "linux.resources.cpu.burst")?;
    }
    if let Some(cpus) = limits.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        writes.add("cpuset", "cpuset.cpus", cpus, "linux.resources.cpu.cpus")?;
    }
    if let Some(mems) = limits.mems().as_ref().filter(|mems| !mems.is_empty()) {
        writes.add("cpuset", "cpuset.mems", mems, "linux.resources.cpu.mems")?;
    }
    Ok(())
}

/// `blkio.weight` is 10 to 1,000, as `io.bfq.weight` of a kernel with that scheduler; `io.weight` is 1 to 10,000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9_999 / 990
}

fn block_io(limits: &LinuxBlockIo, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    none(
        limits.leaf_weight().is_some_and(|weight| weight != 0),
        "linux.resources.blockIO.leafWeight",
    )?;
    let mut weight = |value: String, weight: u16, field| {
        let check = Check::OrNumber("io.weight", io_weight(weight));
        writes.add_checked("io", "io.bfq.weight", value, field, check)
    };
    if let Some(value) = limits.weight().filter(|value| *value != 0) {
        weight(value.to_string(), value, "linux.resources.blockIO.weight")?;
    }
    for device in limits.weight_device().iter().flatten() {
        let field = "linux.resources.blockIO.weightDevice";
        none(
            device.leaf_weight().is_some_and(|weight| weight != 0),
            field,
        )?;
        if let Some(value) = device.weight().filter(|value| *value != 0) {
            let line = format!("{}:{} {value}", device.major(), device.minor());
            weight(line, value, field)?;
        }
    }
    let throttles = [
        (
            "rbps",
            limits.throttle_read_bps_device(),
            "linux.resources.blockIO.throttleReadBpsDevice",
        ),
        (
            "wbps",
            limits.throttle_write_bps_device(),
            "linux.resources.blockIO.throttleWriteBpsDevice",
        ),
        (
            "riops",
            limits.throttle_read_iops_device(),
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            "wiops",
            limits.throttle_write_iops_device(),
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ];
    for (word, devices, field) in throttles {
        for device in devices.iter().flatten() {
            // 0 takes a limit away in v1.
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let value = format!("{}:{} {word}={rate}", device.major(), device.minor());
            writes.add("io", "io.max", value, field)?;
        }
    }
    Ok(())
}

/// Files of v2 by their names. Each line of a value is a write of its own, as the kernel wants it.
fn unified(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    const FIELD: &str = "linux.resources.unified";
    const CONTROLLERS: [&str; 10] = [
        CORE, "cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma",
    ];
    let mut files: Vec<(&String, &String)> = resources.unified().iter().flatten().collect();
    // The map has no order; the same spec is written the same way each time.
    files.sort();
    for (file, value) in files {
        let well_named = file
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
        let Some((name, _)) = file
            .split_once('.')
            .filter(|(name, rest)| well_named && !name.is_empty() && !rest.is_empty())
        else {
            let reason =
                format!("has the key {file:?}, which is no file of a cgroup: `controller.file`");
            return Err(Refusal::new(FIELD, reason));
        };
        let Some(controller) = CONTROLLERS.into_iter().find(|known| *known == name) else {
            let reason = format!("has the key {file:?}, and there is no controller {name}");
            return Err(Refusal::new(FIELD, reason));
        };
        if controller != CORE && !writes.facts.cgroups.has(controller) {
            let reason = format!("has the key {file:?}, but this node has no controller {name}");
            return Err(Refusal::new(FIELD, reason));
        }
        for line in value.trim().lines() {
            writes.add(controller, file, line, FIELD)?;
        }
    }
    Ok(())
}
