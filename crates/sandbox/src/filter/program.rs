//! Tables of decisions as classic BPF: the architecture, a binary search for the number, the arguments.

use super::{Action, Comparison, Condition, Decision, Table};

/// `struct sock_filter`.
pub(crate) type Instruction = [u8; 8];

// Classic BPF, `linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program; `otherwise` is for calls of architectures without a table.
pub(crate) fn assemble(tables: &[Table], otherwise: Action) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for table in tables {
        let mut block = vec![plain(LOAD, NUMBER)];
        block.extend(search(&table.intervals, otherwise));
        program.push(branch(JUMP_EQUAL, 1, 0, table.audit));
        program.push(plain(JUMP, length(&block)));
        program.extend(block);
    }
    program.push(plain(RETURN, otherwise.0));
    program
}

/// With the number in the accumulator. Every way through it ends in a return.
fn search(intervals: &[(u32, Decision)], otherwise: Action) -> Vec<Instruction> {
    match intervals {
        [] => vec![plain(RETURN, otherwise.0)],
        [(_, decision)] => decide(decision),
        _ => {
            let (lower, upper) = intervals.split_at(intervals.len() / 2);
            let (from, _) = upper[0];
            let lower = search(lower, otherwise);
            let mut program = match u8::try_from(lower.len()) {
                Ok(near) => vec![branch(JUMP_GREATER_EQUAL, near, 0, from)],
                // Only the unconditional jump reaches further than 255 instructions.
                Err(_) => vec![
                    branch(JUMP_GREATER_EQUAL, 0, 1, from),
                    plain(JUMP, length(&lower)),
                ],
            };
            program.extend(lower);
            program.extend(search(upper, otherwise));
            program
        }
    }
}

fn decide(decision: &Decision) -> Vec<Instruction> {
    match decision {
        Decision::Always(action) => vec![plain(RETURN, action.0)],
        Decision::ByArguments(rules, otherwise) => {
            let mut program = Vec::new();
            for (conditions, action) in rules {
                program.extend(rule(conditions, *action));
            }
            program.push(plain(RETURN, otherwise.0));
            program
        }
    }
}

/// Returns the action when all conditions hold; goes on behind the rule when one does not.
fn rule(conditions: &[Condition], action: Action) -> Vec<Instruction> {
    let mut program = vec![plain(RETURN, action.0)];
    // From the last to the first, because each must know how far it is to the end. Six conditions of a few
    // instructions each are within the reach of a conditional jump.
    for condition in conditions.iter().rev() {
        let rest = u8::try_from(program.len()).unwrap_or(u8::MAX);
        let mut tested = test(*condition, rest);
        tested.append(&mut program);
        program = tested;
    }
    program
}

/// Goes on behind the test when the condition holds, and `rest` instructions further when not.
///
/// The upper half of the argument is looked at first. Jumps are counted from the next instruction.
fn test(condition: Condition, rest: u8) -> Vec<Instruction> {
    // At most 5, so no argument is out of reach; the profile was checked.
    let low = ARGUMENTS + 8 * u32::try_from(condition.argument).unwrap_or(0);
    // Both architectures are little-endian.
    let high = low + 4;
    match condition.comparison {
        Comparison::Equal(value) => {
            let (value_low, value_high) = halves(value);
            vec![
                plain(LOAD, high),
                branch(JUMP_EQUAL, 0, rest + 2, value_high),
                plain(LOAD, low),
                branch(JUMP_EQUAL, 0, rest, value_low),
            ]
        }
        Comparison::NotEqual(value) => {
            let (value_low, value_high) = halves(value);
            vec![
                plain(LOAD, high),
                branch(JUMP_EQUAL, 0, 2, value_high),
                plain(LOAD, low),
                branch(JUMP_EQUAL, rest, 0, value_low),
            ]
        }
        Comparison::Masked { mask, value } => {
            let (value_low, value_high) = halves(value);
            let (mask_low, mask_high) = halves(mask);
            vec![
                plain(LOAD, high),
                plain(AND, mask_high),
                branch(JUMP_EQUAL, 0, rest + 3, value_high),
                plain(LOAD, low),
                plain(AND, mask_low),
                branch(JUMP_EQUAL, 0, rest, value_low),
            ]
        }
        Comparison::Greater(value) => above(JUMP_GREATER, [low, high], rest, value),
        Comparison::GreaterOrEqual(value) => above(JUMP_GREATER_EQUAL, [low, high], rest, value),
        Comparison::Less(value) => below(JUMP_GREATER_EQUAL, [low, high], rest, value),
        Comparison::LessOrEqual(value) => below(JUMP_GREATER, [low, high], rest, value),
        Comparison::Low { mask, values } => one_of(low, rest, mask, values),
    }
}

/// `jump`: what must be true of the lower halves when the upper ones are equal.
fn above(jump: u16, [low, high]: [u32; 2], rest: u8, value: u64) -> Vec<Instruction> {
    let (value_low, value_high) = halves(value);
    vec![
        plain(LOAD, high),
        branch(JUMP_GREATER, 3, 0, value_high),
        branch(JUMP_EQUAL, 0, rest + 2, value_high),
        plain(LOAD, low),
        branch(jump, 0, rest, value_low),
    ]
}

/// `jump`: what must not be true of the lower halves when the upper ones are equal.
fn below(jump: u16, [low, high]: [u32; 2], rest: u8, value: u64) -> Vec<Instruction> {
    let (value_low, value_high) = halves(value);
    vec![
        plain(LOAD, high),
        branch(JUMP_GREATER, rest + 3, 0, value_high),
        branch(JUMP_EQUAL, 0, 2, value_high),
        plain(LOAD, low),
        branch(jump, rest, 0, value_low),
    ]
}

/// Lists of values are written by hand, and short.
fn one_of(low: u32, rest: u8, mask: u32, values: &[u32]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, low)];
    if mask != u32::MAX {
        program.push(plain(AND, mask));
    }
    let Some((last, others)) = values.split_last() else {
        program.push(plain(JUMP, rest.into()));
        return program;
    };
    let mut left = u8::try_from(others.len()).unwrap_or(u8::MAX);
    for value in others {
        program.push(branch(JUMP_EQUAL, left, 0, *value));
        left -= 1;
    }
    program.push(branch(JUMP_EQUAL, 0, rest, *last));
    program
}

/// `(lower, upper)` 32 bits.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

fn plain(code: u16, value: u32) -> Instruction {
    branch(code, 0, 0, value)
}

fn branch(code: u16, if_true: u8, if_false: u8, value: u32) -> Instruction {
    let code = code.to_ne_bytes();
    let value = value.to_ne_bytes();
    [
        code[0], code[1], if_true, if_false, value[0], value[1], value[2], value[3],
    ]
}

/// Programs that are longer are refused before the kernel sees them.
fn length(block: &[Instruction]) -> u32 {
    u32::try_from(block.len()).unwrap_or(u32::MAX)
}
