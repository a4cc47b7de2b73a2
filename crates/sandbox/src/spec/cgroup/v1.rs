//! Limits in the files of cgroup v1.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::Writes;
use crate::cgroup::Check;
use crate::spec::Refusal;

pub(super) fn limits(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    if resources
        .unified()
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        let reason =
            "is set, but this node has its controllers on cgroup v1, where there are no such files";
        return Err(Refusal::new("linux.resources.unified", reason));
    }
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
    super::huge_pages(resources, "limit_in_bytes", writes)?;
    super::network(resources, writes)
}

/// A fresh cgroup has no limit, so memory comes before memory and swap together, which may not be less.
fn memory(limits: &LinuxMemory, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    if limits.kernel().is_some_and(|limit| limit != 0) {
        return Err(Refusal::new(
            "linux.resources.memory.kernel",
            "is set, but the kernel has no limit for its own memory any more",
        ));
    }
    if limits.use_hierarchy() == Some(false) {
        return Err(Refusal::new(
            "linux.resources.memory.useHierarchy",
            "is false, but the kernel always counts cgroups below",
        ));
    }
    let mut limit = |file: &str, limit: Option<i64>, field| match limit {
        // 0 is how containerd and Docker write "not set".
        None | Some(0) => Ok(()),
        Some(limit) => writes.add("memory", file, limit, field),
    };
    limit(
        "memory.limit_in_bytes",
        limits.limit(),
        "linux.resources.memory.limit",
    )?;
    limit(
        "memory.memsw.limit_in_bytes",
        limits.swap(),
        "linux.resources.memory.swap",
    )?;
    limit(
        "memory.soft_limit_in_bytes",
        limits.reservation(),
        "linux.resources.memory.reservation",
    )?;
    limit(
        "memory.kmem.tcp.limit_in_bytes",
        limits.kernel_tcp(),
        "linux.resources.memory.kernelTCP",
    )?;
    if limits.limit() == Some(-1) && matches!(limits.swap(), None | Some(0)) {
        // Nobody has asked for it, and a kernel that does not count swap has no such file.
        let (file, field) = ("memory.memsw.limit_in_bytes", "linux.resources.memory.swap");
        writes.add_checked("memory", file, -1, field, Check::IfPresent)?;
    }
    if limits.disable_oom_killer() == Some(true) {
        writes.add(
            "memory",
            "memory.oom_control",
            1,
            "linux.resources.memory.disableOOMKiller",
        )?;
    }
    if let Some(swappiness) = limits.swappiness() {
        let field = "linux.resources.memory.swappiness";
        if swappiness > 100 {
            return Err(Refusal::new(
                field,
                format!("is {swappiness}, outside of 0 to 100"),
            ));
        }
        writes.add("memory", "memory.swappiness", swappiness, field)?;
    }
    Ok(())
}

/// The period comes before the quota that it is the measure of, and the burst after the quota that limits it.
fn cpu(limits: &LinuxCpu, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    if let Some(idle) = limits.idle() {
        writes.add("cpu", "cpu.idle", idle, "linux.resources.cpu.idle")?;
    }
    if let Some(shares) = limits.shares().filter(|shares| *shares != 0) {
        // Of an idle group the kernel does not take shares.
        let check = if limits.idle() == Some(1) {
            Check::Written
        } else {
            Check::ReadBack
        };
        if limits.idle() != Some(1) {
            writes.add_checked(
                "cpu",
                "cpu.shares",
                shares,
                "linux.resources.cpu.shares",
                check,
            )?;
        }
    }
    if let Some(period) = limits.realtime_period().filter(|period| *period != 0) {
        writes.add(
            "cpu",
            "cpu.rt_period_us",
            period,
            "linux.resources.cpu.realtimePeriod",
        )?;
    }
    if let Some(runtime) = limits.realtime_runtime().filter(|runtime| *runtime != 0) {
        writes.add(
            "cpu",
            "cpu.rt_runtime_us",
            runtime,
            "linux.resources.cpu.realtimeRuntime",
        )?;
    }
    if let Some(period) = limits.period().filter(|period| *period != 0) {
        writes.add(
            "cpu",
            "cpu.cfs_period_us",
            period,
            "linux.resources.cpu.period",
        )?;
    }
    if let Some(quota) = limits.quota().filter(|quota| *quota != 0) {
        writes.add(
            "cpu",
            "cpu.cfs_quota_us",
            quota,
            "linux.resources.cpu.quota",
        )?;
    }
    if let Some(burst) = limits.burst() {
        writes.add(
            "cpu",
            "cpu.cfs_burst_us",
            burst,
            "linux.resources.cpu.burst",
        )?;
    }
    if let Some(cpus) = limits.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        writes.add("cpuset", "cpuset.cpus", cpus, "linux.resources.cpu.cpus")?;
    }
    if let Some(mems) = limits.mems().as_ref().filter(|mems| !mems.is_empty()) {
        writes.add("cpuset", "cpuset.mems", mems, "linux.resources.cpu.mems")?;
    }
    Ok(())
}

fn block_io(limits: &LinuxBlockIo, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    let weight = |file| Check::OrFile(file);
    if let Some(value) = limits.weight().filter(|value| *value != 0) {
        let field = "linux.resources.blockIO.weight";
        writes.add_checked(
            "blkio",
            "blkio.weight",
            value,
            field,
            weight("blkio.bfq.weight"),
        )?;
    }
    if let Some(value) = limits.leaf_weight().filter(|value| *value != 0) {
        writes.add(
            "blkio",
            "blkio.leaf_weight",
            value,
            "linux.resources.blockIO.leafWeight",
        )?;
    }
    for device in limits.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        let field = "linux.resources.blockIO.weightDevice";
        if let Some(value) = device.weight().filter(|value| *value != 0) {
            let value = format!("{number} {value}");
            writes.add_checked(
                "blkio",
                "blkio.weight_device",
                value,
                field,
                weight("blkio.bfq.weight_device"),
            )?;
        }
        if let Some(value) = device.leaf_weight().filter(|value| *value != 0) {
            writes.add(
                "blkio",
                "blkio.leaf_weight_device",
                format!("{number} {value}"),
                field,
            )?;
        }
    }
    let throttles = [
        (
            "blkio.throttle.read_bps_device",
            limits.throttle_read_bps_device(),
            "linux.resources.blockIO.throttleReadBpsDevice",
        ),
        (
            "blkio.throttle.write_bps_device",
            limits.throttle_write_bps_device(),
            "linux.resources.blockIO.throttleWriteBpsDevice",
        ),
        (
            "blkio.throttle.read_iops_device",
            limits.throttle_read_iops_device(),
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            "blkio.throttle.write_iops_device",
            limits.throttle_write_iops_device(),
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ];
    for (file, devices, field) in throttles {
        for device in devices.iter().flatten() {
            writes.add(
                "blkio",
                file,
                format!("{}:{} {}", device.major(), device.minor(), device.rate()),
                field,
            )?;
        }
    }
    Ok(())
}
