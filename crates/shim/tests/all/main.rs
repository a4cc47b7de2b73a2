//! The shim's binary as containerd uses it, without a containerd: called with its flags, spoken to over
//! ttrpc, killed, called again. The engine is a fake one, see `tests/fake_host.rs`. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

mod crash;
mod exec;
mod exec_linux;
mod faults;
mod harness;
mod life;
mod limits;
mod refused;
mod starts;
mod terminal;
