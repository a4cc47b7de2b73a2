//! Compile worker and engine host, launched as a shim launches them, with guests written out as text.
//!
//! Needs root: it makes namespaces and mounts, all of which are gone with the processes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod components;
mod confinement;
mod failures;
mod harness;
mod modules;
mod programs;
mod signals;
mod start;
mod streams;
mod toolbox;
