//! Capability sets of the calling thread.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::plan::Capabilities;

/// The number of the highest capability that the kernel knows.
///
/// # Errors
/// None are expected.
pub fn highest() -> io::Result<u32> {
    // PR_CAPBSET_READ answers EINVAL for numbers that are no capability.
    for number in (0..64).rev() {
        match rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        )) {
            Ok(_) => return Ok(number),
            Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(rustix::io::Errno::INVAL.into())
}

/// Drops from the bounding set what `keep` does not have. Needs `CAP_SETPCAP`.
///
/// # Errors
/// `EPERM` without it.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for number in 0..=highest()? {
        let bit = 1 << number;
        let capability = CapabilitySet::from_bits_retain(bit);
        // What is gone already needs no right to be dropped again.
        if keep & bit == 0 && rustix::thread::capability_is_in_bounding_set(capability)? {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Sets effective, permitted and inheritable as `sets` says, then ambient.
///
/// # Errors
/// `EPERM` for what the process does not have, or for ambient ones that are not permitted and inheritable.
pub fn set(sets: &Capabilities) -> io::Result<()> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective),
            permitted: CapabilitySet::from_bits_retain(sets.permitted),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )?;
    rustix::thread::clear_ambient_capability_set()?;
    for number in (0..64).filter(|number| sets.ambient & (1 << number) != 0) {
        rustix::thread::configure_capability_in_ambient_set(
            CapabilitySet::from_bits_retain(1 << number),
            true,
        )?;
    }
    Ok(())
}

/// Puts every permitted capability in force. After a change of the user id with [`keep_over_uid`] none is.
///
/// # Errors
/// None are expected.
pub fn raise_effective() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// The permitted capabilities survive a change of the user id from 0 (`PR_SET_KEEPCAPS`), or not.
///
/// # Errors
/// None are expected.
pub fn keep_over_uid(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}
