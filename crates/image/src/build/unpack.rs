//! Makes a root of an archive or a bare module, for `skiff run`: what containerd does for a container of the image.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::document::{Config, Descriptor, Document, TYPE_LAYER};
use super::inspect::{INDEX_DEPTH, MODULE_BYTES, Opened};
use super::{BuildError, Unpacked};
use crate::choose::{self, Choice, Probe, Request, Source, candidates};
use crate::containerd::DOCUMENT_BYTES;
use crate::view::{ANNOTATION_TITLE, CONFIG_DOCKER, CONFIG_IMAGE, Digest, ImageView, Layer};

/// Whiteouts of layers: a file that is gone, and a directory of which nothing is left.
const GONE: &str = ".wh.";
const EMPTIED: &str = ".wh..wh..opq";

pub(super) fn unpack(path: &Path, root: &Path, words: &[String]) -> Result<Unpacked, BuildError> {
    let failed = |source| BuildError::Read {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        // The layout as a folder, as it would be as an archive.
        let mut archive = tempfile::tempfile().map_err(BuildError::Scratch)?;
        let mut builder = tar::Builder::new(&mut archive);
        builder
            .append_dir_all("", path)
            .and_then(|()| builder.finish())
            .map_err(failed)?;
        drop(builder);
        return image(path, archive, root, words);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut head = [0; 512];
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).map_err(failed)? {
            0 => break,
            count => length += count,
        }
    }
    if length == head.len() && &head[257..262] == b"ustar" {
        image(path, file, root, words)
    } else {
        module(path, &head[..length], file, root)
    }
}

/// A module alone: the one file of its root.
fn module(path: &Path, head: &[u8], rest: File, root: &Path) -> Result<Unpacked, BuildError> {
    let name = path.file_name().map_or_else(
        || "app.wasm".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let place = format!("/{name}");
    let written = File::create(root.join(&name))
        .and_then(|mut file| io::copy(&mut head.chain(rest.take(MODULE_BYTES)), &mut file));
    written.map_err(|source| BuildError::Unpack { name, source })?;
    Ok(Unpacked {
        entrypoint: vec![place],
        ..Unpacked::default()
    })
}

fn image(path: &Path, file: File, root: &Path, words: &[String]) -> Result<Unpacked, BuildError> {
    let mut ignored = |_: &_, _: &[u8]| ();
    let mut archive = Opened::read(path, file, &mut ignored)?;
    let index = archive.member("index.json", DOCUMENT_BYTES)?;
    let index: Document = serde_json::from_slice(&index)
        .map_err(|error| archive.broken(format!("index.json is malformed: {error}")))?;
    let mut found = Vec::new();
    for manifest in index.manifests.unwrap_or_default() {
        manifests(&mut archive, &manifest, INDEX_DEPTH, &mut found)?;
    }
    // containerd takes what is for this machine; what is for a Wasm runtime runs here too.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let rank = |manifest: &Manifest| match (
        manifest.config.os.as_str(),
        manifest.config.architecture.as_str(),
    ) {
        ("linux", own) if own == architecture => 0,
        (_, "wasm") => 1,
        _ if !manifest.has_image_config() => 2,
        _ => 3,
    };
    let best = found
        .into_iter()
        .min_by_key(rank)
        .filter(|manifest| rank(manifest) < 3);
    let Some(manifest) = best else {
        return Err(archive.broken(format!(
            "nothing in it is for linux/{architecture} or for a Wasm runtime"
        )));
    };
    for layer in &manifest.layers {
        if layer.media_type.starts_with(TYPE_LAYER) || layer.media_type.contains(".diff.tar") {
            let Some(mut content) = archive.layer(layer)? else {
                return Err(archive.broken(format!(
                    "its layer {} is missing, or compressed otherwise than with gzip ({})",
                    layer.digest, layer.media_type
                )));
            };
            apply(&mut content, root)?;
        }
    }
    place_module(&mut archive, &manifest, root, words)
}

struct Manifest {
    config: Config,
    config_type: String,
    layers: Vec<Descriptor>,
}

impl Manifest {
    fn has_image_config(&self) -> bool {
        matches!(self.config_type.as_str(), CONFIG_IMAGE | CONFIG_DOCKER)
    }
}

fn manifests(
    archive: &mut Opened<'_, '_>,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<Manifest>,
) -> Result<(), BuildError> {
    if !archive.has(descriptor) {
        return Ok(());
    }
    let document: Document = archive.document(descriptor)?;
    if let Some(inner) = document.manifests {
        for descriptor in inner.iter().filter(|_| depth > 0) {
            manifests(archive, descriptor, depth - 1, found)?;
        }
    } else if let Some(config) = document.config {
        found.push(Manifest {
            // An artifact's may be of any kind.
            config: archive.document(&config).unwrap_or_default(),
            config_type: config.media_type,
            layers: document.layers.unwrap_or_default(),
        });
    }
    Ok(())
}

