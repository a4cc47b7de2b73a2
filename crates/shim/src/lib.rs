//! containerd's shim for Wasm pods.
//!
//! The binary `containerd-shim-skiff-v1`, called by containerd in four ways ([`command_line::Action`]):
//! [`start`] makes the daemon of a pod, [`serve`] is the daemon, [`delete`] cleans up after it, [`info`]
//! says what this is. The daemon answers the Task service ([`service`]) from the state of its containers
//! ([`pod`], [`task`]), makes them ([`create`]), and tells containerd what happens to them ([`events`]).
//!
//! It links no engine and never forks: containers are other executables, launched by `skiff_sandbox` from
//! the process's first thread, to which the kernel ties their lives. The only other thread is one of the
//! runtime's that hashes a module's bytes or verifies its code, and ends when it has been idle.

pub mod bootstrap;
pub mod command_line;
pub mod config_file;
pub mod connections;
pub mod create;
pub mod delete;
pub mod engine;
pub mod events;
pub mod exec;
pub mod exit_record;
pub mod info;
pub mod last_words;
mod launching;
pub mod leftovers;
pub mod logging;
pub mod memory_cap;
pub mod module;
pub mod oom;
pub mod options;
pub mod pause;
pub mod pod;
pub mod process;
pub mod runc;
pub mod serve;
pub mod service;
pub mod socket;
pub mod start;
pub mod stats;
pub mod status;
pub mod stdio;
#[expect(unsafe_code, reason = "registering a descriptor with the event loop")]
mod sys;
pub mod task;
pub mod terminal;
pub mod termination;
pub mod update;
