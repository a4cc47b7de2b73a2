//! The image builder and inspector behind `skiff build` and `skiff inspect`.
//!
//! The same [`Recipe`] gives the same bytes: no time, no owner, no order of a directory gets in.

mod archive;
mod document;
mod facts;
mod inspect;
mod linux;
mod module;
mod reference;
mod tree;
mod unpack;
mod user;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::view::{ANNOTATION_TITLE, CONFIG_ARTIFACT, CONFIG_IMAGE, LAYER_WASM};
use archive::Archive;
use document::{
    ArtifactComponent, ArtifactConfig, Config, Descriptor, Document, History, Process, Rootfs,
    TYPE_INDEX, TYPE_LAYER, TYPE_MANIFEST,
};
pub use facts::{EntryFacts, ImageFacts, LayerFacts, ModuleFacts};
pub use linux::{LinuxRecipe, build_linux};
use module::Module;
use tree::TarLayer;

/// Characters of a text's line that are shown.
const LONGEST_LINE: usize = 160;

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
    /// The modules: `.wasm` (core module or component) or `.wat`, which becomes binary. The first is what the
    /// entrypoint runs; a container runs another by naming its file in its command. An artifact has one.
    pub modules: Vec<PathBuf>,
    /// Files beside the module.
    pub files: Vec<HostFile>,
    /// Arguments after the entrypoint.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Entrypoint, `path` or `path#function`; `None` is `/<file name of the first module>`. The first module is
    /// put at its path.
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
    /// Where the image will not run, a sentence each.
    pub warnings: Vec<String>,
}

