//! Seccomp filters as classic BPF: what is decided for which call, and the program that decides it.
//!
//! Two kinds of users. The OCI profiles of containers ([`crate::spec::seccomp`], feature `planner`) become
//! [`Table`]s of several architectures. Programs of our own that handle a stranger's bytes - engine hosts,
//! compile workers - list the few calls that they still make ([`own`]). Nothing here knows an engine, and
//! nothing here is linked besides this crate's own few dependencies.

use std::collections::BTreeMap;

#[cfg(test)]
pub(crate) mod interpreter;
pub mod own;
mod program;

#[cfg(feature = "planner")]
pub(crate) use program::assemble;

/// What the kernel does with a call: `SECCOMP_RET_*` with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action(u32);

impl Action {
    /// The process is killed by SIGSYS.
    pub const KILL_PROCESS: Self = Self(0x8000_0000);
    /// The thread is killed by SIGSYS.
    pub const KILL_THREAD: Self = Self(0);
    /// The thread gets a SIGSYS that it may handle.
    pub const TRAP: Self = Self(0x0003_0000);
    /// The call is made and logged.
    pub const LOG: Self = Self(0x7ffc_0000);
    /// The call is made.
    pub const ALLOW: Self = Self(0x7fff_0000);

    /// The call fails with this error.
    #[must_use]
    pub const fn errno(errno: u32) -> Self {
        Self(0x0005_0000 | (errno & 0xffff))
    }

    /// As the kernel has it.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The call is handed to a tracer, with this word.
    #[must_use]
    pub const fn trace(data: u32) -> Self {
        Self(0x7ff0_0000 | (data & 0xffff))
    }
}

/// One comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: usize,
    /// How it is compared.
    pub comparison: Comparison,
}

/// How an argument is compared. All but the last: as unsigned numbers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Another than this.
    NotEqual(u64),
    /// Less than this.
    Less(u64),
    /// At most this.
    LessOrEqual(u64),
    /// This.
    Equal(u64),
    /// At least this.
    GreaterOrEqual(u64),
    /// More than this.
    Greater(u64),
    /// This value under this mask.
    Masked {
        /// What is looked at.
        mask: u64,
        /// What it must be.
        value: u64,
    },
    /// One of these values under this mask, in the lower 32 bits: the kernel looks at no others of an
    /// argument that is an `int`.
    Low {
        /// What is looked at.
        mask: u32,
        /// What it may be.
        values: &'static [u32],
    },
}

/// What is decided for a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Whatever the arguments are.
    Always(Action),
    /// The first rule whose conditions all hold; the action, when none does.
    ByArguments(Vec<(Vec<Condition>, Action)>, Action),
}

/// Decisions for the calls of one architecture.
#[derive(Debug)]
pub struct Table {
    /// `AUDIT_ARCH_*`, as the kernel tells it to the filter.
    audit: u32,
    /// From this number on, until the next; the first begins at 0. Neighbours differ.
    intervals: Vec<(u32, Decision)>,
}

impl Table {
    /// `decisions`: each holds from its number on, until the next. There is one for 0.
    #[must_use]
    pub fn new(audit: u32, decisions: BTreeMap<u32, Decision>) -> Self {
        let mut intervals: Vec<(u32, Decision)> = Vec::new();
        for (number, decision) in decisions {
            if intervals.last().is_none_or(|(_, last)| *last != decision) {
                intervals.push((number, decision));
            }
        }
        Self { audit, intervals }
    }
}

/// Calls of the x32 ABI have this bit in their number, and the architecture of x86-64.
pub(crate) const X32: u32 = 0x4000_0000;
