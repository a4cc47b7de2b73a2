//! The image builder and inspector behind `skiff build` and `skiff inspect`.
//!
//! The same [`Recipe`] gives the same bytes: no time, no owner, no order of a directory gets in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the module lies in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Wasm layers, config architecture `wasm`: one manifest.
    Layer,
    /// A file in the root of an ordinary image for linux/amd64 and linux/arm64: one index.
    Root,
    /// One index with both: linux entries with the file, a Wasm entry with the layer. Runs everywhere.
    #[default]
    Combined,
    /// An OCI Wasm artifact: one manifest, config `application/vnd.wasm.config.v0+json`.
    Artifact,
}

/// A file of the host that goes into the image.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// A regular file or a directory (taken whole) of the host.
    pub from: PathBuf,
    /// Absolute path in the image.
    pub to: String,
}

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The modules: `.wasm` (core module or component) or `.wat`. Several only for the layouts layer and
    /// artifact; the entrypoint of the container then names one by its file name.
    pub modules: Vec<PathBuf>,
    /// Files beside the module.
    pub files: Vec<HostFile>,
    /// Arguments after the entrypoint.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Entrypoint; `None` is `/<file name of the first module>`. `path#function` is allowed.
    pub entrypoint: Option<String>,
    /// `USER`.
    pub user: Option<String>,
    /// `WORKDIR`.
    pub working_directory: Option<String>,
    /// The image's name: `localhost/hello:1`.
    pub name: String,
    /// Layout.
    pub layout: Layout,
}

/// What was built.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Built {
    /// Name as written to the archive (with host and tag).
    pub name: String,
    /// Digest of what the name points to.
    pub digest: String,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// One entry for each module.
    pub modules: Vec<ModuleFacts>,
}

/// What a module is, for `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
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
}

/// Facts of an image.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct ImageFacts {
    /// Name, if the archive or containerd has one.
    pub name: Option<String>,
    /// Digest of the index or manifest.
    pub digest: String,
    /// One for each manifest.
    pub entries: Vec<EntryFacts>,
}

/// Facts of one manifest.
#[derive(Clone, Debug, Default, serde::Serialize)]
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
#[derive(Clone, Debug, Default, serde::Serialize)]
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

/// Why an image could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Stub.
    #[error("not implemented yet")]
    Pending,
}

/// Builds `recipe` as an OCI archive into `output`.
///
/// # Errors
/// A module is not Wasm or not valid, a file cannot be read, or the output cannot be written.
pub fn build(recipe: &Recipe, output: &mut dyn Write) -> Result<Built, BuildError> {
    let _ = (recipe, output);
    Err(BuildError::Pending)
}

/// Reads the facts of a module's bytes (binary or text).
///
/// # Errors
/// The bytes are not valid Wasm; the sentence says what they are instead.
pub fn inspect_module(name: &str, bytes: &[u8]) -> Result<ModuleFacts, BuildError> {
    let _ = (name, bytes);
    Err(BuildError::Pending)
}

/// Reads the facts of an OCI archive, or of a bare `.wasm`/`.wat` file.
///
/// # Errors
/// The file is neither, or is damaged.
pub fn inspect_file(path: &Path) -> Result<ImageFacts, BuildError> {
    let _ = path;
    Err(BuildError::Pending)
}

/// The facts and the binary form of each module of an OCI archive, or of a bare `.wasm`/`.wat` file: Wasm layers,
/// and Wasm files of tar layers, each digest once. For `skiff cache warm`, which compiles them ahead.
///
/// # Errors
/// As [`inspect_file`].
pub fn modules_of_file(path: &Path) -> Result<Vec<(ModuleFacts, Vec<u8>)>, BuildError> {
    let _ = path;
    Err(BuildError::Pending)
}
