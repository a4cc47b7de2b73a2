//! Limits: which value goes into which file of which controller, and in which order.

use std::fmt::Display;

use oci_spec::runtime::{Linux, LinuxResources};

use super::{Facts, Refusal};
use crate::cgroup::plan::CORE;
use crate::cgroup::{CgroupPlan, Check, Mode, Setting};
use crate::systemd::Scope;

mod devices;
mod v1;
mod v2;

pub(super) fn cgroup(linux: &Linux, facts: &Facts, id: &str) -> Result<CgroupPlan, Refusal> {
    let path = path(linux, id)?;
    let mut writes = Writes {
        facts,
        settings: Vec::new(),
    };
    if let Some(resources) = linux.resources() {
        limits(resources, &mut writes)?;
    }
    let rules = linux
        .resources()
        .as_ref()
        .and_then(|resources| resources.devices().as_deref());
    let policy = devices::policy(rules.unwrap_or_default())?;
    if facts.cgroups.mode != Mode::V2 {
        devices::write(&policy, &mut writes)?;
    }
    Ok(CgroupPlan {
        path,
        settings: writes.settings,
        devices: Some(policy),
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
    if let Some(scope) = Scope::parse(text) {
        return match scope {
            Ok(_) => Ok(text.to_owned()),
            Err(reason) => Err(Refusal::new(field, reason)),
        };
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
        if controller != CORE && !self.facts.cgroups.has(controller) {
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
}

fn limits(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    match writes.facts.cgroups.mode {
        Mode::V1 | Mode::Hybrid => v1::limits(resources, writes),
        Mode::V2 => v2::limits(resources, writes),
    }
}

/// `linux.resources.pids`, whose file has the same name in both versions.
fn pids(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    // 0 is how containerd and Docker write "not set".
    let Some(limit) = resources
        .pids()
        .as_ref()
        .map(|pids| pids.limit())
        .filter(|limit| *limit != 0)
    else {
        return Ok(());
    };
    let value = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    writes.add("pids", "pids.max", value, "linux.resources.pids.limit")
}

/// The limits of huge pages; `end` is what v1 and v2 call them. Reservations are counted since Linux 5.7.
fn huge_pages(
    resources: &LinuxResources,
    end: &str,
    writes: &mut Writes<'_>,
) -> Result<(), Refusal> {
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, field) = (limit.page_size(), "linux.resources.hugepageLimits");
        if size.is_empty() || !size.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            return Err(Refusal::new(field, format!("names the page size {size:?}")));
        }
        writes.add(
            "hugetlb",
            &format!("hugetlb.{size}.{end}"),
            limit.limit(),
            field,
        )?;
        let file = format!("hugetlb.{size}.rsvd.{end}");
        writes.add_checked("hugetlb", &file, limit.limit(), field, Check::IfPresent)?;
    }
    Ok(())
}

/// Marks of network packets, which only v1 has controllers for.
fn network(resources: &LinuxResources, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    let Some(network) = resources.network() else {
        return Ok(());
    };
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        let field = "linux.resources.network.classID";
        writes.add("net_cls", "net_cls.classid", class, field)?;
    }
    for priority in network.priorities().iter().flatten() {
        let value = format!("{} {}", priority.name(), priority.priority());
        let field = "linux.resources.network.priorities";
        writes.add("net_prio", "net_prio.ifpriomap", value, field)?;
    }
    Ok(())
}
