//! What is refused, in a sentence that names the field.

use oci_spec::runtime::Spec;

use super::Facts;

/// A spec that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Refusal {
    /// The field of the spec, as JSON has it: `linux.resources.memory.kernel`.
    pub field: String,
    /// The rest of the sentence: what is wrong with it, and what to do.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

pub(super) fn unsupported(_spec: &Spec, _facts: &Facts) -> Result<(), Refusal> {
    Ok(())
}
