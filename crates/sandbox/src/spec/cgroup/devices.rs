//! Rules for devices: what the spec says, in a form that both versions of cgroups can be told in.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::Writes;
use crate::cgroup::devices::{MAKE, READ, WRITE};
use crate::cgroup::{DevicePolicy, DeviceRule};
use crate::spec::Refusal;

const FIELD: &str = "linux.resources.devices";

/// What every container has, whatever its spec says: making nodes, as far as `CAP_MKNOD` goes; null, zero, full,
/// random, urandom; tty, ptmx, pts.
fn always() -> impl Iterator<Item = DeviceRule> {
    let rule = |block, major, minor, access| DeviceRule {
        allow: true,
        block,
        major,
        minor,
        access,
    };
    let any = [false, true].map(|block| rule(block, None, None, MAKE));
    let all = READ | WRITE | MAKE;
    let memory = [3, 5, 7, 8, 9].map(|minor| rule(false, Some(1), Some(minor), all));
    let terminals = [(5, Some(0)), (5, Some(2)), (136, None)];
    let terminals = terminals.map(|(major, minor)| rule(false, Some(major), minor, all));
    any.into_iter().chain(memory).chain(terminals)
}

/// Everything is forbidden, then the spec's rules in their order, then the devices that every
/// container has. A rule for all devices makes those before it void.
pub(super) fn policy(rules: &[LinuxDeviceCgroup]) -> Result<DevicePolicy, Refusal> {
    let last_for_all = rules
        .iter()
        .rposition(|rule| rule.typ().unwrap_or_default() == LinuxDeviceType::A);
    let allow_all = last_for_all.is_some_and(|position| rules[position].allow());
    let mut policy = DevicePolicy {
        allow_all,
        rules: Vec::new(),
    };
    let after = &rules[last_for_all.map_or(0, |position| position + 1)..];
    for rule in after {
        let rule = device_rule(rule)?;
        if !policy.rules.contains(&rule) {
            policy.rules.push(rule);
        }
    }
    if !allow_all {
        for rule in always() {
            // containerd's specs allow what every container has, too.
            if !policy.rules.contains(&rule) {
                policy.rules.push(rule);
            }
        }
    }
    Ok(policy)
}

/// The policy in the files of v1, which take one rule at a time.
pub(super) fn write(policy: &DevicePolicy, writes: &mut Writes<'_>) -> Result<(), Refusal> {
    let file = |allow| {
        if allow {
            "devices.allow"
        } else {
            "devices.deny"
        }
    };
    writes.add("devices", file(policy.allow_all), "a *:* rwm", FIELD)?;
    for rule in &policy.rules {
        writes.add("devices", file(rule.allow), rule, FIELD)?;
    }
    Ok(())
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule, Refusal> {
    let block = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => true,
        // The kernel knows `u` (unbuffered) as another name. A rule for all is the caller's.
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => false,
        LinuxDeviceType::P => {
            return Err(Refusal::new(
                FIELD,
                "has a rule for FIFOs, which are no devices",
            ));
        }
    };
    let letters = rule.access().as_deref().unwrap_or_default();
    let mut access = 0;
    for letter in letters.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => 0,
        };
    }
    if letters.is_empty() || letters.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(Refusal::new(
            FIELD,
            format!("has a rule with the access {letters:?}: only r, w and m are known"),
        ));
    }
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| Refusal::new(FIELD, format!("has a rule for the device number {number}"))),
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        block,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}