/// Where the shim would take a layer, it is a file here, at the place that the entrypoint names.
fn place_module(
    archive: &mut Opened<'_, '_>,
    manifest: &Manifest,
    root: &Path,
    words: &[String],
) -> Result<Unpacked, BuildError> {
    let process = &manifest.config.config;
    let mut unpacked = Unpacked {
        entrypoint: process.entrypoint.clone(),
        command: process.cmd.clone(),
        environment: process.env.clone(),
        working_directory: process.working_dir.clone(),
        user: process.user.clone(),
    };
    let layers: Vec<Layer> = manifest.layers.iter().filter_map(layer).collect();
    let view = ImageView {
        name: "the image".to_owned(),
        config_type: manifest.config_type.clone(),
        architecture: manifest.config.architecture.clone(),
        os: manifest.config.os.clone(),
        layers,
    };
    let mut args = if words.is_empty() {
        [unpacked.entrypoint.clone(), unpacked.command.clone()].concat()
    } else if unpacked.entrypoint.is_empty() {
        words.to_vec()
    } else {
        unpacked.entrypoint.clone()
    };
    if args.is_empty() {
        // An artifact says nothing; of one module there is no doubt.
        let mut modules = view.wasm_layers();
        let (Some(only), None) = (modules.next(), modules.next()) else {
            return Err(BuildError::Nothing(
                "the image does not say what to run: name it after `--`".to_owned(),
            ));
        };
        let name = only.title.clone().unwrap_or_else(|| "app.wasm".to_owned());
        args = vec![format!("/{}", name.trim_start_matches('/'))];
        unpacked.entrypoint.clone_from(&args);
    }
    let places = candidates(&args, &unpacked.working_directory, &unpacked.environment);
    let exists =
        |place: &String| inside(root, place).is_some_and(|path| path.symlink_metadata().is_ok());
    if view.wasm_layers().next().is_none() || places.iter().any(exists) {
        return Ok(unpacked);
    }
    let request = Request {
        args: &args,
        annotations: None,
        engine: "",
    };
    match choose::choose(&request, &Probe::Absent, &view) {
        Choice::Module(module) => {
            let Source::Layer(layer) = module.source else {
                return Ok(unpacked);
            };
            let descriptor = Descriptor::new(&layer.media_type, &layer.digest, layer.size);
            let bytes = archive.blob(&descriptor, MODULE_BYTES)?;
            let place = places.first().and_then(|place| inside(root, place));
            let place =
                place.ok_or_else(|| BuildError::Nothing(format!("{:?} is no path", args[0])))?;
            let written = place
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&place, bytes));
            written.map_err(|source| BuildError::Unpack {
                name: args[0].clone(),
                source,
            })?;
            Ok(unpacked)
        }
        Choice::LinuxProgram { .. } => Ok(unpacked),
        Choice::Refused(refusal) => Err(BuildError::Nothing(refusal.to_string())),
    }
}

fn layer(descriptor: &Descriptor) -> Option<Layer> {
    Some(Layer {
        media_type: descriptor.media_type.clone(),
        digest: Digest::parse(&descriptor.digest)?,
        size: descriptor.size,
        title: descriptor.annotations.get(ANNOTATION_TITLE).cloned(),
    })
}

/// A path in the root, by name only; `None` for one that climbs.
fn inside(root: &Path, path: impl AsRef<Path>) -> Option<PathBuf> {
    let mut place = root.to_owned();
    for component in path.as_ref().components() {
        match component {
            Component::Normal(name) => place.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(place)
}

/// Applies a layer. Names that lead out of the root are left out, as the archive's own unpacking does.
fn apply(layer: &mut tar::Archive<Box<dyn Read + '_>>, root: &Path) -> Result<(), BuildError> {
    let failed = |name: &Path| {
        let name = name.display().to_string();
        move |source| BuildError::Unpack { name, source }
    };
    layer.set_preserve_permissions(true);
    layer.set_preserve_ownerships(true);
    layer.set_overwrite(true);
    for entry in layer.entries().map_err(failed(Path::new("a layer")))? {
        let mut entry = entry.map_err(failed(Path::new("a layer")))?;
        let name = entry
            .path()
            .map_err(failed(Path::new("a layer")))?
            .into_owned();
        let last = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(gone) = last.strip_prefix(GONE) else {
            entry.unpack_in(root).map_err(failed(&name))?;
            continue;
        };
        // Through no link: the place is where its name says, or nothing is done.
        let Some(directory) = name.parent().and_then(|parent| inside(root, parent)) else {
            continue;
        };
        if fs::canonicalize(&directory).ok()
            != fs::canonicalize(root)
                .ok()
                .and_then(|root| inside(&root, name.parent()?))
        {
            continue;
        }
        if last == EMPTIED {
            for entry in fs::read_dir(&directory).map_err(failed(&name))? {
                remove(&entry.map_err(failed(&name))?.path()).map_err(failed(&name))?;
            }
        } else {
            remove(&directory.join(gone)).map_err(failed(&name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
