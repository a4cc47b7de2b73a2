//! Who the process is from now on: ids, capabilities, no_new_privs and the container's seccomp filter.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;

use super::ExecuteError;
use super::procfs::Proc;
use crate::plan::Plan;
use crate::sys::{capability, process, seccomp};

/// Takes the plan's identity. Answers the process's own status file, opened before any filter.
pub(super) fn assume(plan: &Plan, proc: &Proc) -> Result<OwnedFd, ExecuteError> {
    let identity = &plan.identity;
    // The bounding set first: to drop from it takes a capability.
    capability::limit_bounding(plan.capabilities.bounding).map_err(ExecuteError::step(
        || "limit the bounding set of capabilities",
    ))?;
    capability::keep_over_uid(true).map_err(ExecuteError::step(
        || "keep capabilities over the change of user",
    ))?;
    // Groups before gid before uid: each needs what the next one takes away.
    process::set_groups(&identity.groups).map_err(ExecuteError::step(|| {
        format!("set the supplementary groups {:?}", identity.groups)
    }))?;
    process::set_gid(identity.gid).map_err(ExecuteError::step(|| {
        format!("become group {}", identity.gid)
    }))?;
    process::set_uid(identity.uid).map_err(ExecuteError::step(|| {
        format!("become user {}", identity.uid)
    }))?;
    capability::keep_over_uid(false)
        .map_err(ExecuteError::step(|| "end the keeping of capabilities"))?;
    if !plan.no_new_privileges {
        // Without no_new_privs a filter can be loaded with CAP_SYS_ADMIN only, so now. The filter must
        // allow what little is still to come, as with other runtimes.
        capability::raise_effective().map_err(ExecuteError::step(
            || "raise capabilities for the seccomp filter",
        ))?;
        load_filter(plan)?;
    }
    capability::set(&plan.capabilities).map_err(ExecuteError::step(|| "set the capabilities"))?;
    rustix::process::umask(Mode::from_raw_mode(identity.umask.unwrap_or(0o022)));
    if let Some(profile) = &plan.apparmor_profile {
        change_profile(profile, proc).map_err(ExecuteError::step(|| {
            format!("change to the AppArmor profile {profile}: is it loaded on this node?")
        }))?;
    }
    // The change of ids has undone it.
    process::die_with_parent()
        .map_err(ExecuteError::step(|| "tie the process's life to its shim"))?;
    proc.file(Path::new("self/status"))
        .map_err(ExecuteError::step(|| "open the process's status"))
}

/// At once, and not at the next exec, which an engine host never makes. After the last change of
/// credentials, because the kernel takes the word only from those that opened the file; before
/// no_new_privs, under which a profile could only become stricter.
fn change_profile(profile: &str, proc: &Proc) -> std::io::Result<()> {
    let word = format!("changeprofile {profile}");
    match proc.write(Path::new("self/attr/apparmor/current"), &word) {
        // Kernels before 5.8 have one file for whichever security module is in force.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            proc.write(Path::new("self/attr/current"), &word)
        }
        result => result,
    }
}

/// Ends the gaining of privileges and loads the filter, where [`assume`] has not.
pub(super) fn filter(plan: &Plan) -> Result<(), ExecuteError> {
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true)
            .map_err(ExecuteError::step(|| "set no_new_privs"))?;
        load_filter(plan)?;
    }
    Ok(())
}

fn load_filter(plan: &Plan) -> Result<(), ExecuteError> {
    plan.seccomp.as_ref().map_or(Ok(()), |filter| {
        seccomp::load(filter).map_err(ExecuteError::step(
            || "load the container's seccomp profile",
        ))
    })
}
