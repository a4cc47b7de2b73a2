//! The harness of the tests that need root and a real containerd.
//!
//! A test starts a [`Node`] (a containerd of its own, with everything it owns in one directory), imports
//! an [`image::Image`] and runs it. When the node is dropped it looks whether anything was left behind
//! (processes, mounts, cgroups, sockets, files: [`residue`]), which fails the test, and removes itself.
//!
//! `test/run.sh` builds what is needed and starts the tests in `test/tests/`.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod command;
pub mod guest;
pub mod http;
pub mod image;
pub mod inside;
pub mod node;
pub mod pki;
pub mod process;
pub mod raw;
pub mod registry;
pub mod residue;
pub mod runner;
pub mod sweep;
pub mod tools;
pub mod upstream;

pub use node::{Node, Version};
