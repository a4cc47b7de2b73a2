//! An OCI seccomp profile, compiled to a program for the kernel.
//!
//! The meaning of a profile is what runc makes of it:
//!
//! * a rule without `args` holds for every call, and no other rule for the call counts beside it; a rule
//!   with several holds when all of them do; but when one argument is named twice, each entry becomes a
//!   rule of its own, so that any of them will do; of several rules that hold, the first counts;
//! * calls that are not known here are left out; rules that say what the default says change nothing;
//! * calls newer than all that the profile names fail with `ENOSYS` ([`table`]);
//! * calls of an architecture that the profile does not list kill the thread.
//!
//! libseccomp knows the numbers of the calls. The program is made here ([`crate::filter`]) and not by it:
//! version 2.5 gives wrong answers for some combinations of comparisons (rules that look at the upper and
//! the lower half of one argument share steps that they must not share), and takes 40 ms for containerd's
//! default profile, which is ten times the rest of a container's start.

use libseccomp::ScmpArch;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::Refusal;
use crate::filter::{self, Action, Comparison, Condition};
use crate::plan::SeccompFilter;

mod table;

/// Instructions that the kernel takes in one program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
/// Largest error that a filter can return (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// One entry of the profile, checked.
#[derive(Debug)]
struct Entry<'a> {
    names: &'a [String],
    action: Action,
    /// Ways to hold: each is a list of conditions that hold together. One empty list: always.
    ways: Vec<Vec<Condition>>,
}

/// A profile, checked.
#[derive(Debug)]
struct Profile<'a> {
    default: Action,
    /// Calls newer than the profile get `ENOSYS` instead of the default.
    newer_are_unknown: bool,
    entries: Vec<Entry<'a>>,
}

/// Compiles a profile, for programs of any of the architectures that it lists.
///
/// # Errors
/// Something in it is not supported, or makes no sense.
pub fn compile(profile: &LinuxSeccomp) -> Result<SeccompFilter, Refusal> {
    let listed: Vec<Arch> = profile.architectures().clone().unwrap_or_default();
    compile_for(profile, &architectures(&listed))
}

/// Compiles a profile for a process that never executes anything but our own executables: a call by the conventions of
/// another architecture (`int 0x80`, x32) would be an attacker's, and ends the process. The program has a third of
/// the instructions, which the kernel translates at every start.
///
/// # Errors
/// As [`compile`].
pub fn compile_for_own(profile: &LinuxSeccomp) -> Result<SeccompFilter, Refusal> {
    compile_for(profile, &[ScmpArch::native()])
}

fn compile_for(
    profile: &LinuxSeccomp,
    architectures: &[ScmpArch],
) -> Result<SeccompFilter, Refusal> {
    let listener = profile
        .listener_path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    let metadata = profile
        .listener_metadata()
        .as_ref()
        .is_some_and(|text| !text.is_empty());
    if listener || metadata {
        let field = if listener {
            "linux.seccomp.listenerPath"
        } else {
            "linux.seccomp.listenerMetadata"
        };
        return Err(Refusal::unsupported(field));
    }
    let checked = Profile {
        default: action(
            profile.default_action(),
            profile.default_errno_ret(),
            "linux.seccomp.defaultAction",
        )?,
        newer_are_unknown: newer_are_unknown(profile),
        entries: profile
            .syscalls()
            .iter()
            .flatten()
            .map(entry)
            .collect::<Result<_, _>>()?,
    };
    let flags = flags(profile)?;
    let tables = table::tables(&checked, architectures);
    let program = filter::assemble(&tables, Action::KILL_THREAD);
    if program.len() > MAX_INSTRUCTIONS {
        let reason = format!(
            "compiles to {} instructions, but the kernel takes no more than {MAX_INSTRUCTIONS}",
            program.len()
        );
        return Err(Refusal::new("linux.seccomp", reason));
    }
    Ok(SeccompFilter {
        program: program.concat(),
        flags,
    })
}

/// A profile that fails what it does not list with `EPERM` breaks programs when the C library starts to use
/// a new call: it falls back to the old one for `ENOSYS` only. A default that lets calls pass, to a tracer
/// too, is good for new calls as well.
fn newer_are_unknown(profile: &LinuxSeccomp) -> bool {
    let permissive = matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            | LinuxSeccompAction::ScmpActTrace
    );
    !permissive && profile.default_errno_ret() != Some(libc::ENOSYS.unsigned_abs())
}

