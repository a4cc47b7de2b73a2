//! What is decided for which number of which architecture, as intervals of numbers.

use std::collections::BTreeMap;

use libseccomp::{ScmpArch, ScmpSyscall};

use super::{Entry, Profile};
use crate::filter::{Action, Comparison, Condition, Decision, Table, X32};

/// One table for each architecture that the kernel tells apart.
pub(super) fn tables(profile: &Profile<'_>, architectures: &[ScmpArch]) -> Vec<Table> {
    let has = |wanted| architectures.contains(&wanted);
    let mut tables = Vec::new();
    for (architecture, audit) in [
        (ScmpArch::X8664, 0xC000_003E),
        (ScmpArch::Aarch64, 0xC000_00B7),
        (ScmpArch::X86, 0x4000_0003),
        (ScmpArch::Arm, 0x4000_0028),
    ] {
        if !has(architecture) {
            continue;
        }
        let mut numbers = numbers(profile, architecture);
        if architecture == ScmpArch::X8664 {
            if has(ScmpArch::X32) {
                numbers.append(&mut self::numbers(profile, ScmpArch::X32).split_off(&X32));
            } else {
                numbers.insert(X32, Decision::Always(Action::KILL_THREAD));
            }
            // -1 is no call: a tracer says so that none is made.
            numbers.insert(u32::MAX, Decision::Always(profile.default));
        }
        tables.push(Table::new(audit, numbers));
    }
    tables
}

/// The numbers at which the decision may change.
fn numbers(profile: &Profile<'_>, architecture: ScmpArch) -> BTreeMap<u32, Decision> {
    let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
    let mut highest = None;
    for entry in &profile.entries {
        for name in entry.names {
            let number = ScmpSyscall::from_name_by_arch(name, architecture).ok();
            // Numbers below zero are the library's own, for calls that the architecture does not have.
            let number = number.and_then(|number| u32::try_from(number.as_raw_syscall()).ok());
            let multiplexed = if architecture == ScmpArch::X86 {
                multiplexed(name)
            } else {
                None
            };
            let number = number.or_else(|| multiplexed.and_then(|(_, _, own)| own));
            highest = highest.max(number);
            // It would say what is said anyway.
            if entry.action == profile.default {
                continue;
            }
            if let Some(number) = number {
                calls.entry(number).or_default().add(entry, None);
            }
            if let Some((number, operation, _)) = multiplexed {
                calls
                    .entry(number)
                    .or_default()
                    .add(entry, Some((operation, profile.default)));
            }
        }
    }
    let default = Decision::Always(profile.default);
    let mut decisions = BTreeMap::from([(0, default.clone())]);
    // Where a call's number ends, the default is in force again, until the next call's number.
    for number in calls.keys() {
        decisions.insert(number.saturating_add(1), default.clone());
    }
    if let Some(highest) = highest.filter(|_| profile.newer_are_unknown) {
        decisions.insert(
            highest.saturating_add(1),
            Decision::Always(Action::errno(libc::ENOSYS.unsigned_abs())),
        );
    }
    if architecture == ScmpArch::X32 {
        decisions.insert(X32, default);
    }
    decisions.extend(
        calls
            .into_iter()
            .map(|(number, call)| (number, call.decide(profile.default))),
    );
    decisions
}

/// The rules for one number.
#[derive(Default)]
struct Call {
    always: Option<Action>,
    by_arguments: Vec<(Vec<Condition>, Action)>,
}

impl Call {
    /// `multiplexed`: the entry is of a call that is made through this one, with this number as its first
    /// argument.
    fn add(&mut self, entry: &Entry<'_>, multiplexed: Option<(u64, Action)>) {
        for way in &entry.ways {
            let conditions = match multiplexed {
                None => way.clone(),
                // The arguments lie in memory, where no filter can look. What is forbidden for some is
                // forbidden for all, and what is allowed for some is allowed for none.
                Some((_, default))
                    if !way.is_empty()
                        && (entry.action == Action::ALLOW || default != Action::ALLOW) =>
                {
                    continue;
                }
                Some((operation, _)) => vec![Condition {
                    argument: 0,
                    comparison: Comparison::Equal(operation),
                }],
            };
            if conditions.is_empty() {
                self.always.get_or_insert(entry.action);
            } else {
                self.by_arguments.push((conditions, entry.action));
            }
        }
    }

    fn decide(self, default: Action) -> Decision {
        match self.always {
            Some(action) => Decision::Always(action),
            None => Decision::ByArguments(self.by_arguments, default),
        }
    }
}

/// On 32-bit x86, sockets and System V IPC have one call each for all of their operations, and calls of
/// their own that came later, whose numbers libseccomp does not tell: `(number, operation, own number)`,
/// from `linux/net.h`, `linux/ipc.h` and the kernel's table of calls.
fn multiplexed(name: &str) -> Option<(u32, u64, Option<u32>)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    Some(match name {
        "socket" => (SOCKETCALL, 1, Some(359)),
        "bind" => (SOCKETCALL, 2, Some(361)),
        "connect" => (SOCKETCALL, 3, Some(362)),
        "listen" => (SOCKETCALL, 4, Some(363)),
        "accept" => (SOCKETCALL, 5, None),
        "getsockname" => (SOCKETCALL, 6, Some(367)),
        "getpeername" => (SOCKETCALL, 7, Some(368)),
        "socketpair" => (SOCKETCALL, 8, Some(360)),
        "send" => (SOCKETCALL, 9, None),
        "recv" => (SOCKETCALL, 10, None),
        "sendto" => (SOCKETCALL, 11, Some(369)),
        "recvfrom" => (SOCKETCALL, 12, Some(371)),
        "shutdown" => (SOCKETCALL, 13, Some(373)),
        "setsockopt" => (SOCKETCALL, 14, Some(366)),
        "getsockopt" => (SOCKETCALL, 15, Some(365)),
        "sendmsg" => (SOCKETCALL, 16, Some(370)),
        "recvmsg" => (SOCKETCALL, 17, Some(372)),
        "accept4" => (SOCKETCALL, 18, Some(364)),
        "recvmmsg" => (SOCKETCALL, 19, Some(337)),
        "sendmmsg" => (SOCKETCALL, 20, Some(345)),
        "semop" => (IPC, 1, None),
        "semget" => (IPC, 2, Some(393)),
        "semctl" => (IPC, 3, Some(394)),
        "semtimedop" => (IPC, 4, None),
        "msgsnd" => (IPC, 11, Some(400)),
        "msgrcv" => (IPC, 12, Some(401)),
        "msgget" => (IPC, 13, Some(399)),
        "msgctl" => (IPC, 14, Some(402)),
        "shmat" => (IPC, 21, Some(397)),
        "shmdt" => (IPC, 22, Some(398)),
        "shmget" => (IPC, 23, Some(395)),
        "shmctl" => (IPC, 24, Some(396)),
        _ => return None,
    })
}
