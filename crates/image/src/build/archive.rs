//! The OCI archive: a tar of `oci-layout`, `index.json` and the blobs, each once, in the order of their
//! digests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use serde::Serialize;
use tar::{EntryType, Header};

use super::BuildError;
use super::document::{Descriptor, Document, TYPE_INDEX};
use super::tree::TarLayer;
use crate::view::Digest;

/// The archive while it is put together.
#[derive(Debug, Default)]
pub(super) struct Archive<'a> {
    blobs: BTreeMap<Digest, Blob<'a>>,
}

#[derive(Debug)]
enum Blob<'a> {
    Bytes(Vec<u8>),
    Borrowed(&'a [u8]),
    File(&'a File, u64),
}

impl<'a> Archive<'a> {
    pub(super) fn bytes(&mut self, media_type: &str, bytes: &'a [u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let descriptor = Descriptor::new(media_type, &digest, bytes.len() as u64);
        self.blobs.insert(digest, Blob::Borrowed(bytes));
        descriptor
    }

    pub(super) fn layer(&mut self, media_type: &str, layer: &'a TarLayer) -> Descriptor {
        self.blobs
            .insert(layer.digest.clone(), Blob::File(&layer.file, layer.size));
        Descriptor::new(media_type, &layer.digest, layer.size)
    }

    pub(super) fn json(&mut self, media_type: &str, value: &impl Serialize) -> Descriptor {
        let bytes =
            serde_json::to_vec(value).expect("documents of strings and numbers are always JSON");
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, &digest, bytes.len() as u64);
        self.blobs.insert(digest, Blob::Bytes(bytes));
        descriptor
    }

    /// Writes the archive, in which `root` is the one thing with a name (in full, with host and tag). Returns its length.
    pub(super) fn write_named(
        self,
        root: Descriptor,
        name: &str,
        output: &mut dyn Write,
    ) -> Result<u64, BuildError> {
        let (_, tag) = name.rsplit_once(':').expect("a name in full has a tag");
        let root = root
            .annotated("io.containerd.image.name", name)
            .annotated("org.opencontainers.image.ref.name", tag);
        self.write(root, output)
    }

    fn write(self, root: Descriptor, output: &mut dyn Write) -> Result<u64, BuildError> {
        let index = Document {
            schema_version: 2,
            media_type: TYPE_INDEX.to_owned(),
            manifests: Some(vec![root]),
            ..Document::default()
        };
        let index =
            serde_json::to_vec(&index).expect("documents of strings and numbers are always JSON");
        let mut write = || -> io::Result<u64> {
            let mut tar = tar::Builder::new(Counting {
                inner: output,
                count: 0,
            });
            append(
                &mut tar,
                "oci-layout",
                br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice(),
                30,
            )?;
            append(&mut tar, "index.json", index.as_slice(), index.len() as u64)?;
            for (digest, blob) in &self.blobs {
                let path = format!("blobs/sha256/{}", digest.hex());
                match blob {
                    Blob::Bytes(bytes) => {
                        append(&mut tar, &path, bytes.as_slice(), bytes.len() as u64)?;
                    }
                    Blob::Borrowed(bytes) => append(&mut tar, &path, *bytes, bytes.len() as u64)?,
                    Blob::File(file, size) => append(&mut tar, &path, *file, *size)?,
                }
            }
            let mut counting = tar.into_inner()?;
            counting.flush()?;
            Ok(counting.count)
        };
        write().map_err(BuildError::Write)
    }
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    content: impl Read,
    size: u64,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, path, content)
}

struct Counting<'a> {
    inner: &'a mut dyn Write,
    count: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
