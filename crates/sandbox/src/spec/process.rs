//! The process: who it is, what it may do, its limits.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, PosixRlimitType, Process};

use super::user::{self, User};
use super::{Facts, Refusal, Role};
use crate::plan::{Capabilities, Identity, Plan, Rlimit};

/// Supplementary groups of a process: `NGROUPS_MAX` of `linux/limits.h`.
const LARGEST_GROUPS: usize = 65536;

/// Fills in what `process` says.
pub(super) fn process(
    process: &Process,
    role: Role,
    facts: &Facts,
    user: Option<&User>,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    strings("process.args", process.args().as_deref())?;
    strings("process.env", process.env().as_deref())?;
    let who = process.user();
    if let Some(groups) = who.additional_gids()
        && groups.len() > LARGEST_GROUPS
    {
        let reason = format!(
            "are {} groups, but the kernel takes {LARGEST_GROUPS} at most",
            groups.len()
        );
        return Err(Refusal::new("process.user.additionalGids", reason));
    }
    plan.identity = Identity {
        uid: who.uid(),
        gid: who.gid(),
        groups: who.additional_gids().clone().unwrap_or_default(),
        umask: umask(who.umask())?,
    };
    if let Some(user) = user {
        user::check_identity(user, &plan.identity)?;
    }
    plan.working_directory = working_directory(process)?;
    plan.oom_score_adj = oom_score_adj(process.oom_score_adj())?;
    plan.rlimits = rlimits(process)?;
    // Who enters a user namespace has all capabilities there, whatever it had before.
    let available = user.map_or(facts.capabilities, |_| u64::MAX);
    plan.capabilities = capabilities(process, facts, available)?;
    if role == Role::Guest {
        plan.capabilities = after_exec(plan.capabilities, plan.identity.uid);
    }
    plan.apparmor_profile = apparmor_profile(process, facts)?;
    plan.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    Ok(())
}

/// A guest takes these as C strings, which end at the first NUL byte: it would see another value.
fn strings(field: &str, strings: Option<&[String]>) -> Result<(), Refusal> {
    let mut strings = strings.unwrap_or_default().iter().enumerate();
    match strings.find(|(_, string)| string.contains('\0')) {
        None => Ok(()),
        Some((index, _)) => Err(Refusal::new(
            format!("{field}[{index}]"),
            "has a NUL byte in it",
        )),
    }
}

/// `unconfined` is what the shim is, and so the container.
fn apparmor_profile(process: &Process, facts: &Facts) -> Result<Option<String>, Refusal> {
    let profile = process.apparmor_profile().as_ref();
    let Some(profile) = profile.filter(|name| !name.is_empty() && *name != "unconfined") else {
        return Ok(None);
    };
    let field = "process.apparmorProfile";
    if !facts.apparmor {
        let reason = format!("is {profile:?}, but AppArmor is not in force on this node");
        return Err(Refusal::new(field, reason));
    }
    if profile.contains(['\0', '\n']) {
        return Err(Refusal::new(field, "is not the name of a profile"));
    }
    Ok(Some(profile.clone()))
}

fn umask(umask: Option<u32>) -> Result<Option<u32>, Refusal> {
    match umask {
        Some(umask) if umask > 0o777 => Err(Refusal::new(
            "process.user.umask",
            format!("is {umask:#o}, which is no file mode mask"),
        )),
        umask => Ok(umask),
    }
}

