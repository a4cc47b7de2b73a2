//! An OCI seccomp profile, compiled to a program for the kernel.

use oci_spec::runtime::LinuxSeccomp;

use super::Refusal;
use crate::plan::SeccompFilter;

/// Compiles a profile.
///
/// # Errors
/// Something in it is not supported, or libseccomp refuses it.
pub fn compile(profile: &LinuxSeccomp) -> Result<SeccompFilter, Refusal> {
    let _ = profile;
    Err(Refusal::new("linux.seccomp", "not written yet"))
}
