//! Rules become a classic BPF program: a binary search over call numbers, which costs every call some eight steps
//! instead of one for each rule.

use super::syscalls::{Action, Check, Rule};

/// `struct seccomp_data`: `nr`, `arch`, the instruction pointer, six arguments of 8 bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xc000_00b7;
/// Calls of the x32 ABI on `x86_64` have this bit, and other meanings than their numbers say.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// One `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: 0,
        value,
    }
}

const fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        value,
    }
}

fn returns(action: Action) -> Instruction {
    plain(
        RETURN,
        match action {
            Action::Allow => 0x7fff_0000,
            Action::Fail(error) => 0x0005_0000 | u32::from(u16::try_from(error).unwrap_or(1)),
            Action::Kill => 0x8000_0000,
        },
    )
}

const DEFAULT: Action = Action::Fail(libc::EPERM);

/// The program in the encoding that [`skiff_sandbox::plan::SeccompFilter`] carries. `rules` are sorted by call.
pub(super) fn assemble(rules: &[Rule]) -> Vec<u8> {
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        branch(JUMP_IF_EQUAL, THIS_ARCHITECTURE, 1, 0),
        returns(Action::Kill),
        plain(LOAD, NUMBER),
        branch(JUMP_IF_AT_LEAST, X32, 0, 1),
        returns(Action::Kill),
    ];
    program.extend(search(rules));
    program
        .iter()
        .flat_map(|instruction| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
            bytes[2] = instruction.if_true;
            bytes[3] = instruction.if_false;
            bytes[4..].copy_from_slice(&instruction.value.to_ne_bytes());
            bytes
        })
        .collect()
}

/// Every path through the result ends in a return.
fn search(rules: &[Rule]) -> Vec<Instruction> {
    match rules {
        [] => vec![returns(DEFAULT)],
        [rule] => {
            let decision = decide(rule);
            // The decision is a few instructions long.
            let skip = u8::try_from(decision.len()).expect("a rule has few checks");
            let mut block = vec![branch(JUMP_IF_EQUAL, number(rule), 0, skip)];
            block.extend(decision);
            block.push(returns(DEFAULT));
            block
        }
        rules => {
            let (lower, upper) = rules.split_at(rules.len() / 2);
            let lower_block = search(lower);
            // Conditional jumps reach 255 instructions far, the other kind anywhere.
            let mut block = vec![
                branch(JUMP_IF_AT_LEAST, number(&upper[0]), 0, 1),
                plain(
                    JUMP,
                    u32::try_from(lower_block.len()).expect("programs are short"),
                ),
            ];
            block.extend(lower_block);
            block.extend(search(upper));
            block
        }
    }
}

fn number(rule: &Rule) -> u32 {
    u32::try_from(rule.call).expect("call numbers are small and positive")
}

fn decide(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    for Check {
        argument,
        mask,
        values,
    } in rule.checks
    {
        // The low half comes first on the machines that Skiff runs on.
        block.push(plain(LOAD, ARGUMENTS + u32::from(*argument) * 8));
        block.push(plain(AND, *mask));
        let mut left = values.len();
        for value in *values {
            // Past the other values and the return.
            let hit = u8::try_from(left).expect("few values");
            block.push(branch(JUMP_IF_EQUAL, *value, hit, 0));
            left -= 1;
        }
        block.push(returns(rule.otherwise));
    }
    block.push(returns(if rule.checks.is_empty() {
        rule.otherwise
    } else {
        Action::Allow
    }));
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn interpret(program: &[u8], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&architecture.to_ne_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            data[16 + index * 8..24 + index * 8].copy_from_slice(&argument.to_ne_bytes());
        }
        let mut accumulator = 0u32;
        let mut position = 0;
        loop {
            let bytes = &program[position * 8..position * 8 + 8];
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            let value = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let word = |offset: u32| {
                let offset = usize::try_from(offset).unwrap();
                u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap())
            };
            position += 1;
            let jump = |taken: bool| usize::from(if taken { bytes[2] } else { bytes[3] });
            match code {
                LOAD => accumulator = word(value),
                AND => accumulator &= value,
                JUMP => position += usize::try_from(value).unwrap(),
                JUMP_IF_EQUAL => position += jump(accumulator == value),
                JUMP_IF_AT_LEAST => position += jump(accumulator >= value),
                RETURN => return value,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    const CHECKS: &[Check] = &[
        Check {
            argument: 0,
            mask: u32::MAX,
            values: &[2, 10],
        },
        Check {
            argument: 1,
            mask: 0xf,
            values: &[1, 2],
        },
    ];

    fn rules() -> Vec<Rule> {
        let checked = |call| Rule {
            call,
            checks: CHECKS,
            otherwise: Action::Fail(13),
        };
        let plain = |call| Rule {
            call,
            checks: &[],
            otherwise: Action::Allow,
        };
        let mut rules: Vec<Rule> = (0..400).step_by(2).map(plain).collect();
        rules[20] = checked(40);
        rules[100] = Rule {
            call: 200,
            checks: &[],
            otherwise: Action::Kill,
        };
        rules
    }

    #[test]
    fn every_number_gets_its_own_answer() {
        let program = assemble(&rules());
        for number in 0..600 {
            let expected = match number {
                40 => 0x0005_000d,
                200 => 0x8000_0000,
                number if number < 400 && number % 2 == 0 => 0x7fff_0000,
                _ => 0x0005_0001,
            };
            let answer = interpret(&program, THIS_ARCHITECTURE, number, [0; 6]);
            assert_eq!(answer, expected, "call {number}");
        }
    }

    #[test]
    fn arguments_are_checked_together() {
        let program = assemble(&rules());
        let answer =
            |first, second| interpret(&program, THIS_ARCHITECTURE, 40, [first, second, 0, 0, 0, 0]);
        for (first, second) in [(2, 1), (10, 2), (2, 0x80802)] {
            assert_eq!(answer(first, second), 0x7fff_0000, "{first} {second}");
        }
        for (first, second) in [(1, 1), (2, 3), (16, 2), (10, 0)] {
            assert_eq!(answer(first, second), 0x0005_000d, "{first} {second}");
        }
    }

    #[test]
    fn other_architectures_and_x32_are_killed() {
        let program = assemble(&rules());
        assert_eq!(interpret(&program, 0x4000_0003, 2, [0; 6]), 0x8000_0000);
        assert_eq!(
            interpret(&program, THIS_ARCHITECTURE, X32 + 2, [0; 6]),
            0x8000_0000
        );
    }
}
