//! One Linux container, in three moves: a pure [`plan`], its [`execute`]-ion by a process on itself,
//! and the [`launch`] of that process by the shim.
//!
//! The shim turns an OCI spec and the node's facts into a [`spec::Blueprint`] (feature `planner`, no I/O),
//! opens what it names (mount trees, namespaces, cgroups: all as file descriptors) and launches an executable.
//! The executable finds the plan on a sealed memfd and executes it on itself before it does anything else.
//! This crate knows nothing of Wasm or of containerd. All unsafe code is in [`sys`].

pub mod cgroup;
pub mod control;
pub mod execute;
pub mod filter;
pub mod launch;
pub mod orphans;
pub mod plan;
pub mod programs;
#[cfg(feature = "planner")]
pub mod rootfs;
pub mod sentence;
#[cfg(feature = "planner")]
pub mod slim;
#[cfg(feature = "planner")]
pub mod spec;
pub mod sys;
pub mod systemd;
#[cfg(feature = "planner")]
pub mod user;
