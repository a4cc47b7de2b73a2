//! Reads an OCI archive, or a bare module, for `skiff inspect`. Nothing is unpacked to disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::document::{Config, Descriptor, Document, TYPE_LAYER};
use super::{BuildError, EntryFacts, ImageFacts, LayerFacts, ModuleFacts, module};
use crate::containerd::DOCUMENT_BYTES;
use crate::view::{
    ANNOTATION_TITLE, CONFIG_DOCKER, CONFIG_IMAGE, Digest, LAYER_COMPONENT, LAYER_WASM,
};

/// Largest module that is looked into.
pub(super) const MODULE_BYTES: u64 = 256 << 20;

/// How deep an index may lie in an index.
pub(super) const INDEX_DEPTH: usize = 4;

pub(super) fn file(path: &Path) -> Result<ImageFacts, BuildError> {
    read(path, &mut |_, _| ())
}

/// The modules with their bytes, each digest once.
pub(super) fn modules(path: &Path) -> Result<Vec<(ModuleFacts, Vec<u8>)>, BuildError> {
    let mut modules: Vec<(ModuleFacts, Vec<u8>)> = Vec::new();
    read(path, &mut |facts, bytes| {
        if modules
            .iter()
            .all(|(known, _)| known.digest != facts.digest)
        {
            modules.push((facts.clone(), bytes.to_vec()));
        }
    })?;
    Ok(modules)
}

/// Called for each valid module with its facts and its binary form.
pub(super) type Seen<'a> = dyn FnMut(&ModuleFacts, &[u8]) + 'a;

