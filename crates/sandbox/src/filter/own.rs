//! Filters for programs of our own, from the time on at which a stranger's bytes come into play: a list of the
//! calls that the program still makes, each with its reason.
//!
//! What is not listed answers EPERM, because a rarely taken path of the C library deserves an error code more than
//! it deserves death. What is in [`NEVER`] kills the process: no code of ours leads there, so whoever comes there has
//! taken the process over.

use std::collections::BTreeMap;

use libc::c_long;

use super::{Action, Comparison, Condition, Decision, Table, X32, program};
use crate::plan::SeccompFilter;

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xc000_00b7;

/// What answers a call that is not listed.
pub const REFUSED: Action = Action::errno(libc::EPERM.unsigned_abs());

/// A call that a program makes.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    call: c_long,
    conditions: &'static [Condition],
    /// When a condition does not hold; the answer, when there is none.
    otherwise: Action,
    reason: &'static str,
}

impl Allowed {
    /// Its number.
    #[must_use]
    pub fn call(&self) -> c_long {
        self.call
    }

    /// What the program makes it for.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Whether it is ever carried out, and not listed for a special answer only.
    #[must_use]
    pub fn is_carried_out(&self) -> bool {
        !self.conditions.is_empty() || self.otherwise == Action::ALLOW
    }
}

/// The call, whatever its arguments.
#[must_use]
pub const fn allow(call: c_long, reason: &'static str) -> Allowed {
    allow_if(call, &[], Action::ALLOW, reason)
}

/// The call, if all conditions hold. For pointers and lengths no condition makes sense: memory is out of a filter's
/// sight.
#[must_use]
pub const fn allow_if(
    call: c_long,
    conditions: &'static [Condition],
    otherwise: Action,
    reason: &'static str,
) -> Allowed {
    Allowed {
        call,
        conditions,
        otherwise,
        reason,
    }
}

/// Says that there is no such call: the C library then makes an older one.
#[must_use]
pub const fn unknown(call: c_long, reason: &'static str) -> Allowed {
    allow_if(
        call,
        &[],
        Action::errno(libc::ENOSYS.unsigned_abs()),
        reason,
    )
}

/// The lower half of an argument, under the mask, is one of these values.
#[must_use]
pub const fn low(argument: usize, mask: u32, values: &'static [u32]) -> Condition {
    Condition {
        argument,
        comparison: Comparison::Low { mask, values },
    }
}

/// For mmap and mprotect, whose third argument `prot` is: no `PROT_EXEC`.
pub const NOT_EXECUTABLE: &[Condition] = &[low(2, 4, &[0])];
/// For fcntl: `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_DUPFD_CLOEXEC`.
pub const PLAIN_FCNTL: &[Condition] = &[low(1, u32::MAX, &[0, 1, 2, 3, 4, 1030])];
/// For socket: `AF_INET`, `AF_INET6`; `SOCK_STREAM`, `SOCK_DGRAM` whatever their flags.
pub const INTERNET: &[Condition] = &[low(0, u32::MAX, &[2, 10]), low(1, 0xf, &[1, 2])];
/// For tgkill: `SIGABRT`.
pub const ABORT: &[Condition] = &[low(2, u32::MAX, &[6])];
/// For clone: `CLONE_VM` and `CLONE_THREAD` are set, nothing with `CLONE_NEW` in its name is.
pub const THREAD: &[Condition] = &[low(0, 0x7e03_0100 | 0x80, &[0x0001_0100])];

