//! The tar layer of a root: modules and host files at their paths, in sorted order, without times, owners
//! and the builder's umask.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::{BuildError, HostFile};
use crate::view::Digest;

/// A layer in a file without a name.
#[derive(Debug)]
pub(super) struct TarLayer {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) file: File,
}

impl TarLayer {
    /// The same, compressed by gzip: digest and size are those of the compressed bytes.
    pub(super) fn compressed(&self) -> Result<Self, BuildError> {
        let compress = || {
            // Its header holds neither a time nor a name.
            let mut encoder = GzEncoder::new(Hashing::scratch()?, Compression::default());
            io::copy(&mut &self.file, &mut encoder)?;
            encoder.finish()?.layer()
        };
        compress().map_err(BuildError::Scratch)
    }
}

/// What lies at a path of the image.
enum Node<'a> {
    Directory,
    Bytes(&'a [u8]),
    HostFile {
        path: PathBuf,
        size: u64,
        executable: bool,
    },
    Link(PathBuf),
}

/// Packs modules (path in the image, bytes) and files.
pub(super) fn pack(
    modules: &[(String, &[u8])],
    files: &[HostFile],
) -> Result<TarLayer, BuildError> {
    let mut nodes = BTreeMap::new();
    for file in files {
        let to = inside(&file.to)?;
        let metadata = fs::metadata(&file.from).map_err(|source| BuildError::Read {
            path: file.from.clone(),
            source,
        })?;
        collect(&file.from, &metadata, &to, &mut nodes)?;
    }
    for (path, bytes) in modules {
        let path = inside(path)?;
        if nodes.insert(path.clone(), Node::Bytes(bytes)).is_some() {
            return Err(BuildError::Taken {
                path: format!("/{path}"),
            });
        }
    }
    let places: Vec<String> = nodes.keys().cloned().collect();
    for place in &places {
        for (end, _) in place.match_indices('/') {
            let parent = nodes
                .entry(place[..end].to_owned())
                .or_insert(Node::Directory);
            if !matches!(parent, Node::Directory) {
                return Err(BuildError::Taken {
                    path: format!("/{}", &place[..end]),
                });
            }
        }
    }
    write(&nodes)
}

/// A path of the image without its slash in front. `..` has no place in one.
fn inside(path: &str) -> Result<String, BuildError> {
    let refused = |why: &str| {
        Err(BuildError::Place {
            path: path.to_owned(),
            why: why.to_owned(),
        })
    };
    if !path.starts_with('/') {
        return refused("it must begin with '/'");
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return refused("it must not contain '..'");
    }
    if parts.iter().any(|part| part.starts_with(".wh.")) {
        return refused("names that begin with .wh. delete files in image layers");
    }
    Ok(parts.join("/"))
}

/// Adds a host file, or a directory with all that is in it. `metadata` is that of `from`: links that the
/// user names are followed, links inside a directory stay links.
fn collect(
    from: &Path,
    metadata: &fs::Metadata,
    to: &str,
    nodes: &mut BTreeMap<String, Node<'_>>,
) -> Result<(), BuildError> {
    let failed = |source| BuildError::Read {
        path: from.to_owned(),
        source,
    };
    let refused = |why: &str| BuildError::Source {
        path: from.to_owned(),
        why: why.to_owned(),
    };
    let node = if metadata.is_dir() {
        for entry in fs::read_dir(from).map_err(failed)? {
            let from = entry.map_err(failed)?.path();
            let name = from.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| BuildError::Source {
                path: from.clone(),
                why: "its name is not UTF-8".to_owned(),
            })?;
            let to = inside(&format!("/{to}/{name}"))?;
            let metadata = fs::symlink_metadata(&from).map_err(failed)?;
            collect(&from, &metadata, &to, nodes)?;
        }
        Node::Directory
    } else if metadata.is_symlink() {
        Node::Link(fs::read_link(from).map_err(failed)?)
    } else if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        Node::HostFile {
            path: from.to_owned(),
            size: metadata.len(),
            executable,
        }
    } else {
        return Err(refused("it is neither a file, a directory nor a link"));
    };
    if to.is_empty() {
        return match node {
            Node::Directory => Ok(()),
            _ => Err(refused("a file needs a name in the image")),
        };
    }
    match (nodes.insert(to.to_owned(), node), nodes.get(to)) {
        (None, _) | (Some(Node::Directory), Some(Node::Directory)) => Ok(()),
        _ => Err(BuildError::Taken {
            path: format!("/{to}"),
        }),
    }
}

fn write(nodes: &BTreeMap<String, Node<'_>>) -> Result<TarLayer, BuildError> {
    let mut builder = tar::Builder::new(Hashing::scratch().map_err(BuildError::Scratch)?);
    for (path, node) in nodes {
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match node {
            Node::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                builder
                    .append_data(&mut header, format!("{path}/"), io::empty())
                    .map_err(BuildError::Scratch)?;
            }
            Node::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                builder
                    .append_link(&mut header, path, target)
                    .map_err(BuildError::Scratch)?;
            }
            Node::Bytes(bytes) => {
                header.set_entry_type(EntryType::Regular);
                // Other runtimes want the executable bit on what they run.
                header.set_mode(0o755);
                header.set_size(bytes.len() as u64);
                builder
                    .append_data(&mut header, path, *bytes)
                    .map_err(BuildError::Scratch)?;
            }
            Node::HostFile {
                path: from,
                size,
                executable,
            } => {
                let failed = |source| BuildError::Read {
                    path: from.clone(),
                    source,
                };
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                let content = Exactly {
                    inner: File::open(from).map_err(failed)?,
                    left: *size,
                };
                builder
                    .append_data(&mut header, path, content)
                    .map_err(failed)?;
            }
        }
    }
    let hashing = builder.into_inner().map_err(BuildError::Scratch)?;
    hashing.layer().map_err(BuildError::Scratch)
}

/// A file whose length has been promised: one that shrinks meanwhile is an error, not a broken archive.
struct Exactly {
    inner: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct Hashing {
    inner: io::BufWriter<File>,
    hash: Sha256,
}

impl Hashing {
    /// Into a file without a name.
    fn scratch() -> io::Result<Self> {
        Ok(Self {
            inner: io::BufWriter::new(tempfile::tempfile()?),
            hash: Sha256::new(),
        })
    }

    /// What has been written, as a layer.
    fn layer(self) -> io::Result<TarLayer> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        let mut file = self.inner.into_inner()?;
        let size = file.stream_position()?;
        file.rewind()?;
        Ok(TarLayer { digest, size, file })
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
