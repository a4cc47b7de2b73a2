//! What every engine host does besides its engine: it handles signals, keeps count of its guest's memory, resolves names
//! without the C library, and confines itself before its guest runs.
//!
//! A host is a process of its own (`skiff-host-<engine>`) that a shim launches with a
//! [`skiff_engine::order::HostOrder`]; it becomes the container and runs the guest in itself.

pub mod cap;
pub mod confine;
pub mod resolver;
#[expect(
    unsafe_code,
    reason = "signal handlers and Landlock have no safe wrapper"
)]
pub mod sys;
