//! Black-box tests of the command `skiff`: one binary, a module for each command.
//!
//! They run as root (the cache's do need it), each in folders of its own; none touches the machine's
//! containerd, cache or configuration.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod build;
mod cache;
mod command_line;
mod containerd;
mod doctor;
mod harness;
mod inspect;
