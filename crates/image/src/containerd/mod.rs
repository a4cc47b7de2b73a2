//! containerd's gRPC API, as little of it as finding a container's image needs.
//!
//! The shim calls [`lookup_image`] once in a container's life, and only when the root does not decide what
//! to run ([`crate::choose`]); then [`read_layer`] if the chosen layer is not compiled on this node yet. Each
//! opens one connection and closes it. Both run on the caller's tokio runtime.

mod client;
pub mod grpc;
mod manifest;
mod messages;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use grpc::{CallError, Code};

use crate::view::{
    ANNOTATION_TITLE, CONFIG_ARTIFACT, CONFIG_IMAGE, Digest, ImageView, LAYER_COMPONENT,
    LAYER_WASM, Layer,
};
use client::Client;

/// Longest manifest, index or config that is read: what registries take at most.
pub const DOCUMENT_BYTES: u64 = 4 << 20;

/// How many manifests of an index are looked at. Real indexes have one for each platform.
const INDEX_ENTRIES: usize = 32;

/// How deep an index may lie in an index.
const INDEX_DEPTH: usize = 4;

/// Why an image could not be looked up or a layer not be read.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// containerd cannot be talked to.
    #[error("could not ask containerd which image container {container:?} has")]
    Unreachable {
        /// Its id.
        container: String,
        /// Cause.
        #[source]
        source: CallError,
    },
    /// The container's record.
    #[error("could not look up container {container:?} in containerd")]
    Container {
        /// Its id.
        container: String,
        /// Cause.
        #[source]
        source: CallError,
    },
    /// The image's record.
    #[error("could not look up image {image:?} in containerd")]
    Image {
        /// Its name.
        image: String,
        /// Cause.
        #[source]
        source: CallError,
    },
    /// The image was removed or never pulled here.
    #[error("image {image:?} is not in containerd any more; pull it again")]
    ImageGone {
        /// Its name.
        image: String,
    },
    /// A blob could not be read.
    #[error("could not read {what} {digest} from containerd's content store")]
    Blob {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Cause.
        #[source]
        source: CallError,
    },
    /// A blob is not there.
    #[error("{what} {digest} is not in containerd's content store; pull the image again")]
    BlobGone {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// A digest is none, or of another algorithm.
    #[error("{what} has the digest {digest:?}, which is not a SHA-256 one")]
    DigestForm {
        /// What has it.
        what: &'static str,
        /// The digest.
        digest: String,
    },
    /// A blob is larger than what is taken.
    #[error("{what} {digest} has {size} bytes, more than the {cap} that are taken")]
    TooLarge {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        cap: u64,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error(
        "{what} {digest} has {found} bytes in containerd's content store instead of {expected}; remove the image and pull it again"
    )]
    Length {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Size by the descriptor.
        expected: u64,
        /// Size that came.
        found: u64,
    },
    /// A blob's bytes are not those that its digest names.
    #[error(
        "{what} {digest} is damaged in containerd's content store: its bytes have the digest {found}; remove the image and pull it again"
    )]
    Corrupt {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A document is not JSON, or not of its kind.
    #[error("{what} {digest} is malformed")]
    Document {
        /// `manifest`, `config`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// A document is neither an index nor a manifest.
    #[error("image {image:?} is neither an index nor a manifest ({digest})")]
    NotAnImage {
        /// Its name.
        image: String,
        /// The document.
        digest: Digest,
    },
    /// No manifest of the index fits the node, or none is here.
    #[error(
        "image {image:?} has no manifest on this node for linux/{architecture} or a Wasm platform; pull it again"
    )]
    NoManifest {
        /// Its name.
        image: String,
        /// The node's architecture.
        architecture: &'static str,
    },
    /// The layer's bytes could not be stored.
    #[error("could not store layer {digest}")]
    Store {
        /// Its digest.
        digest: Digest,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

impl LookupError {
    /// Whether containerd knows no such container, or has its image no more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Container { source, .. } => source.is_not_found(),
            Self::ImageGone { .. } | Self::BlobGone { .. } => true,
            _ => false,
        }
    }
}

