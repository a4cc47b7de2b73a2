//! What the node's runc can do, by its own word.

use super::{RuncError, RuncOptions, call::Call, call::Log, program};

/// `runc features`: the features document of the OCI runtime specification, as JSON.
///
/// # Errors
/// runc is not installed, or is one that does not know the command (before 1.1).
pub fn features(options: &RuncOptions) -> Result<serde_json::Value, RuncError> {
    let program = program(&options.binary_name)?;
    let answer = Call::new(&program, "features", Log::none()).ask()?;
    serde_json::from_slice(&answer).map_err(|source| RuncError::Features { program, source })
}
