//! What an engine is told of a guest.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

/// One guest.
pub trait RuntimeContext: Send + Sync {
    /// Its arguments, the entrypoint first.
    fn args(&self) -> &[String];

    /// Its environment, `NAME=value`.
    fn envs(&self) -> &[String];

    /// What is to be run.
    fn entrypoint(&self) -> Entrypoint<'_>;
}

/// What is to be run: of `/bin/app.wasm#work`, the function `work` of the module named `app`.
#[derive(Debug)]
pub struct Entrypoint<'a> {
    /// The function: `_start` unless another is named.
    pub func: String,
    /// The module's name: its file's, without the extension.
    pub name: Option<String>,
    /// The first argument, as it is.
    pub arg0: Option<&'a Path>,
    /// Where the module is.
    pub source: Source<'a>,
}

/// Where a module is.
#[derive(Debug)]
pub enum Source<'a> {
    /// A file.
    File(PathBuf),
    /// The image's layers of types that the engine supports.
    Oci(&'a [WasmLayer]),
}

/// A layer of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WasmLayer {
    /// What the manifest says of it.
    pub config: Descriptor,
    /// The bytes are what the engine's compiler made of it.
    pub precompiled: bool,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub layer: Vec<u8>,
}

const ONE_MODULE: &str = "only a single module is supported when using images with OCI layers";

impl<'a> Source<'a> {
    /// The bytes of the one module that it is.
    ///
    /// # Errors
    /// It cannot be read, or is several layers.
    pub fn as_bytes(&self) -> anyhow::Result<Cow<'a, [u8]>> {
        match self {
            Self::File(path) => {
                let path = find(path).context("module not found")?;
                Ok(Cow::Owned(std::fs::read(path)?))
            }
            Self::Oci([module]) => Ok(Cow::Borrowed(&module.layer)),
            Self::Oci(_) => bail!(ONE_MODULE),
        }
    }

    /// Whether these bytes are what the engine's compiler made.
    ///
    /// # Errors
    /// It is several layers.
    pub fn is_precompiled(&self) -> anyhow::Result<bool> {
        match self {
            Self::File(_) => Ok(false),
            Self::Oci([module]) => Ok(module.precompiled),
            Self::Oci(_) => bail!(ONE_MODULE),
        }
    }
}

/// A file by its path, or by its name alone in the folders of `PATH` or in the working directory.
pub(crate) fn find(file: &Path) -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let folders: Vec<PathBuf> = if file.components().count() > 1 {
        vec![here]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).chain([here]).collect()
    };
    folders
        .into_iter()
        .filter_map(|folder| folder.join(file).canonicalize().ok())
        .find(|path| path.is_file())
}

/// What a binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmBinaryType {
    /// A core module.
    Module,
    /// A component.
    Component,
}

impl WasmBinaryType {
    /// By the first bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.get(..8)? {
            [0, b'a', b's', b'm', _, _, 0, 0] => Some(Self::Module),
            [0, b'a', b's', b'm', _, _, 1, 0] => Some(Self::Component),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_told_apart() {
        assert_eq!(
            WasmBinaryType::from_bytes(b"\0asm\x01\0\0\0"),
            Some(WasmBinaryType::Module)
        );
        assert_eq!(
            WasmBinaryType::from_bytes(b"\0asm\x0d\0\x01\0"),
            Some(WasmBinaryType::Component)
        );
        for other in [&b"(module)"[..], b"\0asm", b""] {
            assert_eq!(WasmBinaryType::from_bytes(other), None);
        }
    }

    #[test]
    fn a_file_is_a_source_too() {
        let source = Source::File(PathBuf::from("Cargo.toml"));
        assert!(source.as_bytes().unwrap().starts_with(b"[package]"));
        assert!(!source.is_precompiled().unwrap());
        Source::File(PathBuf::from("/missing.wasm"))
            .as_bytes()
            .unwrap_err();
        Source::Oci(&[]).is_precompiled().unwrap_err();
    }
}
