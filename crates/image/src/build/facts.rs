//! What `skiff inspect` tells of a module and an image. Names of fields are those of its JSON.

use serde::Serialize;

/// What a module is, for `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModuleFacts {
    /// File name or layer title.
    pub name: String,
    /// Digest of the binary form.
    pub digest: String,
    /// Bytes of the binary form.
    pub bytes: u64,
    /// `module` or `component`.
    pub kind: String,
    /// `wasip1`, `wasip2`, `wasip3`, or `none` when it imports no WASI.
    pub os: String,
    /// `wasi_snapshot_preview1.fd_write`, `wasi:cli/environment@0.2.6`…
    pub imports: Vec<String>,
    /// `_start`, `memory`, `wasi:cli/run@0.2.6`…
    pub exports: Vec<String>,
    /// The world it fits: `wasi:cli/command`, `wasi:http/proxy`…, if it is a known one.
    pub world: Option<String>,
    /// Why it is no valid module, if it is none; then nothing is said of imports and exports.
    pub problem: Option<String>,
}

/// Facts of an image.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImageFacts {
    /// Name, if the archive or containerd has one.
    pub name: Option<String>,
    /// Digest of the index or manifest.
    pub digest: String,
    /// One for each manifest; one for a bare module.
    pub entries: Vec<EntryFacts>,
}

/// Facts of one manifest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EntryFacts {
    /// `linux/amd64`, `wasip1/wasm`.
    pub platform: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Media type of the config.
    pub config_type: String,
    /// Entrypoint and command.
    pub entrypoint: Vec<String>,
    /// Layers.
    pub layers: Vec<LayerFacts>,
    /// Modules: Wasm layers, and Wasm files of tar layers.
    pub modules: Vec<ModuleFacts>,
}

/// Facts of one layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayerFacts {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Size of the blob.
    pub bytes: u64,
    /// Title, if any.
    pub title: Option<String>,
}
