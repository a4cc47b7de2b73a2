//! All unsafe code of the host: functions of the C library that WasmEdge's library calls, replaced under their own names.
//! The linker exports them from the executable since the library refers to them.

pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod stack;
pub(crate) mod statistics;
