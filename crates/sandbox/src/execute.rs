//! The execution of a plan by a process on itself.
//!
//! Called by engine hosts, compile workers and the init program, before they do anything else. One file for
//! each stage: [`namespaces`] (cgroups, namespaces, their names and settings), [`tree`] (mounts, pivot,
//! working directory), [`guest`] (what a guest's tree must not hold), [`identity`] (user, capabilities,
//! filters) and [`check`] (the kernel's own word on the result).
//!
//! All that is read from or written to `/proc` goes through [`procfs`], a private handle that no image and
//! no mount can redirect, and that is closed when the plan is executed.

use std::io;

use rustix::fs::Mode;

use crate::plan::{Namespace, Plan};
use crate::sys::process;

mod check;
mod guest;
mod identity;
mod linux_tree;
mod mountinfo;
mod namespaces;
mod procfs;
mod tree;

/// Why a plan could not be executed: what, on which object; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A step failed.
    #[error("could not {step}")]
    Step {
        /// What was to be done, with its object: `mount the volume at /data`.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The container cannot be had in this way: a whole sentence.
    #[error("{0}")]
    Refused(String),
}

impl ExecuteError {
    /// For `map_err`: a failed step, named by what `step` gives.
    fn step<S: Into<String>, E: Into<io::Error>>(
        step: impl FnOnce() -> S,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Step {
            step: step().into(),
            source: source.into(),
        }
    }
}

/// Executes `plan` on the calling process, which must have one thread: identity, namespaces and filters are a thread's
/// own, and a second one would keep the node's. That there is no other is seen with the rest, at the end.
///
/// Takes every slot that the plan names. After an error the process is in an undefined state: it must exit.
///
/// # Errors
/// See [`ExecuteError`].
pub fn execute(plan: &Plan) -> Result<(), ExecuteError> {
    // First of all, while `fsopen` still means the process's own pid namespace and nothing is in its way.
    let proc = match plan.proc {
        Some(slot) => {
            procfs::Proc::adopt(slot).map_err(ExecuteError::step(|| "find the proc file system"))?
        }
        None => procfs::Proc::open()
            .map_err(ExecuteError::step(|| "make a private proc file system"))?,
    };
    if plan.root.is_some() && !plan.new.contains(Namespace::Mount) {
        let sentence =
            "the plan changes the mount tree without a new mount namespace: it would be the node's";
        return Err(ExecuteError::Refused(sentence.to_owned()));
    }
    if plan.join_process.is_some() {
        // In the container there may be others, who would find descriptors of the node in this process
        // (CVE-2016-9962).
        process::hide().map_err(ExecuteError::step(
            || "hide the process from the container's",
        ))?;
    }
    process::die_with_parent()
        .map_err(ExecuteError::step(|| "tie the process's life to its shim"))?;
    // What is made on the way to the container has the usual permissions, whatever the shim's mask is.
    rustix::process::umask(Mode::from_raw_mode(0o022));

    let fresh = namespaces::enter(plan, &proc)?;
    let directory = match (&plan.root, &plan.linux_tree) {
        (Some(root), _) => tree::build(root, &plan.working_directory, &proc)?,
        (None, Some(tree)) => {
            linux_tree::build(tree, fresh)?;
            tree::open_working_directory(&plan.working_directory)?
        }
        (None, None) => tree::open_working_directory(&plan.working_directory)?,
    };
    for limit in &plan.rlimits {
        let step = || {
            format!(
                "set resource limit {} to {}, at most {}",
                limit.resource, limit.soft, limit.hard
            )
        };
        process::set_limit(*limit).map_err(ExecuteError::step(step))?;
    }
    namespaces::join_cgroups(&plan.processor_tasks)?;
    // Twice: root may enter directories that the user may not, as other runtimes allow, and the user may
    // enter some that root may not (a network file system that squashes root).
    let entered = tree::change_directory(&directory, &plan.working_directory);
    let status = identity::assume(plan, &proc)?;
    if entered.is_err() {
        tree::change_directory(&directory, &plan.working_directory)?;
    }
    identity::filter(plan)?;
    check::compare(plan, &status)
}