/// Why an image could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A recipe that makes no image.
    #[error("{0}")]
    Recipe(String),
    /// The image's name.
    #[error("could not use the image name {name:?}: {why}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the host.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of the host that cannot be in an image.
    #[error("could not put {} into the image: {why}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A path in the image.
    #[error("could not use {path:?} as a path in the image: {why}")]
    Place {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two things at one path.
    #[error("could not put two things at {path:?} of the image; move one of them")]
    Taken {
        /// The path.
        path: String,
    },
    /// A module is something else.
    #[error("{name} is not a WebAssembly module: {why}")]
    NotWasm {
        /// The module.
        name: String,
        /// What it is.
        why: String,
    },
    /// A module in the text format does not parse.
    #[error("could not parse the WebAssembly text of {name}")]
    Text {
        /// The module.
        name: String,
        /// Cause.
        #[source]
        source: TextError,
    },
    /// A module does not validate.
    #[error("{name} is not a valid WebAssembly module")]
    Invalid {
        /// The module.
        name: String,
        /// Cause.
        #[source]
        source: wasmparser::BinaryReaderError,
    },
    /// The temporary file of a layer.
    #[error("could not write a layer into a temporary file")]
    Scratch(#[source] io::Error),
    /// The archive.
    #[error("could not write the image")]
    Write(#[source] io::Error),
    /// A file of an image, unpacked.
    #[error("could not unpack {name} of the image")]
    Unpack {
        /// The file.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// An image in which nothing can be run.
    #[error("{0}")]
    Nothing(String),
    /// A file is not what `inspect` reads.
    #[error("{} is neither an OCI archive nor a module: {why}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What is wrong with a text, and its line drawn below. Generated text can be one line of megabytes: lines are cut.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

impl From<wat::Error> for TextError {
    fn from(error: wat::Error) -> Self {
        let text = error.to_string();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().take(LONGEST_LINE).collect())
            .collect();
        Self(lines.join("\n"))
    }
}

/// Builds `recipe` as an OCI archive into `output`.
///
/// # Errors
/// A module is not Wasm or not valid, a file cannot be read, the recipe contradicts itself, or the output
/// cannot be written.
pub fn build(recipe: &Recipe, output: &mut dyn Write) -> Result<Built, BuildError> {
    let name = reference::normalised(&recipe.name)?;
    let modules = recipe
        .modules
        .iter()
        .map(|path| Module::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let places = places(recipe, &modules)?;
    let mut archive = Archive::default();

    let with_root = matches!(recipe.layout, Layout::Root | Layout::Combined);
    let files = if recipe.files.is_empty() && !with_root {
        None
    } else {
        let in_root: Vec<(String, &[u8])> = if with_root {
            places
                .iter()
                .cloned()
                .zip(modules.iter().map(|module| module.bytes.as_slice()))
                .collect()
        } else {
            Vec::new()
        };
        Some(tree::pack(&in_root, &recipe.files)?)
    };
    // Beside Wasm layers the files come alone; the modules are the layers.
    let files_alone = match recipe.layout {
        Layout::Combined if !recipe.files.is_empty() => Some(tree::pack(&[], &recipe.files)?),
        _ => None,
    };

    let root = match recipe.layout {
        Layout::Artifact => artifact(&mut archive, &modules)?,
        Layout::Layer => wasm_manifest(&mut archive, recipe, &modules, &places, files.as_ref()),
        Layout::Root => {
            let manifests = linux_manifests(&mut archive, recipe, &places, files.as_ref());
            index(&mut archive, manifests)
        }
        Layout::Combined => {
            let mut manifests = linux_manifests(&mut archive, recipe, &places, files.as_ref());
            let wasm = wasm_manifest(
                &mut archive,
                recipe,
                &modules,
                &places,
                files_alone.as_ref(),
            );
            manifests.push(wasm.on(os_of(&modules), "wasm"));
            index(&mut archive, manifests)
        }
    };
    let digest = root.digest.clone();
    let archive_bytes = archive.write_named(root, &name, output)?;
    Ok(Built {
        name,
        digest,
        archive_bytes,
        modules: modules.into_iter().map(|module| module.facts).collect(),
        warnings: warnings(recipe),
    })
}

/// The modules' absolute paths in the image: the first is where the entrypoint says, the others lie in `/`.
fn places(recipe: &Recipe, modules: &[Module]) -> Result<Vec<String>, BuildError> {
    let refused = |sentence: &str| Err(BuildError::Recipe(sentence.to_owned()));
    let Some(first) = modules.first() else {
        return refused("an image needs a module: give a .wasm or .wat file");
    };
    if let Some(entry) = recipe
        .env
        .iter()
        .find(|entry| !entry.contains('=') || entry.starts_with('='))
    {
        return Err(BuildError::Recipe(format!(
            "could not use the environment entry {entry:?}: it must be KEY=value"
        )));
    }
    if let Some(user) = &recipe.user {
        user::check(user)?;
    }
    if recipe.layout == Layout::Artifact {
        let bare = recipe.files.is_empty()
            && recipe.args.is_empty()
            && recipe.env.is_empty()
            && recipe.labels.is_empty()
            && recipe.entrypoint.is_none()
            && recipe.user.is_none()
            && recipe.working_directory.is_none();
        if modules.len() > 1 || !bare {
            return refused(
                "an OCI Wasm artifact holds one module and nothing else: no files, arguments, environment, labels, \
                 entrypoint, user or working directory; choose another layout, or leave them to the pod",
            );
        }
    }
    let directory = recipe.working_directory.as_deref().unwrap_or("/");
    if !directory.starts_with('/') {
        return Err(BuildError::Place {
            path: directory.to_owned(),
            why: "it must begin with '/'".to_owned(),
        });
    }
    let place = match &recipe.entrypoint {
        None => format!("/{}", first.file_name),
        Some(entrypoint) => {
            let path = entrypoint.split('#').next().unwrap_or_default();
            if path.is_empty() || path.ends_with('/') {
                return Err(BuildError::Recipe(format!(
                    "entrypoint {entrypoint:?} names no file"
                )));
            }
            crate::choose::absolute(directory, path)
        }
    };
    let mut places = vec![place];
    places.extend(
        modules
            .iter()
            .skip(1)
            .map(|module| format!("/{}", module.file_name)),
    );
    for (index, place) in places.iter().enumerate() {
        if places[..index].contains(place) {
            return Err(BuildError::Taken {
                path: place.clone(),
            });
        }
    }
    Ok(places)
}

/// What containerd will not do with the image.
fn warnings(recipe: &Recipe) -> Vec<String> {
    // Its CRI plugin gets to the files of an image whose config names the node's platform, and a config that
    // names the node's platform is none of a Wasm image to runwasi. Seen with 2.4.2; 1.7 and 2.1 unpack all.
    let unpacked = recipe.layout != Layout::Layer || recipe.files.is_empty();
    let sentence = "containerd 2.4 does not unpack files beside Wasm layers for pods (\"parent snapshot does not exist\"); \
                    use the layout combined or root to run this image in a cluster";
    let mut warnings = Vec::new();
    if !unpacked {
        warnings.push(sentence.to_owned());
    }
    if user::is_unknown(recipe) {
        warnings.push(format!(
            "names of users are looked up in the image's /etc/passwd, and this image has none: give the user {:?} as a number",
            recipe.user.as_deref().unwrap_or_default()
        ));
    }
    warnings
}

/// The platform of the Wasm entry. A module without WASI counts as the older one, which every runtime has.
fn os_of(modules: &[Module]) -> &str {
    match modules.first().map(|module| &module.facts) {
        Some(facts) if facts.kind == "component" && facts.os == "none" => "wasip2",
        Some(facts) if facts.os == "none" => "wasip1",
        Some(facts) => &facts.os,
        None => "wasip1",
    }
}

fn process(recipe: &Recipe, places: &[String]) -> Process {
    let entrypoint = recipe
        .entrypoint
        .clone()
        .or_else(|| places.first().cloned());
    Process {
        user: recipe.user.clone().unwrap_or_default(),
        env: recipe.env.clone(),
        entrypoint: entrypoint.into_iter().collect(),
        cmd: recipe.args.clone(),
        working_dir: recipe.working_directory.clone().unwrap_or_default(),
        labels: recipe.labels.clone(),
    }
}

fn manifest(archive: &mut Archive<'_>, config: &Config, layers: Vec<Descriptor>) -> Descriptor {
    let config = archive.json(CONFIG_IMAGE, config);
    let manifest = Document {
        schema_version: 2,
        media_type: TYPE_MANIFEST.to_owned(),
        config: Some(config),
        layers: Some(layers),
        ..Document::default()
    };
    archive.json(TYPE_MANIFEST, &manifest)
}

/// One manifest with the modules as layers, and the files as the root.
fn wasm_manifest<'a>(
    archive: &mut Archive<'a>,
    recipe: &Recipe,
    modules: &'a [Module],
    places: &[String],
    files: Option<&'a TarLayer>,
) -> Descriptor {
    let diff_ids = files
        .map(|layer| layer.digest.to_string())
        .into_iter()
        .collect();
    let mut layers: Vec<Descriptor> = files
        .map(|layer| archive.layer(TYPE_LAYER, layer))
        .into_iter()
        .collect();
    for (module, place) in modules.iter().zip(places) {
        let title = place.trim_start_matches('/');
        layers.push(
            archive
                .bytes(LAYER_WASM, &module.bytes)
                .annotated(ANNOTATION_TITLE, title),
        );
    }
    // Wasm layers have no place in `diff_ids`, and CRI knows images by the digest of their config: without a word
    // of the modules in it, two versions of an image would be one, and a pod of the second run the first.
    let history = layers
        .iter()
        .filter(|layer| layer.media_type == LAYER_WASM)
        .map(|layer| History {
            created_by: "skiff build".to_owned(),
            comment: format!("{} {}", layer.media_type, layer.digest),
            empty_layer: true,
        })
        .collect();
    let config = Config {
        architecture: "wasm".to_owned(),
        os: os_of(modules).to_owned(),
        config: process(recipe, places),
        rootfs: Rootfs {
            kind: "layers".to_owned(),
            diff_ids,
        },
        history,
    };
    manifest(archive, &config, layers)
}

/// Two manifests of one root that has the modules as files. What is in the root runs on any processor, so
/// both entries share the layer.
fn linux_manifests<'a>(
    archive: &mut Archive<'a>,
    recipe: &Recipe,
    places: &[String],
    root: Option<&'a TarLayer>,
) -> Vec<Descriptor> {
    ["amd64", "arm64"]
        .into_iter()
        .map(|architecture| {
            let diff_ids = root
                .map(|layer| layer.digest.to_string())
                .into_iter()
                .collect();
            let layers = root
                .map(|layer| archive.layer(TYPE_LAYER, layer))
                .into_iter()
                .collect();
            let config = Config {
                architecture: architecture.to_owned(),
                os: "linux".to_owned(),
                config: process(recipe, places),
                rootfs: Rootfs {
                    kind: "layers".to_owned(),
                    diff_ids,
                },
                history: Vec::new(),
            };
            manifest(archive, &config, layers).on("linux", architecture)
        })
        .collect()
}

fn index(archive: &mut Archive<'_>, manifests: Vec<Descriptor>) -> Descriptor {
    let index = Document {
        schema_version: 2,
        media_type: TYPE_INDEX.to_owned(),
        manifests: Some(manifests),
        ..Document::default()
    };
    archive.json(TYPE_INDEX, &index)
}

fn artifact<'a>(
    archive: &mut Archive<'a>,
    modules: &'a [Module],
) -> Result<Descriptor, BuildError> {
    let Some(module) = modules.first() else {
        return Err(BuildError::Recipe(
            "an OCI Wasm artifact needs a module".to_owned(),
        ));
    };
    let facts = &module.facts;
    let layer = archive
        .bytes(LAYER_WASM, &module.bytes)
        .annotated(ANNOTATION_TITLE, &module.file_name);
    let component = (facts.kind == "component").then(|| ArtifactComponent {
        imports: facts.imports.clone(),
        exports: facts.exports.clone(),
        target: facts.world.clone(),
    });
    let config = ArtifactConfig {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: os_of(modules).to_owned(),
        layer_digests: vec![layer.digest.clone()],
        component,
    };
    let config = archive.json(CONFIG_ARTIFACT, &config);
    let manifest = Document {
        schema_version: 2,
        media_type: TYPE_MANIFEST.to_owned(),
        config: Some(config),
        layers: Some(vec![layer]),
        ..Document::default()
    };
    Ok(archive.json(TYPE_MANIFEST, &manifest))
}

/// Reads the facts of a module's bytes (binary or text).
///
/// # Errors
/// The bytes are not valid Wasm; the sentence says what they are instead.
pub fn inspect_module(name: &str, bytes: &[u8]) -> Result<ModuleFacts, BuildError> {
    module::facts(name, &module::binary(name, bytes.to_vec())?)
}

/// Reads the facts of an OCI archive, or of a bare `.wasm`/`.wat` file.
///
/// # Errors
/// The file is neither, or is damaged.
pub fn inspect_file(path: &Path) -> Result<ImageFacts, BuildError> {
    inspect::file(path)
}

/// The facts and the binary form of each module of an OCI archive, or of a bare `.wasm`/`.wat` file: Wasm layers
/// and Wasm files of tar layers, each digest once. For `skiff cache warm`, which compiles them ahead.
///
/// # Errors
/// As [`inspect_file`].
pub fn modules_of_file(path: &Path) -> Result<Vec<(ModuleFacts, Vec<u8>)>, BuildError> {
    inspect::modules(path)
}

/// What an image says of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// `Entrypoint`: what runs.
    pub entrypoint: Vec<String>,
    /// `Cmd`: its arguments, where none are given.
    pub command: Vec<String>,
    /// `Env`.
    pub environment: Vec<String>,
    /// `WorkingDir`; may be empty.
    pub working_directory: String,
    /// `User`; may be empty.
    pub user: String,
}

/// Makes a root in the folder `root` of what lies at `path`: an OCI archive, its unpacked folder, or a bare module.
/// `words` are what the caller runs instead of the image's own command; a layer that they or the image name is put
/// where the entrypoint looks for it.
///
/// # Errors
/// It is none of these, is damaged, holds nothing for this machine, or `root` cannot be written.
pub fn unpack(path: &Path, root: &Path, words: &[String]) -> Result<Unpacked, BuildError> {
    unpack::unpack(path, root, words)
}

#[cfg(test)]
mod tests;
