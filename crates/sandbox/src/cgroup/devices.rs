//! Which devices a container's processes may use, as the program that cgroup v2 asks in place of v1's `devices.allow`.
//!
//! Made by [`crate::spec`] and by [`super::directory`] attached to the cgroup. The kernel runs the program whenever a
//! process of the cgroup opens a device file or makes one, and gives it kind, access and number
//! (`struct bpf_cgroup_dev_ctx` of `linux/bpf.h`); it answers 0 to forbid.

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::CgroupError;
use crate::sys::bpf::{self, Instruction};

/// What a container's processes may do with devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePolicy {
    /// What is not mentioned by a rule is allowed.
    pub allow_all: bool,
    /// Of several rules for the same thing, the last counts.
    pub rules: Vec<DeviceRule>,
}

/// One rule. Its text is what `devices.allow` of v1 takes: `c 1:3 rwm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allows, or forbids.
    pub allow: bool,
    /// A block device; else a character device.
    pub block: bool,
    /// Device number; `None` is any.
    pub major: Option<u32>,
    /// Device number; `None` is any.
    pub minor: Option<u32>,
    /// What it is about: making device files (1), reading (2), writing (4).
    pub access: u8,
}

/// `mknod`, as `BPF_DEVCG_ACC_MKNOD` has it.
pub(crate) const MAKE: u8 = 1;
/// Opening for reading.
pub(crate) const READ: u8 = 2;
/// Opening for writing.
pub(crate) const WRITE: u8 = 4;

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| {
            number.map_or_else(|| "*".to_owned(), |number| number.to_string())
        };
        let kind = if self.block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MAKE, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Registers: the answer, and what is known of the device.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

impl DevicePolicy {
    /// The program.
    ///
    /// It goes through the rules from the last to the first. A rule that allows takes what it allows out of what is
    /// wanted, and when nothing is left the answer is yes; a rule that forbids something that is still wanted makes
    /// it no. So reading may be allowed by one rule and writing by another, as with v1.
    pub fn program(&self) -> Vec<Instruction> {
        let mut program = vec![
            // The lower half of the first word is the kind, the upper the access.
            Instruction::load(KIND, CONTEXT, 0),
            Instruction::copy(WANTED, KIND),
            Instruction::and(KIND, 0xffff),
            Instruction::shift_right(WANTED, 16),
            Instruction::load(MAJOR, CONTEXT, 4),
            Instruction::load(MINOR, CONTEXT, 8),
        ];
        for rule in self.rules.iter().rev() {
            program.extend(rule.instructions());
        }
        program.extend([
            Instruction::set(ANSWER, i32::from(self.allow_all)),
            Instruction::exit(),
        ]);
        program
    }

    /// Has the kernel ask this policy about the cgroup's processes, besides those of the cgroups above it.
    pub(super) fn attach(&self, directory: &Path) -> Result<(), CgroupError> {
        let failed = |operation| CgroupError::io(operation, directory);
        let program = bpf::load_device_program(&self.program())
            .map_err(failed("load the program for the devices of"))?;
        let cgroup = std::fs::File::open(directory).map_err(failed("open"))?;
        bpf::attach_device_program(cgroup.as_fd(), program.as_fd())
            .map_err(failed("attach the program for the devices to"))
    }
}

impl DeviceRule {
    fn instructions(&self) -> Vec<Instruction> {
        let access = i32::from(self.access);
        // What is done if the rule is about the device.
        let mut action = if self.allow {
            vec![
                Instruction::and(WANTED, !access),
                Instruction::skip_unless_equal(WANTED, 0, 2),
                Instruction::set(ANSWER, 1),
                Instruction::exit(),
            ]
        } else {
            vec![
                Instruction::skip_if_any(WANTED, access, 1),
                Instruction::skip(2),
                Instruction::set(ANSWER, 0),
                Instruction::exit(),
            ]
        };
        let kind = if self.block { BLOCK } else { CHARACTER };
        // From the last condition to the first, since each skips all that follows.
        let conditions = [
            self.minor.map(|minor| (MINOR, minor.cast_signed())),
            self.major.map(|major| (MAJOR, major.cast_signed())),
            Some((KIND, kind)),
        ];
        for (register, value) in conditions.into_iter().flatten() {
            let over = i16::try_from(action.len()).unwrap_or(i16::MAX);
            action.insert(0, Instruction::skip_unless_equal(register, value, over));
        }
        action
    }
}

#[cfg(test)]
mod tests;
