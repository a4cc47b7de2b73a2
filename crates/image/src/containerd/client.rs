//! The calls to containerd that finding an image takes, each as one function. Used by [`super`].

use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::LookupError;
use super::grpc::{CallError, Connection};
use super::messages as m;
use crate::view::Digest;

/// A connection to containerd, for one namespace.
#[derive(Debug)]
pub(super) struct Client {
    connection: Connection,
}

impl Client {
    pub(super) async fn open(
        socket: &Path,
        namespace: &str,
        patience: Duration,
    ) -> Result<Self, CallError> {
        // The address may be given as containerd's clients take it.
        let socket = socket
            .to_str()
            .and_then(|text| text.strip_prefix("unix://"))
            .map_or(socket, Path::new);
        Ok(Self {
            connection: Connection::open(socket, namespace, patience).await?,
        })
    }

    pub(super) async fn container(&self, id: &str) -> Result<m::Container, CallError> {
        const METHOD: &str = "containers.v1.Containers/Get";
        let answer: m::GetContainerResponse = self
            .connection
            .unary(METHOD, &m::GetContainerRequest { id: id.to_owned() })
            .await?;
        answer.container.ok_or_else(|| empty(METHOD))
    }

    pub(super) async fn image(&self, name: &str) -> Result<m::Descriptor, CallError> {
        const METHOD: &str = "images.v1.Images/Get";
        let answer: m::ImageEnvelope = self
            .connection
            .unary(
                METHOD,
                &m::GetImageRequest {
                    name: name.to_owned(),
                },
            )
            .await?;
        answer
            .image
            .and_then(|image| image.target)
            .ok_or_else(|| empty(METHOD))
    }

    /// The parent of a snapshot: empty for one without layers.
    pub(super) async fn snapshot_parent(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> Result<String, CallError> {
        const METHOD: &str = "snapshots.v1.Snapshots/Stat";
        let request = m::StatSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
        };
        let answer: m::StatSnapshotResponse = self.connection.unary(METHOD, &request).await?;
        Ok(answer.info.ok_or_else(|| empty(METHOD))?.parent)
    }

    /// The size of a blob, by the content store.
    pub(super) async fn blob_size(&self, digest: &Digest) -> Result<u64, CallError> {
        const METHOD: &str = "content.v1.Content/Info";
        let request = m::ContentInfoRequest {
            digest: digest.to_string(),
        };
        let answer: m::ContentInfoResponse = self.connection.unary(METHOD, &request).await?;
        let size = answer.info.ok_or_else(|| empty(METHOD))?.size;
        u64::try_from(size).map_err(|_| CallError::Malformed {
            method: METHOD,
            detail: format!("a blob has {size} bytes"),
        })
    }

    /// Reads a whole blob piece by piece into `sink`, and checks that it has `size` bytes and `digest`.
    /// What `sink` got is worth nothing when this fails. `what` is the blob, for messages.
    pub(super) async fn read(
        &self,
        what: &'static str,
        digest: &Digest,
        size: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), LookupError>,
    ) -> Result<(), LookupError> {
        const METHOD: &str = "content.v1.Content/Read";
        let failed = |source| LookupError::blob(what, digest, source);
        let request = m::ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        };
        let mut pieces = self
            .connection
            .stream::<m::ReadContentResponse>(METHOD, &request)
            .await
            .map_err(failed)?;
        let mut hash = Sha256::new();
        let mut length: u64 = 0;
        while let Some(piece) = pieces.next().await.map_err(failed)? {
            length += piece.data.len() as u64;
            if length > size {
                break;
            }
            hash.update(&piece.data);
            sink(&piece.data)?;
        }
        if length != size {
            return Err(LookupError::Length {
                what,
                digest: digest.clone(),
                expected: size,
                found: length,
            });
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found != *digest {
            return Err(LookupError::Corrupt {
                what,
                digest: digest.clone(),
                found,
            });
        }
        Ok(())
    }
}

fn empty(method: &'static str) -> CallError {
    CallError::Malformed {
        method,
        detail: "the object is missing from it".to_owned(),
    }
}