fn entry(syscall: &LinuxSyscall) -> Result<Entry<'_>, Refusal> {
    let names = syscall.names();
    let field = || {
        format!(
            "linux.seccomp.syscalls[{}]",
            names.first().map_or("", String::as_str)
        )
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(Refusal::new(field(), "has no name, or an empty one"));
    }
    let action = action(syscall.action(), syscall.errno_ret(), &field())?;
    let mut seen = [false; 6];
    let mut twice = false;
    let mut conditions = Vec::new();
    for argument in syscall.args().iter().flatten() {
        let seen = seen.get_mut(argument.index()).ok_or_else(|| {
            Refusal::new(
                field(),
                format!(
                    "compares the argument {}, but a system call has six: 0 to 5",
                    argument.index()
                ),
            )
        })?;
        twice |= std::mem::replace(seen, true);
        conditions.push(condition(argument));
    }
    let ways = if twice {
        conditions
            .into_iter()
            .map(|condition| vec![condition])
            .collect()
    } else {
        vec![conditions]
    };
    Ok(Entry {
        names,
        action,
        ways,
    })
}

fn condition(argument: &LinuxSeccompArg) -> Condition {
    let value = argument.value();
    let comparison = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater(value),
        // The spec has the mask in `value` and what is left under it in `valueTwo`.
        LinuxSeccompOperator::ScmpCmpMaskedEq => Comparison::Masked {
            mask: value,
            value: argument.value_two().unwrap_or(0),
        },
    };
    Condition {
        argument: argument.index(),
        comparison,
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, field: &str) -> Result<Action, Refusal> {
    let with_errno = matches!(
        action,
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
    );
    if errno.is_some() && !with_errno {
        return Err(Refusal::new(
            field,
            format!("has an error number, which means nothing with {action}"),
        ));
    }
    // EPERM, when the profile names none.
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    if errno > MAX_ERRNO {
        return Err(Refusal::new(
            field,
            format!("has the error number {errno}, but the largest is {MAX_ERRNO}"),
        ));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Action::KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => Action::KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => Action::TRAP,
        LinuxSeccompAction::ScmpActErrno => Action::errno(errno),
        LinuxSeccompAction::ScmpActTrace => Action::trace(errno),
        LinuxSeccompAction::ScmpActLog => Action::LOG,
        LinuxSeccompAction::ScmpActAllow => Action::ALLOW,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Refusal::new(
                field,
                "is SCMP_ACT_NOTIFY, which is not supported yet",
            ));
        }
    })
}

/// Flags for seccomp(2). `TSYNC` is for processes with several threads; ours has one.
fn flags(profile: &LinuxSeccomp) -> Result<u32, Refusal> {
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    profile.flags().iter().flatten().try_fold(0, |flags, flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(flags),
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(flags | LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(flags | SPEC_ALLOW),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Err(Refusal::new(
            "linux.seccomp.flags",
            "has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which goes with SCMP_ACT_NOTIFY, and that is not supported yet",
        )),
    })
}

/// The machine's own architecture, and those of the profile that it can run besides. Profiles are written
/// for many machines and list architectures that no process here can ever have.
fn architectures(listed: &[Arch]) -> Vec<ScmpArch> {
    let native = ScmpArch::native();
    let mut all = vec![native];
    for architecture in listed {
        let architecture = match architecture {
            Arch::ScmpArchX86 => ScmpArch::X86,
            Arch::ScmpArchX86_64 => ScmpArch::X8664,
            Arch::ScmpArchX32 => ScmpArch::X32,
            Arch::ScmpArchArm => ScmpArch::Arm,
            Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
            _ => continue,
        };
        let runs_here = match native {
            ScmpArch::X8664 => matches!(
                architecture,
                ScmpArch::X8664 | ScmpArch::X86 | ScmpArch::X32
            ),
            ScmpArch::Aarch64 => matches!(architecture, ScmpArch::Aarch64 | ScmpArch::Arm),
            _ => false,
        };
        if runs_here && !all.contains(&architecture) {
            all.push(architecture);
        }
    }
    all
}

#[cfg(test)]
mod tests;