fn working_directory(process: &Process) -> Result<String, Refusal> {
    let path = process.cwd();
    let text = path.to_str().unwrap_or_default();
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "process.cwd",
        format!(
            "is {:?}, which is not an absolute path",
            path.display().to_string()
        ),
    ))
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, Refusal> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => Err(Refusal::new(
            "process.oomScoreAdj",
            format!("is {value}, outside of -1000 to 1000"),
        )),
        value => Ok(value),
    }
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>, Refusal> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let (resource, name) = resource(limit.typ());
        let field = format!("process.rlimits[{name}]");
        if limits.iter().any(|known| known.resource == resource) {
            return Err(Refusal::new(field, "is given twice"));
        }
        if limit.soft() > limit.hard() {
            let reason = format!(
                "has a soft limit of {} above its hard limit of {}",
                limit.soft(),
                limit.hard()
            );
            return Err(Refusal::new(field, reason));
        }
        limits.push(Rlimit {
            resource,
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(limits)
}

fn resource(typ: PosixRlimitType) -> (u32, &'static str) {
    match typ {
        PosixRlimitType::RlimitCpu => (libc::RLIMIT_CPU, "RLIMIT_CPU"),
        PosixRlimitType::RlimitFsize => (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
        PosixRlimitType::RlimitData => (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        PosixRlimitType::RlimitStack => (libc::RLIMIT_STACK, "RLIMIT_STACK"),
        PosixRlimitType::RlimitCore => (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        PosixRlimitType::RlimitRss => (libc::RLIMIT_RSS, "RLIMIT_RSS"),
        PosixRlimitType::RlimitNproc => (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        PosixRlimitType::RlimitNofile => (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        PosixRlimitType::RlimitMemlock => (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        PosixRlimitType::RlimitAs => (libc::RLIMIT_AS, "RLIMIT_AS"),
        PosixRlimitType::RlimitLocks => (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
        PosixRlimitType::RlimitSigpending => (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
        PosixRlimitType::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        PosixRlimitType::RlimitNice => (libc::RLIMIT_NICE, "RLIMIT_NICE"),
        PosixRlimitType::RlimitRtprio => (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        PosixRlimitType::RlimitRttime => (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
    }
}

fn capabilities(process: &Process, facts: &Facts, available: u64) -> Result<Capabilities, Refusal> {
    let Some(sets) = process.capabilities() else {
        return Ok(Capabilities::default());
    };
    let set = |name: &str, set: &Option<HashSet<Capability>>| {
        let mut mask = 0;
        for capability in set.iter().flatten() {
            let (number, known) = (number(*capability), known(*capability, facts));
            if !known {
                // Newer than this kernel: nothing checks it, so nothing is lost without it.
                log::warn!("the kernel does not know CAP_{capability}, which the spec asks for");
                continue;
            }
            if available & (1 << number) == 0 {
                let reason = format!(
                    "asks for CAP_{capability}, which the container runtime itself does not have on this node"
                );
                return Err(Refusal::new(format!("process.capabilities.{name}"), reason));
            }
            mask |= 1 << number;
        }
        Ok(mask)
    };
    let capabilities = Capabilities {
        bounding: set("bounding", sets.bounding())?,
        effective: set("effective", sets.effective())?,
        permitted: set("permitted", sets.permitted())?,
        inheritable: set("inheritable", sets.inheritable())?,
        ambient: set("ambient", sets.ambient())?,
    };
    if capabilities.effective & !capabilities.permitted != 0 {
        return Err(Refusal::new(
            "process.capabilities.effective",
            "has capabilities that are not in process.capabilities.permitted",
        ));
    }
    // The kernel keeps in the ambient set only what is in both others; runc goes on without the rest too.
    let ambient = capabilities.ambient & capabilities.permitted & capabilities.inheritable;
    if ambient != capabilities.ambient {
        log::warn!(
            "process.capabilities.ambient has capabilities that are not both permitted and inheritable: left out"
        );
    }
    Ok(Capabilities {
        ambient,
        ..capabilities
    })
}

/// What is left of the sets once a program without file capabilities is executed (capabilities(7)).
///
/// A spec's sets are those before the exec of the container's program, and of a user other than root all
/// but the ambient ones end there. An engine host executes nothing after it has become the container, so
/// it takes the sets that a program would have had.
fn after_exec(sets: Capabilities, uid: u32) -> Capabilities {
    let permitted = if uid == 0 {
        sets.permitted & (sets.bounding | sets.inheritable)
    } else {
        sets.ambient
    };
    Capabilities {
        effective: permitted,
        permitted,
        ..sets
    }
}

fn known(capability: Capability, facts: &Facts) -> bool {
    number(capability) <= facts.last_capability
}

/// The numbers of `linux/capability.h`.
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}