impl LookupError {
    fn blob(what: &'static str, digest: &Digest, source: CallError) -> Self {
        let digest = digest.clone();
        if source.is_not_found() {
            Self::BlobGone { what, digest }
        } else {
            Self::Blob {
                what,
                digest,
                source,
            }
        }
    }
}

/// Finds the manifest and config that the container `container_id` was made from.
///
/// `socket` is containerd's own (the shim's `-address`), `namespace` containerd's namespace. Only what lies
/// on this node is read. Of an index, the manifest is taken whose layers are the parent of the container's
/// snapshot, since that is the one which containerd unpacked for it; when none is (a snapshotter with names
/// of its own), the one that containerd takes by default: the node's platform, else a Wasm entry.
///
/// A container without an image (`ctr run --rootfs`) gets a view without layers.
///
/// # Errors
/// The container, its image or a document of it is missing or unreadable, or containerd does not answer.
pub async fn lookup_image(
    socket: &Path,
    namespace: &str,
    container_id: &str,
) -> Result<ImageView, LookupError> {
    lookup_image_within(grpc::PATIENCE, socket, namespace, container_id).await
}

async fn lookup_image_within(
    patience: Duration,
    socket: &Path,
    namespace: &str,
    container_id: &str,
) -> Result<ImageView, LookupError> {
    let container = || container_id.to_owned();
    let client = Client::open(socket, namespace, patience)
        .await
        .map_err(|source| LookupError::Unreachable {
            container: container(),
            source,
        })?;
    let record = client
        .container(container_id)
        .await
        .map_err(|source| LookupError::Container {
            container: container(),
            source,
        })?;
    if record.image.is_empty() {
        return Ok(ImageView::of_nothing());
    }
    let image = record.image.clone();
    let target = match client.image(&image).await {
        Ok(target) => target,
        Err(error) if error.is_not_found() => return Err(LookupError::ImageGone { image }),
        Err(source) => return Err(LookupError::Image { image, source }),
    };
    let target = manifest::Descriptor {
        media_type: target.media_type,
        digest: target.digest,
        size: u64::try_from(target.size).unwrap_or(0),
        ..manifest::Descriptor::default()
    };
    let (digest, document) = document::<manifest::Document>(&client, "manifest", &target).await?;
    let Some(entries) = document.manifests else {
        let Some(config) = document.config else {
            return Err(LookupError::NotAnImage { image, digest });
        };
        let config_type = config.media_type.clone();
        let config = config_of(&client, &config).await?;
        return view(
            image,
            config_type,
            &config,
            document.layers.as_deref().unwrap_or_default(),
        );
    };
    let parent = match client
        .snapshot_parent(&record.snapshotter, &record.snapshot_key)
        .await
    {
        Ok(parent) => Some(parent),
        Err(error) => {
            log::warn!(
                "could not look up snapshot {:?}: {error}",
                record.snapshot_key
            );
            None
        }
    };
    from_index(&client, image, entries, parent.as_deref()).await
}

/// Copies a layer's blob to `output` (a memfd, a file) and checks size and digest on the way. After an
/// error, what `output` holds is worth nothing.
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
    const WHAT: &str = "layer";
    let digest = &layer.digest;
    if layer.size > cap {
        return Err(LookupError::TooLarge {
            what: WHAT,
            digest: digest.clone(),
            size: layer.size,
            cap,
        });
    }
    let stored = |source| LookupError::Store {
        digest: digest.clone(),
        source,
    };
    let mut output = File::from(output.try_clone_to_owned().map_err(stored)?);
    let client = Client::open(socket, namespace, grpc::PATIENCE)
        .await
        .map_err(|source| LookupError::blob(WHAT, digest, source))?;
    // A truncated blob is told by its size before a byte of it is copied.
    let size = client
        .blob_size(digest)
        .await
        .map_err(|source| LookupError::blob(WHAT, digest, source))?;
    if size != layer.size {
        return Err(LookupError::Length {
            what: WHAT,
            digest: digest.clone(),
            expected: layer.size,
            found: size,
        });
    }
    client
        .read(WHAT, digest, layer.size, |piece| {
            output.write_all(piece).map_err(stored)
        })
        .await
}

