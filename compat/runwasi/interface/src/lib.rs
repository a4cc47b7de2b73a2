//! What an engine sees of runwasi's crate `containerd-shim-wasm` 1.0.1: the traits that it implements, and what it is
//! given. Of the rest of that crate (a shim, a sandbox, clients of containerd and of D-Bus: 250 crates) Skiff needs
//! nothing, since its own are in their place.
//!
//! This workspace takes it in the place of the crate on crates.io (`[patch.crates-io]` in its `Cargo.toml`), so that an
//! engine's sources and its dependency stay what they are. What is not here is what no engine has a use for under Skiff:
//! `Cli` and `Config`, by which runwasi's shim is started.

pub mod sandbox;
pub mod shim;