/// Calls that mean that the process has been taken over.
const NEVER: &[c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// The filter for a program that makes the calls of all these lists, and no call twice.
///
/// Calls of other architectures than the machine's own kill the process.
#[must_use]
pub fn filter(lists: &[&[Allowed]]) -> SeccompFilter {
    let mut decisions = BTreeMap::new();
    let mut decide = |call: c_long, decision| {
        // Numbers of calls are small and positive.
        let Ok(number) = u32::try_from(call) else {
            return;
        };
        let before = decisions.insert(number, decision);
        debug_assert!(before.is_none(), "call {number} is listed twice");
    };
    for call in NEVER {
        decide(*call, Decision::Always(Action::KILL_PROCESS));
    }
    for allowed in lists.iter().copied().flatten() {
        let decision = if allowed.conditions.is_empty() {
            Decision::Always(allowed.otherwise)
        } else {
            let holds = (allowed.conditions.to_vec(), Action::ALLOW);
            Decision::ByArguments(vec![holds], allowed.otherwise)
        };
        decide(allowed.call, decision);
    }
    // Where a call's number ends, the default is in force again.
    let ends: Vec<u32> = decisions.keys().map(|number| number + 1).collect();
    for number in ends.into_iter().chain([0]) {
        decisions.entry(number).or_insert(Decision::Always(REFUSED));
    }
    decisions.insert(X32, Decision::Always(Action::KILL_PROCESS));
    let table = Table::new(THIS_ARCHITECTURE, decisions);
    SeccompFilter {
        program: program::assemble(&[table], Action::KILL_PROCESS).concat(),
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::interpreter::run;

    const CONDITIONS: &[Condition] = &[low(0, u32::MAX, &[2, 10]), low(1, 0xf, &[1, 2])];

    fn rules() -> Vec<Allowed> {
        let mut rules: Vec<Allowed> = (0..1000)
            .step_by(2)
            .filter(|call| !NEVER.contains(call))
            .map(|call| allow(call, "a test"))
            .collect();
        let place = |call| rules.iter().position(|rule| rule.call == call).unwrap();
        let (conditional, unknown_one) = (place(600), place(700));
        rules[conditional] = allow_if(600, CONDITIONS, Action::errno(13), "a test");
        rules[unknown_one] = unknown(700, "a test");
        rules
    }

    fn answer(number: u32, arguments: [u64; 6]) -> u32 {
        let program = filter(&[&rules()]).program;
        run(&program, THIS_ARCHITECTURE, number, arguments)
    }

    #[test]
    fn every_number_gets_its_own_answer() {
        let program = filter(&[&rules()]).program;
        for number in 0..1100 {
            let expected = match number {
                never if NEVER.contains(&c_long::from(never)) => 0x8000_0000,
                600 => 0x0005_000d,
                700 => 0x0005_0026,
                number if number < 1000 && number % 2 == 0 => 0x7fff_0000,
                _ => 0x0005_0001,
            };
            let answer = run(&program, THIS_ARCHITECTURE, number, [0; 6]);
            assert_eq!(answer, expected, "call {number}");
        }
    }

    #[test]
    fn arguments_are_checked_together() {
        let answer = |first, second| answer(600, [first, second, 0, 0, 0, 0]);
        for (first, second) in [(2, 1), (10, 2), (2, 0x80802), (0x7_0000_0002, 1)] {
            assert_eq!(answer(first, second), 0x7fff_0000, "{first} {second}");
        }
        for (first, second) in [(1, 1), (2, 3), (16, 2), (10, 0), (3, 0)] {
            assert_eq!(answer(first, second), 0x0005_000d, "{first} {second}");
        }
    }

    #[test]
    fn other_architectures_and_x32_are_killed() {
        let program = filter(&[&rules()]).program;
        assert_eq!(run(&program, 0x4000_0003, 2, [0; 6]), 0x8000_0000);
        for number in [X32, X32 + 2, u32::MAX] {
            let answer = run(&program, THIS_ARCHITECTURE, number, [0; 6]);
            assert_eq!(answer, 0x8000_0000, "{number:#x}");
        }
    }

    #[test]
    fn threads_are_told_from_processes() {
        let rules = [allow_if(
            libc::SYS_clone,
            THREAD,
            Action::KILL_PROCESS,
            "threads",
        )];
        let program = filter(&[&rules]).program;
        let number = u32::try_from(libc::SYS_clone).unwrap();
        let flags = |flags| run(&program, THIS_ARCHITECTURE, number, [flags, 0, 0, 0, 0, 0]);
        // What the C library starts a thread with.
        assert_eq!(flags(0x003d_0f00), 0x7fff_0000);
        // fork; vfork; a thread in namespaces of its own: user, mount, time.
        for wrong in [0x11, 0x4111, 0x103d_0f00, 0x003f_0f00, 0x003d_0f80] {
            assert_eq!(flags(wrong), 0x8000_0000, "{wrong:#x}");
        }
    }
}
