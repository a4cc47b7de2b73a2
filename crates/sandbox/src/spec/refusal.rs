//! What is refused, in a sentence that names the field.
//!
//! Here are the fields that are refused whenever they are set. Fields that are refused for some of their
//! values are looked at where they are used.

use oci_spec::runtime::{Hooks, Linux, LinuxPersonalityDomain, Process, Spec};

use super::Facts;

/// A spec that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Refusal {
    /// The field of the spec, as JSON has it: `linux.resources.memory.kernel`.
    pub field: String,
    /// The rest of the sentence: what is wrong with it, and what to do.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// For a field that is fine by itself, and not done here.
    pub(super) fn unsupported(field: impl Into<String>) -> Self {
        Self::new(
            field,
            "is set, and not supported yet: take it out of the container's spec",
        )
    }
}

/// Refuses every field that is set and has no meaning here.
pub(super) fn unsupported(spec: &Spec, facts: &Facts) -> Result<(), Refusal> {
    if !spec.version().starts_with("1.") {
        return Err(Refusal::new(
            "ociVersion",
            format!("is {:?}, but only 1.x is understood", spec.version()),
        ));
    }
    let refused = [
        ("hooks", spec.hooks().as_ref().is_some_and(has_hooks)),
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    refuse_set(&refused)?;
    if let Some(linux) = spec.linux() {
        unsupported_linux(linux)?;
    }
    if let Some(process) = spec.process() {
        unsupported_process(process, facts)?;
    }
    Ok(())
}

fn refuse_set(fields: &[(&str, bool)]) -> Result<(), Refusal> {
    fields
        .iter()
        .find(|(_, set)| *set)
        .map_or(Ok(()), |(field, _)| Err(Refusal::unsupported(*field)))
}

fn has_hooks(hooks: &Hooks) -> bool {
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .iter()
    .any(|list| list.as_ref().is_some_and(|hooks| !hooks.is_empty()))
}

fn unsupported_linux(linux: &Linux) -> Result<(), Refusal> {
    let rdma = linux
        .resources()
        .as_ref()
        .and_then(|resources| resources.rdma().as_ref());
    // `LINUX` without flags is what every process has.
    let personality = linux.personality().as_ref().is_some_and(|personality| {
        personality.domain() != LinuxPersonalityDomain::PerLinux
            || personality
                .flags()
                .as_ref()
                .is_some_and(|flags| !flags.is_empty())
    });
    refuse_set(&[
        (
            "linux.netDevices",
            linux
                .net_devices()
                .as_ref()
                .is_some_and(|map| !map.is_empty()),
        ),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", personality),
        (
            "linux.mountLabel",
            linux
                .mount_label()
                .as_ref()
                .is_some_and(|label| !label.is_empty()),
        ),
        (
            "linux.resources.rdma",
            rdma.is_some_and(|map| !map.is_empty()),
        ),
    ])
}

pub(super) fn unsupported_process(process: &Process, facts: &Facts) -> Result<(), Refusal> {
    refuse_set(&[
        ("process.scheduler", process.scheduler().is_some()),
        ("process.ioPriority", process.io_priority().is_some()),
        (
            "process.execCPUAffinity",
            process.exec_cpu_affinity().is_some(),
        ),
    ])?;
    // A label that cannot be applied is a promise that cannot be kept, so both are refused, as runc does;
    // containerd sets them only when it finds the security module in force.
    if let Some(label) = process
        .selinux_label()
        .as_ref()
        .filter(|label| !label.is_empty())
    {
        return Err(if facts.selinux {
            Refusal::unsupported("process.selinuxLabel")
        } else {
            Refusal::new(
                "process.selinuxLabel",
                format!("is {label:?}, but SELinux is not in force on this node"),
            )
        });
    }
    Ok(())
}
