//! The JSON documents that the builder writes and the inspector reads. Fields are in a fixed order and maps
//! are sorted, so that the same image is the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::view::Digest;

pub(super) const TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Layers of Wasm images are not compressed: registries and nodes compress on the wire and on disk if they care, and
/// the bytes of a compressor change with its version.
pub(super) const TYPE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Those of an image as large as Skiff's own are.
pub(super) const TYPE_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            ..Self::default()
        }
    }

    pub(super) fn on(self, os: &str, architecture: &str) -> Self {
        let platform = Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: None,
        };
        Self {
            platform: Some(platform),
            ..self
        }
    }

    pub(super) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

/// An index or a manifest. Written, exactly one of `manifests` and `config` is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    pub(super) schema_version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<Vec<Descriptor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Descriptor>>,
}

/// A config of an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) config: Process,
    pub(super) rootfs: Rootfs,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(super) history: Vec<History>,
}

/// Where a layer came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) created_by: String,
    pub(super) comment: String,
    pub(super) empty_layer: bool,
}

/// What a container of the image runs. Field names are Docker's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Process {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(super) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(super) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(super) cmd: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) working_dir: String,
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rootfs {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Digests of the root's layers, unpacked: of the tar layers only. containerd compares their number
    /// with that of the manifest's layers of an image type, and Wasm layers are none.
    #[serde(deserialize_with = "or_default")]
    pub(super) diff_ids: Vec<String>,
}

/// The config of an OCI Wasm artifact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArtifactConfig {
    /// The format wants a time; the same input must give the same bytes.
    pub(super) created: &'static str,
    pub(super) architecture: &'static str,
    pub(super) os: String,
    pub(super) layer_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) component: Option<ArtifactComponent>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ArtifactComponent {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    pub(super) target: Option<String>,
}

/// Go writes empty lists and maps as `null`.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
