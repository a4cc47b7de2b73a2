//! Launches real processes through the whole path: launch, plan, program, exit. Needs root.
//!
//! One binary, so that one link does for all. Every test holds [`harness::Alone`], which lets no other run
//! beside it and looks at the end whether anything is left behind.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod attach;
mod blueprint;
mod faults;
mod guest;
mod harness;
mod identity;
mod measure;
mod namespaces;
mod pause;
mod process;
mod rootfs;
mod slim;
mod user;
