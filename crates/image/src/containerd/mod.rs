//! containerd's gRPC API, as little of it as finding a container's image needs.
//!
//! One connection for one lookup: a shim asks once in a container's life.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::view::{ImageView, Layer};

/// Longest manifest, index or config that is read.
pub const DOCUMENT_BYTES: u64 = 4 << 20;

/// Why an image could not be looked up or a layer not be read.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Stub.
    #[error("not implemented yet")]
    Pending,
}

/// Finds the manifest and config that the container `container_id` was made from.
///
/// `socket` is containerd's own (the shim's `-address`), `namespace` containerd's namespace.
///
/// # Errors
/// The container, its image or a document of it is missing or unreadable, or containerd does not answer.
pub async fn lookup_image(socket: &Path, namespace: &str, container_id: &str) -> Result<ImageView, LookupError> {
    let _ = (socket, namespace, container_id);
    Err(LookupError::Pending)
}

/// Copies a layer's blob to `output` (a memfd, a file) and checks size and digest on the way.
///
/// # Errors
/// The layer is larger than `cap`, is not in the content store, or is not what its digest says.
pub async fn read_layer(
    socket: &Path,
    namespace: &str,
    layer: &Layer,
    cap: u64,
    output: BorrowedFd<'_>,
) -> Result<(), LookupError> {
    let _ = (socket, namespace, layer, cap, output);
    Err(LookupError::Pending)
}
