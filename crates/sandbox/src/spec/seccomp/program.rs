//! Tables of decisions as classic BPF: the architecture, a binary search for the number, the arguments.

use super::Action;
use super::table::{Decision, Table};

/// `struct sock_filter`.
pub(super) type Instruction = [u8; 8];

/// One comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: usize,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
}

/// How an argument is compared with the value, as unsigned numbers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal under this mask.
    Masked(u64),
}

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

/// The program. Calls of architectures without a table kill the thread.
pub(super) fn assemble(tables: &[Table]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for table in tables {
        let mut block = vec![plain(LOAD, NUMBER)];
        block.extend(search(&table.intervals));
        program.push(branch(JUMP_EQUAL, 1, 0, table.audit));
        program.push(plain(JUMP, length(&block)));
        program.extend(block);
    }
    program.push(plain(RETURN, Action::KILL_THREAD.0));
    program
}

/// With the number in the accumulator. Every way through it ends in a return.
fn search(intervals: &[(u32, Decision)]) -> Vec<Instruction> {
    match intervals {
        [] => vec![plain(RETURN, Action::KILL_THREAD.0)],
        [(_, decision)] => decide(decision),
        _ => {
            let (lower, upper) = intervals.split_at(intervals.len() / 2);
            let (from, _) = upper[0];
            let lower = search(lower);
            let mut program = match u8::try_from(lower.len()) {
                Ok(near) => vec![branch(JUMP_GREATER_EQUAL, near, 0, from)],
                // Only the unconditional jump reaches further than 255 instructions.
                Err(_) => vec![
                    branch(JUMP_GREATER_EQUAL, 0, 1, from),
                    plain(JUMP, length(&lower)),
                ],
            };
            program.extend(lower);
            program.extend(search(upper));
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
    // From the last to the first, because each must know how far it is to the end. Six conditions of six
    // instructions are within the reach of a conditional jump.
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
    let (value_low, value_high) = halves(condition.value);
    match condition.comparison {
        Comparison::Equal => vec![
            plain(LOAD, high),
            branch(JUMP_EQUAL, 0, rest + 2, value_high),
            plain(LOAD, low),
            branch(JUMP_EQUAL, 0, rest, value_low),
        ],
        Comparison::NotEqual => vec![
            plain(LOAD, high),
            branch(JUMP_EQUAL, 0, 2, value_high),
            plain(LOAD, low),
            branch(JUMP_EQUAL, rest, 0, value_low),
        ],
        Comparison::Masked(mask) => {
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
        Comparison::Greater | Comparison::GreaterOrEqual => {
            let jump = if condition.comparison == Comparison::Greater {
                JUMP_GREATER
            } else {
                JUMP_GREATER_EQUAL
            };
            vec![
                plain(LOAD, high),
                branch(JUMP_GREATER, 3, 0, value_high),
                branch(JUMP_EQUAL, 0, rest + 2, value_high),
                plain(LOAD, low),
                branch(jump, 0, rest, value_low),
            ]
        }
        Comparison::Less | Comparison::LessOrEqual => {
            let jump = if condition.comparison == Comparison::Less {
                JUMP_GREATER_EQUAL
            } else {
                JUMP_GREATER
            };
            vec![
                plain(LOAD, high),
                branch(JUMP_GREATER, rest + 3, 0, value_high),
                branch(JUMP_EQUAL, 0, 2, value_high),
                plain(LOAD, low),
                branch(jump, rest, 0, value_low),
            ]
        }
    }
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
