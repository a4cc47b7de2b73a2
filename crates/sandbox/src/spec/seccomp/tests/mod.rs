//! Profiles in force: a thread takes the compiled filter and asks the kernel.

use std::io;
use std::thread;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::*;

mod library;

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// `getppid` takes no arguments and does no harm; the filter sees the arguments all the same.
fn getppid_under(filter: &SeccompFilter, calls: &[[u64; 6]]) -> Vec<i64> {
    under(filter, libc::SYS_getppid, calls)
}

/// What the calls give under the filter: 0, or the error number. The filter dies with the thread.
fn under(filter: &SeccompFilter, number: i64, calls: &[[u64; 6]]) -> Vec<i64> {
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            // Memory for the answers is there before the filter is.
            let mut answers = Vec::with_capacity(calls.len());
            crate::sys::seccomp::load(filter).unwrap();
            answers.extend(calls.iter().map(|arguments| call(number, arguments)));
            answers
        });
        asking.join().unwrap()
    })
}

#[expect(unsafe_code, reason = "a system call by its number")]
fn call(number: i64, [a, b, c, d, e, f]: &[u64; 6]) -> i64 {
    // SAFETY: the tests name calls that take no pointers, or that the filter answers before they are made.
    let result = unsafe { libc::syscall(number, *a, *b, *c, *d, *e, *f) };
    if result >= 0 {
        0
    } else {
        io::Error::last_os_error().raw_os_error().unwrap().into()
    }
}

fn with_args(args: &[Value]) -> SeccompFilter {
    let rule =
        json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11, "args": args});
    compile(&profile(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}),
    ))
    .unwrap()
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn every_operator() {
    // Values whose halves differ in either: the kernel compares 32 bits at a time.
    let interesting = [
        0,
        1,
        4,
        5,
        6,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0005,
        0x5_0000_0004,
        0x5_0000_0005,
        u64::MAX,
    ];
    type Compare = fn(u64, u64) -> bool;
    let operators: [(&str, Compare); 6] = [
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_GT", |a, b| a > b),
    ];
    for (operator, compare) in operators {
        for value in interesting {
            let filter = with_args(&[json!({"index": 0, "op": operator, "value": value})]);
            let answers = getppid_under(&filter, &interesting.map(first));
            let expected =
                interesting.map(|argument| if compare(argument, value) { 11 } else { 0 });
            assert_eq!(
                answers, expected,
                "{operator} {value:#x} with {interesting:x?}"
            );
        }
    }
}

#[test]
fn masked_equality_has_the_mask_first() {
    for (mask, wanted) in [
        (0xf0, 0x50),
        (0x5_0000_0000, 0x4_0000_0000),
        (u64::MAX, 7),
        (0x7e02_0000, 0),
    ] {
        let filter = with_args(&[
            json!({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": wanted}),
        ]);
        let arguments = [
            0,
            7,
            0x50,
            0x5f,
            0x150,
            0x60,
            0x4_0000_0000,
            0x6_0000_0001,
            0x5_0000_0000,
            0x1000_0000,
        ];
        let answers = getppid_under(&filter, &arguments.map(first));
        let expected = arguments.map(|argument| if argument & mask == wanted { 11 } else { 0 });
        assert_eq!(answers, expected, "{mask:#x} {wanted:#x}");
    }
}

#[test]
fn conditions_on_different_arguments_hold_together() {
    let filter = with_args(&[
        json!({"index": 0, "op": "SCMP_CMP_EQ", "value": 1}),
        json!({"index": 5, "op": "SCMP_CMP_GT", "value": 2}),
    ]);
    let calls = [
        [1, 0, 0, 0, 0, 3],
        [1, 0, 0, 0, 0, 2],
        [0, 0, 0, 0, 0, 3],
        [0; 6],
    ];
    assert_eq!(getppid_under(&filter, &calls), [11, 0, 0, 0]);
}

#[test]
fn conditions_with_an_argument_twice_hold_each_for_itself() {
    let filter = with_args(&[
        json!({"index": 0, "op": "SCMP_CMP_EQ", "value": 1}),
        json!({"index": 0, "op": "SCMP_CMP_EQ", "value": 7}),
        json!({"index": 1, "op": "SCMP_CMP_GE", "value": 100}),
    ]);
    let calls = [
        first(1),
        first(7),
        first(2),
        [2, 100, 0, 0, 0, 0],
        [1, 100, 0, 0, 0, 0],
        [2, 99, 0, 0, 0, 0],
    ];
    assert_eq!(getppid_under(&filter, &calls), [11, 11, 0, 11, 11, 0]);
}

#[test]
fn entries_for_one_call_hold_each_for_itself() {
    let rule = |value: u64| {
        json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11,
               "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": value}]})
    };
    let filter = compile(&profile(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(3), rule(9)]}),
    ))
    .unwrap();
    assert_eq!(
        getppid_under(&filter, &[first(3), first(9), first(4)]),
        [11, 11, 0]
    );
}

