//! Our programs beside those that libseccomp makes of the same profiles, as runc does: run by a small
//! interpreter, for every number of every architecture, they must answer the same.
//!
//! Only profiles that the library gets right are compared; what it gets wrong is tested in the kernel
//! against the meaning itself.

use std::fs::File;
use std::io::{Read as _, Seek as _};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};

use super::super::{Action, Arch, compile};
use crate::filter::interpreter::run;

/// What runc does with the library.
fn by_library(profile: &LinuxSeccomp) -> Vec<u8> {
    let action = |action, errno: Option<u32>| match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(errno.unwrap_or(1).try_into().unwrap())
        }
        other => panic!("{other:?}"),
    };
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default).unwrap();
    for architecture in profile.architectures().iter().flatten() {
        let architecture = match architecture {
            Arch::ScmpArchX86_64 => ScmpArch::X8664,
            Arch::ScmpArchX86 => ScmpArch::X86,
            Arch::ScmpArchX32 => ScmpArch::X32,
            other => panic!("{other:?}"),
        };
        filter.add_arch(architecture).unwrap();
    }
    for syscall in profile.syscalls().iter().flatten() {
        let action = action(syscall.action(), syscall.errno_ret());
        if action == default {
            continue;
        }
        let conditions: Vec<ScmpArgCompare> = syscall
            .args()
            .iter()
            .flatten()
            .map(|argument| {
                let (operator, value) = match argument.op() {
                    LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, argument.value()),
                    LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, argument.value()),
                    LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, argument.value()),
                    LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, argument.value()),
                    LinuxSeccompOperator::ScmpCmpMaskedEq => (
                        ScmpCompareOp::MaskedEqual(argument.value()),
                        argument.value_two().unwrap_or(0),
                    ),
                    other => panic!("{other:?}"),
                };
                ScmpArgCompare::new(argument.index().try_into().unwrap(), operator, value)
            })
            .collect();
        for name in syscall.names() {
            let Ok(number) = ScmpSyscall::from_name(name) else {
                continue;
            };
            filter
                .add_rule_conditional(action, number, &conditions)
                .unwrap();
        }
    }
    let mut file: File = rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC)
        .unwrap()
        .into();
    filter.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut program = Vec::new();
    file.read_to_end(&mut program).unwrap();
    program
}

#[test]
#[cfg(target_arch = "x86_64")]
fn real_profiles_mean_what_the_library_makes_of_them() {
    const X32: u32 = 0x4000_0000;
    for config in [
        &include_bytes!("../../testdata/cri-restricted.json")[..],
        include_bytes!("../../testdata/cri-restricted-1.7.json"),
        include_bytes!("../../testdata/cri-pause.json"),
        include_bytes!("../../testdata/ctr-limits.json"),
    ] {
        let config = crate::spec::read(config).unwrap();
        let profile = config.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
        let (ours, theirs) = (compile(profile).unwrap().program, by_library(profile));
        let enosys = Action::errno(libc::ENOSYS.unsigned_abs()).value();
        let mut compared = 0;
        for (audit, from) in [
            (0xC000_003E, 0),
            (0xC000_003E, X32),
            (0x4000_0003, 0),
            (0xC000_00B7, 0),
        ] {
            for number in from..from + 700 {
                for first in [
                    0,
                    1,
                    8,
                    38,
                    39,
                    40,
                    41,
                    0x2000_0000,
                    0x1_0000_0000,
                    u64::from(u32::MAX),
                    u64::MAX,
                ] {
                    let arguments = [first, 0, 0, 0, 0, 0];
                    let (our, their) = (
                        run(&ours, audit, number, arguments),
                        run(&theirs, audit, number, arguments),
                    );
                    // runc puts a check for newer calls in front of the library's program.
                    if our == enosys && their != enosys {
                        assert!(number - from > 400, "{audit:#x} {number}");
                        continue;
                    }
                    compared += 1;
                    // A 32-bit process has no more than 32 bits in an argument, and of an x32 process the
                    // library looks at no more.
                    if (audit == 0x4000_0003 || from == X32) && first > u64::from(u32::MAX) {
                        continue;
                    }
                    assert_eq!(our, their, "{audit:#x} {number:#x} {first:#x}");
                }
            }
        }
        assert!(compared > 20_000, "{compared}");
        // No call at all, and the end of the numbers.
        assert_ne!(
            run(&ours, 0xC000_003E, u32::MAX, [0; 6]),
            Action::KILL_THREAD.value()
        );
        assert_eq!(run(&ours, 0xC000_003E, X32 - 1, [0; 6]), enosys);
    }
}