fn read(path: &Path, seen: &mut Seen<'_>) -> Result<ImageFacts, BuildError> {
    let failed = |source| BuildError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut head = [0; 512];
    let count = read_up_to(&mut file, &mut head).map_err(failed)?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let refused = |why: &str| {
        Err(BuildError::NotAnArchive {
            path: path.to_owned(),
            why: why.to_owned(),
        })
    };
    if count < head.len() || &head[257..262] != b"ustar" {
        let mut bytes = head[..count].to_vec();
        // A device may have no end, and says that it has no length.
        file.take(MODULE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MODULE_BYTES {
            return refused("it is larger than 256 MiB, the limit of a module");
        }
        return bare(&name, bytes, seen);
    }
    if !metadata.is_file() {
        return refused("an archive is read here and there: save it in a file first");
    }
    let mut archive = Opened::read(path, file, seen)?;
    archive.facts()
}

fn bare(name: &str, bytes: Vec<u8>, seen: &mut Seen<'_>) -> Result<ImageFacts, BuildError> {
    let bytes = module::binary(name, bytes)?;
    let facts = module::facts(name, &bytes)?;
    seen(&facts, &bytes);
    let digest = facts.digest.clone();
    let entry = EntryFacts {
        digest: digest.clone(),
        modules: vec![facts],
        ..EntryFacts::default()
    };
    Ok(ImageFacts {
        name: None,
        digest,
        entries: vec![entry],
    })
}

/// An archive and where its members are.
pub(super) struct Opened<'a, 's> {
    path: &'a Path,
    seen: &'a mut Seen<'s>,
    file: File,
    /// Name to offset and length.
    members: HashMap<String, (u64, u64)>,
}

impl<'a, 's> Opened<'a, 's> {
    pub(super) fn read(
        path: &'a Path,
        file: File,
        seen: &'a mut Seen<'s>,
    ) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Read {
            path: path.to_owned(),
            source,
        };
        let mut members = HashMap::new();
        let mut file = file;
        let total = file.metadata().map_err(failed)?.len();
        let cut_off = |why| {
            Err(BuildError::NotAnArchive {
                path: path.to_owned(),
                why,
            })
        };
        file.rewind().map_err(failed)?;
        let (mut last, mut after_last) = (String::new(), 0);
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = String::from_utf8_lossy(&entry.path_bytes())
                .trim_start_matches("./")
                .to_owned();
            after_last = entry.raw_file_position().saturating_add(entry.size());
            // Where members are only jumped over, the end of the file looks like the archive's own.
            if after_last > total {
                return cut_off(format!("it is cut off within {name}"));
            }
            if entry.header().entry_type().is_file() {
                members.insert(name.clone(), (entry.raw_file_position(), entry.size()));
            }
            last = name;
        }
        // An archive ends with blocks of zeros.
        if after_last.next_multiple_of(512) >= total {
            return cut_off(format!("it is cut off after {last}"));
        }
        Ok(Self {
            path,
            seen,
            file,
            members,
        })
    }

    pub(super) fn broken(&self, why: String) -> BuildError {
        BuildError::NotAnArchive {
            path: self.path.to_owned(),
            why,
        }
    }

    /// A member's bytes.
    pub(super) fn member(&mut self, name: &str, cap: u64) -> Result<Vec<u8>, BuildError> {
        let Some(&(offset, length)) = self.members.get(name) else {
            return Err(self.broken(format!("{name} is missing in it")));
        };
        if length > cap {
            return Err(self.broken(format!(
                "{name} has {length} bytes, more than the {cap} that are taken"
            )));
        }
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| (&self.file).take(length).read_to_end(&mut bytes))
            .map_err(|source| BuildError::Read {
                path: self.path.to_owned(),
                source,
            })?;
        if bytes.len() as u64 != length {
            return Err(self.broken(format!("it is cut off within {name}")));
        }
        Ok(bytes)
    }

    /// A blob's bytes, checked.
    pub(super) fn blob(
        &mut self,
        descriptor: &Descriptor,
        cap: u64,
    ) -> Result<Vec<u8>, BuildError> {
        let Some(digest) = Digest::parse(&descriptor.digest) else {
            return Err(self.broken(format!("{:?} is not a SHA-256 digest", descriptor.digest)));
        };
        let bytes = self.member(&blob_name(&digest), cap)?;
        if Digest::of(&bytes) != digest {
            return Err(self.broken(format!("the bytes of blob {digest} have another digest")));
        }
        Ok(bytes)
    }

    pub(super) fn document<T: DeserializeOwned>(
        &mut self,
        descriptor: &Descriptor,
    ) -> Result<T, BuildError> {
        let bytes = self.blob(descriptor, DOCUMENT_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.broken(format!("{} is malformed: {error}", descriptor.digest)))
    }

    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        Digest::parse(&descriptor.digest)
            .is_some_and(|digest| self.members.contains_key(&blob_name(&digest)))
    }

    fn facts(&mut self) -> Result<ImageFacts, BuildError> {
        let index = self.member("index.json", DOCUMENT_BYTES)?;
        let index: Document = serde_json::from_slice(&index)
            .map_err(|error| self.broken(format!("index.json is malformed: {error}")))?;
        let roots = index.manifests.unwrap_or_default();
        let Some(root) = roots.first() else {
            return Err(self.broken("index.json names nothing".to_owned()));
        };
        let name = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ]
        .iter()
        .find_map(|annotation| root.annotations.get(*annotation).cloned());
        let digest = root.digest.clone();
        // Of the platforms of an index some may be left out; of what the archive is for, nothing.
        if !roots.iter().any(|root| self.has(root)) {
            return Err(self.broken(format!("{digest}, which it is for, is missing in it")));
        }
        let mut entries = Vec::new();
        for root in &roots {
            self.entries(root, INDEX_DEPTH, &mut entries)?;
        }
        Ok(ImageFacts {
            name,
            digest,
            entries,
        })
    }

    fn entries(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
        entries: &mut Vec<EntryFacts>,
    ) -> Result<(), BuildError> {
        // Archives of one platform name manifests of others that are not in them.
        if !self.has(descriptor) {
            let platform = descriptor
                .platform
                .as_ref()
                .map_or_else(String::new, |p| format!("{}/{}", p.os, p.architecture));
            entries.push(EntryFacts {
                platform,
                digest: descriptor.digest.clone(),
                ..EntryFacts::default()
            });
            return Ok(());
        }
        let document: Document = self.document(descriptor)?;
        if let Some(manifests) = document.manifests {
            if depth == 0 {
                return Err(self.broken(format!(
                    "its indexes lie more than {INDEX_DEPTH} deep in each other"
                )));
            }
            for manifest in &manifests {
                self.entries(manifest, depth - 1, entries)?;
            }
            return Ok(());
        }
        let Some(config_descriptor) = document.config else {
            return Err(self.broken(format!(
                "{} is neither an index nor a manifest",
                descriptor.digest
            )));
        };
        let config: Config = if matches!(
            config_descriptor.media_type.as_str(),
            CONFIG_IMAGE | CONFIG_DOCKER
        ) {
            self.document(&config_descriptor)?
        } else {
            // An artifact's config has the platform, or is of a kind that is not known.
            self.document(&config_descriptor).unwrap_or_default()
        };
        let mut entry = EntryFacts {
            platform: format!("{}/{}", config.os, config.architecture),
            digest: descriptor.digest.clone(),
            config_type: config_descriptor.media_type,
            entrypoint: [config.config.entrypoint, config.config.cmd].concat(),
            ..EntryFacts::default()
        };
        for layer in document.layers.unwrap_or_default() {
            let title = layer.annotations.get(ANNOTATION_TITLE).cloned();
            match layer.media_type.as_str() {
                LAYER_WASM | LAYER_COMPONENT => {
                    let bytes = self.blob(&layer, MODULE_BYTES)?;
                    let name = title.as_deref().unwrap_or(&layer.digest);
                    let facts = facts_or_problem(name, &bytes, self.seen);
                    entry.modules.push(facts);
                }
                media_type
                    if media_type.starts_with(TYPE_LAYER)
                        || media_type.ends_with(".diff.tar.gzip") =>
                {
                    self.modules_of_tar(&layer, &mut entry.modules)?;
                }
                _ => {}
            }
            entry.layers.push(LayerFacts {
                media_type: layer.media_type,
                digest: layer.digest,
                bytes: layer.size,
                title,
            });
        }
        entries.push(entry);
        Ok(())
    }

    /// A layer of the root, checked and ready to be read; `None` if it is not here, or compressed otherwise than
    /// with gzip.
    pub(super) fn layer(
        &mut self,
        layer: &Descriptor,
    ) -> Result<Option<tar::Archive<Box<dyn Read + '_>>>, BuildError> {
        let Some(digest) = Digest::parse(&layer.digest) else {
            return Ok(None);
        };
        let Some(&(offset, length)) = self.members.get(&blob_name(&digest)) else {
            return Ok(None);
        };
        let failed = |source| BuildError::Read {
            path: self.path.to_owned(),
            source,
        };
        let mut hash = Sha256::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| io::copy(&mut (&self.file).take(length), &mut hash))
            .map_err(failed)?;
        if Digest::from_bytes(hash.finalize().into()) != digest {
            return Err(self.broken(format!("the bytes of blob {digest} have another digest")));
        }
        self.file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let raw = (&self.file).take(length);
        let content: Box<dyn Read + '_> = match layer.media_type.rsplit(['+', '.']).next() {
            Some("gzip") => Box::new(flate2::read::GzDecoder::new(raw)),
            Some("tar") => Box::new(raw),
            _ => return Ok(None),
        };
        Ok(Some(tar::Archive::new(content)))
    }

    /// The Wasm files of a root layer.
    fn modules_of_tar(
        &mut self,
        layer: &Descriptor,
        modules: &mut Vec<ModuleFacts>,
    ) -> Result<(), BuildError> {
        let path = self.path.to_owned();
        let failed = |source| BuildError::Read {
            path: path.clone(),
            source,
        };
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let Some(mut archive) = self.layer(layer)? else {
            return Ok(());
        };
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            if !entry.header().entry_type().is_file() || entry.size() > MODULE_BYTES {
                continue;
            }
            let mut bytes = vec![0; 8];
            let count = read_up_to(&mut entry, &mut bytes).map_err(failed)?;
            if count < 8 || !bytes.starts_with(b"\0asm") {
                continue;
            }
            let name = format!(
                "/{}",
                String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./")
            );
            entry.read_to_end(&mut bytes).map_err(failed)?;
            found.push((name, bytes));
        }
        drop(archive);
        for (name, bytes) in found {
            modules.push(facts_or_problem(&name, &bytes, self.seen));
        }
        Ok(())
    }
}

/// A broken module is what an inspection is for: it is told, and the rest of the image too.
fn facts_or_problem(name: &str, bytes: &[u8], seen: &mut Seen<'_>) -> ModuleFacts {
    match module::facts(name, bytes) {
        Ok(facts) => {
            seen(&facts, bytes);
            facts
        }
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            ModuleFacts {
                name: name.to_owned(),
                digest: Digest::of(bytes).to_string(),
                bytes: bytes.len() as u64,
                problem: Some(format!("{error}{cause}")),
                ..ModuleFacts::default()
            }
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
