//! The program, run by an interpreter of its few instructions: on this machine the kernel may keep to v1.

use super::*;

/// Runs a program as the kernel would.
fn run(program: &[Instruction], block: bool, access: u8, major: u32, minor: u32) -> bool {
    let kind = if block { BLOCK } else { CHARACTER };
    let context = [
        u32::try_from(kind).unwrap() | u32::from(access) << 16,
        major,
        minor,
    ];
    let mut registers = [0_u32; 11];
    let mut at = 0;
    loop {
        let instruction = program[at];
        at += 1;
        let imm = instruction.immediate.cast_unsigned();
        let (to, from) = (
            usize::from(instruction.registers & 15),
            usize::from(instruction.registers >> 4),
        );
        let jump = usize::try_from(instruction.offset).unwrap();
        match instruction.code {
            0x61 => registers[to] = context[jump / 4],
            0xbc => registers[to] = registers[from],
            0xb4 => registers[to] = imm,
            0x54 => registers[to] &= imm,
            0x74 => registers[to] >>= imm,
            0x56 if registers[to] != imm => at += jump,
            0x46 if registers[to] & imm != 0 => at += jump,
            0x56 | 0x46 => {}
            0x05 => at += jump,
            0x95 => return registers[0] == 1,
            code => panic!("unknown instruction {code:x}"),
        }
    }
}

fn rule(allow: bool, block: bool, numbers: (Option<u32>, Option<u32>), access: u8) -> DeviceRule {
    DeviceRule {
        allow,
        block,
        major: numbers.0,
        minor: numbers.1,
        access,
    }
}

#[test]
fn the_last_rule_counts_for_each_kind_of_access() {
    let null = (Some(1), Some(3));
    let policy = DevicePolicy {
        allow_all: false,
        rules: vec![
            rule(true, false, (Some(1), None), READ),
            rule(true, false, null, WRITE),
            rule(true, false, (None, None), MAKE),
            rule(true, true, (Some(8), Some(0)), READ | WRITE),
            rule(false, true, (Some(8), Some(0)), WRITE),
            rule(true, false, (Some(u32::MAX), Some(7)), READ),
        ],
    };
    let program = policy.program();
    let asks = |block, access, major, minor| run(&program, block, access, major, minor);
    assert!(asks(false, READ, 1, 3));
    // One rule for each half of it.
    assert!(asks(false, READ | WRITE, 1, 3));
    assert!(asks(false, READ, 1, 5));
    assert!(!asks(false, READ | WRITE, 1, 5));
    assert!(asks(false, MAKE, 77, 77));
    assert!(!asks(true, MAKE, 77, 77));
    assert!(asks(true, READ, 8, 0));
    assert!(!asks(true, READ | WRITE, 8, 0));
    assert!(!asks(true, READ, 8, 1));
    // Numbers that look negative.
    assert!(asks(false, READ, u32::MAX, 7));
    assert!(!asks(false, READ, u32::MAX - 1, 7));
}

#[test]
fn all_but_some() {
    let policy = DevicePolicy {
        allow_all: true,
        rules: vec![rule(
            false,
            false,
            (Some(10), Some(200)),
            READ | WRITE | MAKE,
        )],
    };
    let program = policy.program();
    assert!(run(&program, true, READ | WRITE, 8, 0));
    assert!(!run(&program, false, READ, 10, 200));
    assert!(run(&program, false, READ, 10, 201));
    let none = DevicePolicy::default().program();
    assert!(!run(&none, false, READ, 1, 3));
}

#[test]
fn rules_as_v1_writes_them() {
    let text = |rule: DeviceRule| rule.to_string();
    assert_eq!(text(rule(true, false, (Some(1), Some(3)), 7)), "c 1:3 rwm");
    assert_eq!(text(rule(true, true, (None, None), MAKE)), "b *:* m");
    assert_eq!(text(rule(true, true, (Some(8), None), READ)), "b 8:* r");
}

/// The kernel's verifier has the last word on programs, also where cgroups are those of v1.
#[test]
fn the_kernel_takes_them() {
    let numbers = (0..100).map(|n| (Some(n), (n % 2 == 0).then_some(n)));
    let policies = [
        DevicePolicy::default(),
        DevicePolicy {
            allow_all: true,
            rules: numbers
                .enumerate()
                .map(|(n, numbers)| rule(n % 3 == 0, n % 5 == 0, numbers, READ))
                .collect(),
        },
    ];
    for policy in policies {
        match bpf::load_device_program(&policy.program()) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                println!("SKIPPED the_kernel_takes_them: no right to load programs: {error}");
                return;
            }
            result => drop(result.unwrap()),
        }
    }
}
