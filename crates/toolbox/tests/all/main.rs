//! The tools on this machine's own target: beside another box of tools, and by themselves. That they do the same as a
//! guest is tested with the engine.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod beside;
mod harness;
mod table;
mod tree;
