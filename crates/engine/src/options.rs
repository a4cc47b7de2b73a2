//! Options of a guest that its shim, its host and the compile worker must agree on.
//!
//! They come from the handler's configuration. Those in [`CodeOptions`] decide what code is made and which code a host
//! can load, so they are part of the cache's key; the others are the host's or the worker's alone.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A WebAssembly proposal that can be allowed or forbidden, by its name in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// `memory.copy`, `memory.fill`, passive segments.
    BulkMemory,
    /// Pages of one byte.
    CustomPageSizes,
    /// `try_table`, `throw`.
    Exceptions,
    /// Arithmetic in constant expressions.
    ExtendedConst,
    /// Typed references to functions.
    FunctionReferences,
    /// Garbage collected structs and arrays.
    Gc,
    /// Memories beyond 4 GiB.
    Memory64,
    /// Several memories in a module.
    MultiMemory,
    /// Several results.
    MultiValue,
    /// `funcref` and `externref` as values.
    ReferenceTypes,
    /// Vector instructions whose results differ by machine.
    RelaxedSimd,
    /// Vector instructions.
    Simd,
    /// `return_call`.
    TailCall,
    /// Atomic instructions.
    Threads,
    /// 128-bit arithmetic.
    WideArithmetic,
}

impl Proposal {
    /// All of them, by name.
    pub const ALL: [Self; 15] = [
        Self::BulkMemory,
        Self::CustomPageSizes,
        Self::Exceptions,
        Self::ExtendedConst,
        Self::FunctionReferences,
        Self::Gc,
        Self::Memory64,
        Self::MultiMemory,
        Self::MultiValue,
        Self::ReferenceTypes,
        Self::RelaxedSimd,
        Self::Simd,
        Self::TailCall,
        Self::Threads,
        Self::WideArithmetic,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BulkMemory => "bulk-memory",
            Self::CustomPageSizes => "custom-page-sizes",
            Self::Exceptions => "exceptions",
            Self::ExtendedConst => "extended-const",
            Self::FunctionReferences => "function-references",
            Self::Gc => "gc",
            Self::Memory64 => "memory64",
            Self::MultiMemory => "multi-memory",
            Self::MultiValue => "multi-value",
            Self::ReferenceTypes => "reference-types",
            Self::RelaxedSimd => "relaxed-simd",
            Self::Simd => "simd",
            Self::TailCall => "tail-call",
            Self::Threads => "threads",
            Self::WideArithmetic => "wide-arithmetic",
        }
    }

    /// The proposal of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|proposal| proposal.name() == name)
    }

    /// What it is built on: it cannot be allowed without that.
    pub fn needs(self) -> Option<Self> {
        match self {
            Self::Gc => Some(Self::FunctionReferences),
            Self::FunctionReferences => Some(Self::ReferenceTypes),
            Self::RelaxedSimd => Some(Self::Simd),
            _ => None,
        }
    }

    /// Whether guests may use it unless the handler says otherwise.
    pub fn is_default(self) -> bool {
        !matches!(self, Self::CustomPageSizes | Self::WideArithmetic)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of [`Proposal`]s.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals(u16);

impl Proposals {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether `proposal` is allowed.
    pub fn allows(self, proposal: Proposal) -> bool {
        self.0 & proposal.bit() != 0
    }

    /// The same with `proposal` allowed, or not.
    #[must_use]
    pub fn with(self, proposal: Proposal, allowed: bool) -> Self {
        if allowed {
            Self(self.0 | proposal.bit())
        } else {
            Self(self.0 & !proposal.bit())
        }
    }

    /// A proposal that is allowed without the one that it is built on.
    pub fn lacking(self) -> Option<(Proposal, Proposal)> {
        Proposal::ALL.into_iter().find_map(|proposal| {
            let needed = proposal.needs()?;
            (self.allows(proposal) && !self.allows(needed)).then_some((proposal, needed))
        })
    }

    /// As bytes for a key.
    pub fn bits(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }
}

impl Default for Proposals {
    fn default() -> Self {
        Proposal::ALL
            .into_iter()
            .fold(Self::NONE, |all, one| all.with(one, one.is_default()))
    }
}

impl fmt::Debug for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = Proposal::ALL.into_iter().filter(|one| self.allows(*one));
        f.debug_set().entries(allowed.map(Proposal::name)).finish()
    }
}

/// Options on which a guest's code and its host must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeOptions {
    /// WASI 0.3 may be used, and is linked.
    pub wasi_p3: bool,
    /// What modules may use.
    pub proposals: Proposals,
    /// The code keeps the module's debug information, for files and lines in backtraces.
    pub lines: bool,
    /// The code counts the instructions that it executes (WasmEdge).
    pub statistics: bool,
    /// There is no code but the module itself, checked, for the interpreter (WasmEdge).
    pub interpreted: bool,
}

impl Default for CodeOptions {
    fn default() -> Self {
        Self {
            wasi_p3: false,
            proposals: Proposals::default(),
            lines: true,
            statistics: false,
            interpreted: false,
        }
    }
}

/// How much work a compiler puts into code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptLevel {
    /// Little: compiled sooner, runs slower.
    None,
    /// For speed.
    #[default]
    Speed,
    /// For speed where that does not make it longer.
    SpeedAndSize,
}

/// Options of an engine host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestOptions {
    /// See [`CodeOptions`].
    pub code: CodeOptions,
    /// Stack of the guest, in bytes.
    pub stack: u32,
    /// A trap tells where the guest was.
    pub backtrace: bool,
    /// The cap on the guest's memory, if there is one.
    pub memory_cap: Option<MemoryCap>,
    /// How long the guest may run.
    pub time_limit: Option<Duration>,
    /// The most pages that a memory of the guest may have (WasmEdge).
    pub memory_pages: Option<u32>,
    /// A directory of the node with plugins for the guest (WasmEdge).
    pub plugins: Option<String>,
}

/// How the cap on a guest's memory is applied. Its value may change while the guest runs, so it is not in the order: see
/// [`crate::notes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryCap {
    /// The handler's option, as it stands there: for messages.
    pub option: String,
    /// What a module declares as the least that it needs counts, but is not refused: it takes memory only when it is
    /// written to.
    pub admits_minimum: bool,
}

/// wasmtime's own default.
pub const DEFAULT_STACK: u32 = 512 << 10;

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            code: CodeOptions::default(),
            stack: DEFAULT_STACK,
            backtrace: true,
            memory_cap: None,
            time_limit: None,
            memory_pages: None,
            plugins: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_a_set() {
        let default = Proposals::default();
        assert!(default.allows(Proposal::Gc) && !default.allows(Proposal::WideArithmetic));
        assert_eq!(default.lacking(), None);
        let less = default.with(Proposal::ReferenceTypes, false);
        assert_eq!(
            less.lacking(),
            Some((Proposal::FunctionReferences, Proposal::ReferenceTypes))
        );
        assert_ne!(less.bits(), default.bits());
        assert_eq!(less.with(Proposal::ReferenceTypes, true), default);
        for proposal in Proposal::ALL {
            assert_eq!(Proposal::from_name(proposal.name()), Some(proposal));
        }
    }
}
