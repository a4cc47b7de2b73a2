//! The contract between the shim, engine hosts and compile workers.
//!
//! A host is an executable named `skiff-host-<engine>` beside the shim; a worker `skiff-compile-<engine>`.
//! Both are launched by [`skiff_sandbox::launch`] and find their order (postcard) on
//! [`skiff_sandbox::plan::ORDER_FD`]. They execute the plan in it on themselves, then do their work.
//! No engine is linked here, and this crate knows none by more than its name.
//!
//! With the feature `compile`, [`compile`] drives the workers and keeps their results in the node's cache.

#[cfg(feature = "compile")]
pub mod compile;
pub mod exit;
pub mod module;
pub mod notes;
pub mod options;
pub mod order;
pub mod service;
