//! What `inspect` and `warm` are pointed at: a file, an archive, or an image in containerd.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

use crate::arguments::Place;
use crate::ctr;

/// A file with the bytes of what was asked for.
pub(crate) struct Target {
    path: PathBuf,
    /// Holds an image exported from containerd; removed with this.
    _export: Option<NamedTempFile>,
}

impl Target {
    /// Finds `text`: an existing file first, else an image of containerd's.
    pub(crate) fn find(text: &str, place: &Place) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if path.is_dir() {
            bail!(
                "{text} is a folder: name a .wasm file, an OCI archive (.tar), or an image in containerd"
            );
        }
        if path.exists() {
            if is_gzip(path) {
                bail!("{text} is compressed: `gunzip {text}` first");
            }
            return Ok(Self {
                path: path.to_owned(),
                _export: None,
            });
        }
        if is_path(text) {
            bail!("there is no file {text}");
        }
        let export = NamedTempFile::with_suffix(".tar")
            .context("could not make a temporary file for the image")?;
        ctr::export(place, text, export.path())?;
        Ok(Self {
            path: export.path().to_owned(),
            _export: Some(export),
        })
    }

    /// As [`Target::find`], for those who can use an image's folder too.
    pub(crate) fn find_or_folder(text: &str, place: &Place) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if path.join("index.json").is_file() {
            return Ok(Self {
                path: path.to_owned(),
                _export: None,
            });
        }
        Self::find(text, place)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// `docker save | gzip` is a habit of many. What is read from a pipe (`<(…)`) is gone: it is left alone.
fn is_gzip(path: &Path) -> bool {
    let mut magic = [0; 2];
    path.is_file()
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut magic))
            .is_ok()
        && magic == [0x1f, 0x8b]
}

/// Whether a name can only have been meant as a file's.
fn is_path(text: &str) -> bool {
    let ending = Path::new(text)
        .extension()
        .and_then(|ending| ending.to_str());
    text.starts_with(['/', '.', '~'])
        || matches!(ending, Some("wasm" | "wat" | "tar" | "gz" | "tgz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_images_are_told_apart() {
        for path in [
            "/a",
            "./a",
            "../a",
            "~/a",
            "a.wasm",
            "dir/a.wat",
            "hello.tar",
        ] {
            assert!(is_path(path), "{path}");
        }
        for image in [
            "hello",
            "localhost/hello:1",
            "registry.example/app@sha256:00",
            "docker.io/library/a:1.wasm2",
        ] {
            assert!(!is_path(image), "{image}");
        }
    }
}