/// Profiles made by chance, against the meaning written down once more.
#[test]
fn random_profiles() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const OPERATORS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];
    const VALUES: [u64; 6] = [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001];
    for round in 0..200 {
        let mut rules: Vec<Vec<(usize, usize, u64, u64)>> = Vec::new();
        for _ in 0..=random(3) {
            let mut conditions = Vec::new();
            for _ in 0..=random(2) {
                let index = usize::try_from(random(3)).unwrap();
                let operator = usize::try_from(random(7)).unwrap();
                let value = VALUES[usize::try_from(random(6)).unwrap()];
                // A mask that excludes what is asked for under it never matches.
                conditions.push((
                    index,
                    operator,
                    value,
                    VALUES[usize::try_from(random(6)).unwrap()] & value,
                ));
            }
            rules.push(conditions);
        }
        let entries: Vec<Value> = rules
            .iter()
            .map(|conditions| {
                let args: Vec<Value> = conditions
                    .iter()
                    .map(|(index, operator, value, two)| {
                        json!({"index": index, "op": OPERATORS[*operator], "value": value, "valueTwo": two})
                    })
                    .collect();
                json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11, "args": args})
            })
            .collect();
        let holds = |(index, operator, value, two): &(usize, usize, u64, u64),
                     arguments: &[u64; 6]| {
            let argument = arguments[*index];
            match operator {
                0 => argument != *value,
                1 => argument < *value,
                2 => argument <= *value,
                3 => argument == *value,
                4 => argument >= *value,
                5 => argument > *value,
                _ => argument & value == *two,
            }
        };
        let mut calls = Vec::new();
        for a in VALUES {
            for b in VALUES {
                calls.push([a, b, VALUES[usize::try_from(random(6)).unwrap()], 0, 0, 0]);
            }
        }
        let expected: Vec<i64> = calls
            .iter()
            .map(|arguments| {
                let any = rules.iter().any(|conditions| {
                    let twice = (0..6)
                        .any(|index| conditions.iter().filter(|(of, ..)| *of == index).count() > 1);
                    if twice {
                        conditions
                            .iter()
                            .any(|condition| holds(condition, arguments))
                    } else {
                        conditions
                            .iter()
                            .all(|condition| holds(condition, arguments))
                    }
                });
                if any { 11 } else { 0 }
            })
            .collect();
        let filter = compile(&profile(
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}),
        ))
        .unwrap();
        assert_eq!(
            getppid_under(&filter, &calls),
            expected,
            "round {round}: {entries:?}"
        );
    }
}

/// Calls that a thread makes at its end, and what the answers are written with.
const NEEDED: [&str; 12] = [
    "exit",
    "exit_group",
    "futex",
    "munmap",
    "madvise",
    "mprotect",
    "mmap",
    "brk",
    "sigaltstack",
    "rt_sigprocmask",
    "rseq",
    "set_robust_list",
];

fn strict(default: Value, more: &Value) -> SeccompFilter {
    let mut value = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]});
    let entries = value["syscalls"].as_array_mut().unwrap();
    entries.extend(more.as_array().unwrap().iter().cloned());
    if !default.is_null() {
        value["defaultErrnoRet"] = default;
    }
    compile(&profile(value)).unwrap()
}

#[test]
fn the_default_action_and_its_error() {
    for (errno, expected) in [
        (Value::Null, i64::from(libc::EPERM)),
        (json!(13), 13),
        (json!(95), 95),
    ] {
        assert_eq!(
            getppid_under(&strict(errno, &json!([])), &[first(0)]),
            [expected]
        );
    }
    // A rule without a number gives EPERM, also where the default is another.
    let filter = strict(
        json!(95),
        &json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]),
    );
    assert_eq!(
        getppid_under(&filter, &[first(0)]),
        [i64::from(libc::EPERM)]
    );
}

#[test]
fn calls_newer_than_the_profile_are_unknown_to_it() {
    let newest = 5000;
    let enosys = i64::from(libc::ENOSYS);
    assert_eq!(
        under(&strict(Value::Null, &json!([])), newest, &[first(0)]),
        [enosys]
    );
    // `rseq` is the highest that the profile names; calls below are refused by its default.
    let below = libc::SYS_getrandom;
    assert_eq!(
        under(&strict(Value::Null, &json!([])), below, &[first(0)]),
        [i64::from(libc::EPERM)]
    );
    // Not the next number: the kernel lets no filter see uretprobe.
    let above = libc::SYS_pidfd_send_signal;
    assert_eq!(
        under(&strict(Value::Null, &json!([])), above, &[first(u64::MAX)]),
        [enosys]
    );
    // Everything passes where everything else does.
    let filter = compile(&profile(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]}),
    ))
    .unwrap();
    assert_eq!(under(&filter, libc::SYS_sched_yield, &[first(0)]), [0]);
    assert_eq!(
        getppid_under(&filter, &[first(0)]),
        [i64::from(libc::EPERM)]
    );
}

#[test]
fn newer_calls_are_known_where_that_would_change_a_promise() {
    let unknown = |value: Value| newer_are_unknown(&profile(value));
    assert!(!unknown(json!({"defaultAction": "SCMP_ACT_ALLOW"})));
    assert!(!unknown(json!({"defaultAction": "SCMP_ACT_LOG"})));
    assert!(!unknown(json!({"defaultAction": "SCMP_ACT_TRACE"})));
    assert!(!unknown(
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::ENOSYS})
    ));
    assert!(unknown(json!({"defaultAction": "SCMP_ACT_ERRNO"})));
    assert!(unknown(json!({"defaultAction": "SCMP_ACT_KILL"})));
}

