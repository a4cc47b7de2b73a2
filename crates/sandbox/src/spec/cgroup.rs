//! Limits: which value goes into which file of which controller, and in which order.

use std::fmt::Display;

use oci_spec::runtime::{
    Linux, LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
};

use super::{Facts, Refusal};
use crate::cgroup::{CgroupPlan, Check, Setting};

pub(super) fn cgroup(linux: &Linux, facts: &Facts, id: &str) -> Result<CgroupPlan, Refusal> {
    facts
        .cgroups
        .supported()
        .map_err(|error| Refusal::new("linux.cgroupsPath", format!("cannot be made: {error}")))?;
    let path = path(linux, id)?;
    let mut writes = Writes {
        facts,
        settings: Vec::new(),
    };
    if let Some(resources) = linux.resources() {
        limits(resources, &mut writes)?;
    }
    writes.devices(
        linux
            .resources()
            .as_ref()
            .and_then(|resources| resources.devices().as_deref())
            .unwrap_or_default(),
    )?;
    Ok(CgroupPlan {
        path,
        settings: writes.settings,
    })
}

/// What to write to the cgroup of a container that runs, for new limits. Pure.
///
/// Rules for devices are no limits: containerd's CRI sends them along as they are, and they stay as they are.
///
/// # Errors
/// A field that is set and not supported, or that makes no sense, named in a sentence.
pub fn update(resources: &LinuxResources, facts: &Facts) -> Result<Vec<Setting>, Refusal> {
    let mut writes = Writes {
        facts,
        settings: Vec::new(),
    };
    limits(resources, &mut writes)?;
    if resources.rdma().as_ref().is_some_and(|map| !map.is_empty()) {
        return Err(Refusal::unsupported("linux.resources.rdma"));
    }
    Ok(writes.settings)
}

/// Without a path, a cgroup of the container's name below the shim's own.
fn path(linux: &Linux, id: &str) -> Result<String, Refusal> {
    let field = "linux.cgroupsPath";
    let Some(path) = linux
        .cgroups_path()
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty())
    else {
        return Ok(id.to_owned());
    };
    let text = path
        .to_str()
        .ok_or_else(|| Refusal::new(field, "is not valid text"))?;
    if !text.starts_with('/') && text.split(':').count() == 3 {
        let reason = format!(
            "is {text:?}, which is a unit of the systemd cgroup driver, and that is not supported yet: \
             use the cgroupfs driver, in the kubelet (cgroupDriver: cgroupfs) and in containerd (SystemdCgroup = false)"
        );
        return Err(Refusal::new(field, reason));
    }
    let mut parts = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .peekable();
    if parts.peek().is_none() || parts.any(|part| part == "..") {
        return Err(Refusal::new(
            field,
            format!("is {text:?}, which names no cgroup below the root"),
        ));
    }
    Ok(text.to_owned())
}

/// Writes for controllers that the node has; a limit for another is refused.
struct Writes<'a> {
    facts: &'a Facts,
    settings: Vec<Setting>,
}

impl Writes<'_> {
    fn add(
        &mut self,
        controller: &'static str,
        file: &str,
        value: impl Display,
        field: &'static str,
    ) -> Result<(), Refusal> {
        self.add_checked(controller, file, value, field, Check::Written)
    }

    fn add_checked(
        &mut self,
        controller: &'static str,
        file: &str,
        value: impl Display,
        field: &'static str,
        check: Check,
    ) -> Result<(), Refusal> {
        if self.facts.cgroups.hierarchy(controller).is_none() {
            let reason = format!(
                "is set, but this node has no cgroup controller {controller} to enforce it with"
            );
            return Err(Refusal::new(field, reason));
        }
        self.settings.push(Setting {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            field,
            check,
        });
        Ok(())
    }

    /// Everything is forbidden, then the spec's rules in their order, then the devices that every
    /// container has. A rule for all devices makes those before it void.
    fn devices(&mut self, rules: &[LinuxDeviceCgroup]) -> Result<(), Refusal> {
        const FIELD: &str = "linux.resources.devices";
        const ALWAYS: [&str; 10] = [
            "c *:* m",
            "b *:* m", // making nodes, as far as CAP_MKNOD goes
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm", // null, zero, full, random, urandom
            "c 5:0 rwm",
            "c 5:2 rwm",
            "c 136:* rwm", // tty, ptmx, pts
        ];
        let last_for_all = rules
            .iter()
            .rposition(|rule| rule.typ().unwrap_or_default() == LinuxDeviceType::A);
        let allow_all = last_for_all.is_some_and(|position| rules[position].allow());
        self.add(
            "devices",
            if allow_all {
                "devices.allow"
            } else {
                "devices.deny"
            },
            "a *:* rwm",
            FIELD,
        )?;
        let mut written: Vec<(bool, String)> = Vec::new();
        for rule in &rules[last_for_all.map_or(0, |position| position + 1)..] {
            written.push((rule.allow(), device_rule(rule)?));
        }
        if !allow_all {
            written.extend(ALWAYS.iter().map(|rule| (true, (*rule).to_owned())));
        }
        for (position, (allow, rule)) in written.iter().enumerate() {
            // containerd's specs allow what every container has, too.
            if !written[..position].contains(&(*allow, rule.clone())) {
                self.add(
                    "devices",
                    if *allow {
                        "devices.allow"
                    } else {
                        "devices.deny"
                    },
                    rule,
                    FIELD,
                )?;
            }
        }
        Ok(())
    }
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<String, Refusal> {
    let field = "linux.resources.devices";
    let typ = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => 'b',
        // The kernel knows `u` (unbuffered) as another name.
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::A => 'a',
        LinuxDeviceType::P => {
            return Err(Refusal::new(
                field,
                "has a rule for FIFOs, which are no devices",
            ));
        }
    };
    let access = rule.access().as_deref().unwrap_or_default();
    if access.is_empty() || access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(Refusal::new(
            field,
            format!("has a rule with the access {access:?}: only r, w and m are known"),
        ));
    }
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok("*".to_owned()),
        Some(number) if number >= 0 => Ok(number.to_string()),
        Some(number) => Err(Refusal::new(
            field,
            format!("has a rule for the device number {number}"),
        )),
    };
    Ok(format!(
        "{typ} {}:{} {access}",
        number(rule.major())?,
        number(rule.minor())?
    ))
}

fn limits(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
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
    if let Some(pids) = resources.pids() {
        // 0 is how containerd and Docker write "no limit".
        let value = if pids.limit() > 0 {
            pids.limit().to_string()
        } else {
            "max".to_owned()
        };
        let field = "linux.resources.pids.limit";
        if pids.limit() != 0 {
            writes.add("pids", "pids.max", value, field)?;
        }
    }
    if let Some(limits) = resources.block_io() {
        block_io(limits, writes)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, field) = (limit.page_size(), "linux.resources.hugepageLimits");
        if size.is_empty() || !size.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            return Err(Refusal::new(field, format!("names the page size {size:?}")));
        }
        writes.add(
            "hugetlb",
            &format!("hugetlb.{size}.limit_in_bytes"),
            limit.limit(),
            field,
        )?;
        // Reservations are counted since Linux 5.7.
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        writes.add_checked("hugetlb", &file, limit.limit(), field, Check::IfPresent)?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id().filter(|class| *class != 0) {
            writes.add(
                "net_cls",
                "net_cls.classid",
                class,
                "linux.resources.network.classID",
            )?;
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            writes.add(
                "net_prio",
                "net_prio.ifpriomap",
                value,
                "linux.resources.network.priorities",
            )?;
        }
    }
    Ok(())
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