/// Walks an index to the manifest that the container was made from.
async fn from_index(
    client: &Client,
    image: String,
    entries: Vec<manifest::Descriptor>,
    parent: Option<&str>,
) -> Result<ImageView, LookupError> {
    let architecture = manifest::node_architecture();
    let mut fallback = None;
    let mut level = entries;
    let mut left = INDEX_ENTRIES;
    for _ in 0..INDEX_DEPTH {
        let mut below = Vec::new();
        for entry in manifest::candidates(&level, architecture) {
            if left == 0 {
                break;
            }
            left -= 1;
            // A pull for one platform leaves the manifests of the others out.
            let found = match document::<manifest::Document>(client, "manifest", entry).await {
                Err(LookupError::BlobGone { .. }) => continue,
                found => found?.1,
            };
            if let Some(entries) = found.manifests {
                below.extend(entries);
                continue;
            }
            let Some(descriptor) = found.config else {
                continue;
            };
            let config = match config_of(client, &descriptor).await {
                Err(LookupError::BlobGone { .. }) => continue,
                config => config?,
            };
            let chain = manifest::chain_id(config.rootfs.diff_ids.as_deref().unwrap_or_default());
            let made_from = parent.is_some_and(|parent| manifest::snapshot_is_of(parent, &chain));
            let found = (
                descriptor.media_type,
                config,
                found.layers.unwrap_or_default(),
            );
            if made_from {
                return view(image, found.0, &found.1, &found.2);
            }
            fallback.get_or_insert(found);
        }
        if below.is_empty() {
            break;
        }
        level = below;
    }
    match fallback {
        Some((config_type, config, layers)) => view(image, config_type, &config, &layers),
        None => Err(LookupError::NoManifest {
            image,
            architecture,
        }),
    }
}

/// Reads a config. One of a type that is not known may be anything, so it is not looked into.
async fn config_of(
    client: &Client,
    descriptor: &manifest::Descriptor,
) -> Result<manifest::Config, LookupError> {
    match descriptor.media_type.as_str() {
        CONFIG_IMAGE | crate::view::CONFIG_DOCKER | CONFIG_ARTIFACT => {
            Ok(document(client, "config", descriptor).await?.1)
        }
        _ => Ok(manifest::Config::default()),
    }
}

/// Reads a JSON document and checks its digest.
async fn document<T: DeserializeOwned>(
    client: &Client,
    what: &'static str,
    descriptor: &manifest::Descriptor,
) -> Result<(Digest, T), LookupError> {
    let digest = digest(what, &descriptor.digest)?;
    let size = descriptor.size;
    if size > DOCUMENT_BYTES {
        return Err(LookupError::TooLarge {
            what,
            digest,
            size,
            cap: DOCUMENT_BYTES,
        });
    }
    let mut bytes = Vec::new();
    client
        .read(what, &digest, size, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
    match serde_json::from_slice(&bytes) {
        Ok(document) => Ok((digest, document)),
        Err(source) => Err(LookupError::Document {
            what,
            digest,
            source,
        }),
    }
}

fn digest(what: &'static str, text: &str) -> Result<Digest, LookupError> {
    Digest::parse(text).ok_or_else(|| LookupError::DigestForm {
        what,
        digest: text.chars().take(200).collect(),
    })
}

fn view(
    name: String,
    config_type: String,
    config: &manifest::Config,
    layers: &[manifest::Descriptor],
) -> Result<ImageView, LookupError> {
    let mut view = ImageView {
        name,
        config_type,
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        layers: Vec::new(),
    };
    for layer in layers {
        let digest = match digest("layer", &layer.digest) {
            Ok(digest) => digest,
            // What the root was unpacked from is not read again, so any algorithm will do there.
            Err(_) if !matches!(layer.media_type.as_str(), LAYER_WASM | LAYER_COMPONENT) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let title = layer
            .annotations
            .as_ref()
            .and_then(|all| all.get(ANNOTATION_TITLE))
            .cloned();
        view.layers.push(Layer {
            media_type: layer.media_type.clone(),
            digest,
            size: layer.size,
            title,
        });
    }
    Ok(view)
}

#[cfg(test)]
mod tests;
