//! Images: their layouts, where containerd keeps them, and which module a container's entrypoint names.
//!
//! The shim calls [`choose`] (pure) and, when the root alone does not decide, [`containerd`]. The CLI
//! calls [`build`] (feature `build`). Nothing here runs, compiles or parses Wasm for a container.
#![forbid(unsafe_code)]

pub mod choose;
pub mod containerd;
pub mod view;

#[cfg(feature = "build")]
pub mod build;