#[test]
fn unknown_calls_and_architectures_of_other_machines_do_no_harm() {
    let filter = compile(&profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["no_such_call", "getppid", "socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11}],
    })))
    .unwrap();
    assert_eq!(getppid_under(&filter, &[first(0)]), [11]);
}

#[test]
fn many_rules_become_a_search_tree() {
    let names = [
        "getuid",
        "getgid",
        "geteuid",
        "getegid",
        "getpid",
        "gettid",
        "umask",
        "getpgrp",
        "sched_yield",
        "getsid",
    ];
    let entries: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(index, name)| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": index + 20}))
        .collect();
    let filter = compile(&profile(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries}),
    ))
    .unwrap();
    for (index, name) in names.iter().enumerate() {
        let number = ScmpSyscall::from_name(name).unwrap().as_raw_syscall();
        let expected = i64::try_from(index + 20).unwrap();
        assert_eq!(
            under(&filter, number.into(), &[first(0)]),
            [expected],
            "{name}"
        );
    }
    assert_eq!(getppid_under(&filter, &[first(0)]), [0]);
}

/// The default profile of containerd, and `clone`, whose flags it looks at.
#[test]
fn the_default_profile_of_containerd() {
    let config = crate::spec::read(include_bytes!("../../testdata/cri-restricted.json")).unwrap();
    let started = std::time::Instant::now();
    let filter = compile(config.linux().as_ref().unwrap().seccomp().as_ref().unwrap()).unwrap();
    println!(
        "{} instructions in {:?}",
        filter.program.len() / 8,
        started.elapsed()
    );
    let eperm = i64::from(libc::EPERM);
    assert_eq!(getppid_under(&filter, &[first(0)]), [0]);
    assert_eq!(under(&filter, libc::SYS_mount, &[first(0)]), [eperm]);
    assert_eq!(under(&filter, libc::SYS_bpf, &[first(0)]), [eperm]);
    let new_namespace = u64::from(libc::CLONE_NEWNET.unsigned_abs());
    assert_eq!(
        under(&filter, libc::SYS_clone, &[first(new_namespace)]),
        [eperm]
    );
    // glibc falls back to clone when clone3, whose flags cannot be looked at, is unknown.
    assert_eq!(
        under(&filter, libc::SYS_clone3, &[first(0)]),
        [i64::from(libc::ENOSYS)]
    );
    assert_eq!(under(&filter, 5000, &[first(0)]), [i64::from(libc::ENOSYS)]);
    // Of the socket families, AF_ALG (38) and AF_VSOCK (40) are forbidden. The type is none, so that no
    // socket is made: EINVAL, or EAFNOSUPPORT, says that the filter let the call through.
    let families: Vec<[u64; 6]> = (0..46).map(|family| [family, 99, 0, 0, 0, 0]).collect();
    let answers = under(&filter, libc::SYS_socket, &families);
    let forbidden: Vec<usize> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| **answer == eperm)
        .map(|(family, _)| family)
        .collect();
    assert_eq!(forbidden, [38, 40]);
    let upper_half = under(
        &filter,
        libc::SYS_socket,
        &[[0x1_0000_0002, 99, 0, 0, 0, 0]],
    );
    assert_eq!(upper_half, [eperm]);
}

#[test]
fn what_is_refused_is_named() {
    for (value, words) in [
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction is SCMP_ACT_NOTIFY",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}),
            "linux.seccomp.syscalls[mount] is SCMP_ACT_NOTIFY",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l"}),
            "linux.seccomp.listenerPath is set",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
            "linux.seccomp.listenerMetadata is set",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultAction has an error number",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
            "has the error number 4096",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_TRAP"}]}),
            "has no name",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_TRAP",
                   "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
            "linux.seccomp.syscalls[mount] compares the argument 6",
        ),
    ] {
        let refusal = compile(&profile(value.clone())).unwrap_err().to_string();
        assert!(refusal.contains(words), "{value}: {refusal}");
    }
}

#[test]
fn flags_are_those_of_the_system_call() {
    let flags = |flags: Value| {
        compile(&profile(
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}),
        ))
        .unwrap()
        .flags
    };
    assert_eq!(flags(json!([])), 0);
    assert_eq!(
        flags(json!([
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
        ])),
        6
    );
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0);
}

#[test]
fn our_own_executables_are_given_their_own_architecture_only() {
    let listing = |architectures: &[&str]| {
        profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": architectures,
            "syscalls": [{"names": ["getppid", "read", "write", "socket"], "action": "SCMP_ACT_ALLOW"}],
        }))
    };
    let all = listing(&[
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
    ]);
    let own = compile_for_own(&all).unwrap();
    assert_eq!(own, compile(&listing(&[])).unwrap());
    assert!(own.program.len() < compile(&all).unwrap().program.len());
}
