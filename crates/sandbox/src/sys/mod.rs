//! The system calls, as safe functions on file descriptors. All unsafe code of the crate is below here.
//!
//! Called by [`crate::execute`] (in the launched process), [`crate::launch`] and [`crate::rootfs`] (in the
//! shim) and by the crates that gather a container's mounts. `rustix` is used where it has the call;
//! what it lacks is a raw system call with its argument structure defined here.

#[expect(unsafe_code, reason = "bpf has no wrapper")]
pub mod bpf;
pub mod capability;
#[expect(
    unsafe_code,
    reason = "clone3 on an own stack, and what runs between it and exec"
)]
pub(crate) mod clone;
#[expect(
    unsafe_code,
    reason = "execveat, which replaces the process, has no safe wrapper"
)]
pub mod exec;
#[expect(unsafe_code, reason = "ioctls of loop devices")]
pub mod loop_device;
pub mod memory;
#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
pub mod mount;
#[expect(unsafe_code, reason = "an ioctl of namespace files")]
pub mod namespace;
pub mod path;
#[expect(
    unsafe_code,
    reason = "prlimit by number, set*id for the whole process, adopting inherited descriptors"
)]
pub mod process;
#[expect(
    unsafe_code,
    reason = "the seccomp system call takes a pointer to a program"
)]
pub mod seccomp;
#[cfg(feature = "planner")]
#[expect(
    unsafe_code,
    reason = "clone on an own stack, and what runs in that child"
)]
pub(crate) mod user;
