//! What a launched process and its shim say to each other: a few messages over a `SOCK_SEQPACKET` pair.
//!
//! One packet is one message in postcard encoding, at most [`MAX_PACKET`] bytes. End of file on the
//! child's side means that the shim is gone: the child exits. End of file on the shim's side without a
//! message means that the child died: the shim looks at its exit status.

use serde::{Deserialize, Serialize};

/// Longest packet; longer sentences are cut at a character boundary.
pub const MAX_PACKET: usize = 64 * 1024;

/// From the launched process to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The plan is executed and the guest is loaded; the process waits for [`Go`].
    Ready,
    /// It could not be done: a whole sentence for the user. The process exits after it.
    Failed(String),
    /// A worker's result, in a format that it and its caller share.
    Done(Vec<u8>),
}

/// From the shim to the launched process: run the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go;

/// The shim's end. Non-blocking, so that it can be waited for in an event loop.
#[derive(Debug)]
pub struct Control {
    // filled by sandbox-core
}
