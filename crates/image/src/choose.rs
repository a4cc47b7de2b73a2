//! Which module does this container run? Pure functions; the shim does the looking.
//!
//! Two steps, since most containers are decided without asking containerd anything:
//!
//! 1. The shim looks for the first of [`candidates`] in the container's root (and in the volumes mounted
//!    there), describes what it finds as a [`Probe`], and calls [`choose_in_root`].
//! 2. Only when that answers [`Step::AskImage`] does it look the image up
//!    ([`crate::containerd::lookup_image`]) and call [`choose`].

mod exec;
mod path;

use std::collections::HashMap;

use crate::view::{ANNOTATION_TITLE, CONFIG_ARTIFACT, ImageView, LAYER_WASM, Layer};

pub use exec::{Named, is_a_modules_name, layer_named, native_refusal};
pub use path::{candidates, covering_mount};

pub(crate) use path::absolute;

/// Annotation of crun: how the image is built. Ours to narrow by: `compat` means "Wasm or nothing",
/// `compat-smart` what no annotation means, too: look at the file.
pub const ANNOTATION_VARIANT: &str = "module.wasm.image/variant";
/// Annotation of crun: which handler runs the container. `wasm` or the engine's own name means "Wasm
/// or nothing"; another engine's name is refused, since the RuntimeClass has chosen.
pub const ANNOTATION_HANDLER: &str = "run.oci.handler";

/// Annotations reach a container's `config.json` from `ctr run --annotation`, and from a pod only when
/// containerd's runtime table lists them in `pod_annotations`.
pub type Annotations = HashMap<String, String>;

/// What is asked for. All of it comes from the container's `config.json`, but the engine.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `process.args`.
    pub args: &'a [String],
    /// `annotations`; none is the same as an empty map.
    pub annotations: Option<&'a Annotations>,
    /// The engine of the runtime type: `wasmtime`, `wasmedge`…
    pub engine: &'a str,
}

/// What lies at the entrypoint's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// None of the candidates exists.
    Absent,
    /// The first candidate that exists.
    Found {
        /// Its path, as [`candidates`] gave it.
        path: String,
        /// What it is.
        content: Content,
    },
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A core module.
    Module,
    /// A component.
    Component,
    /// Text; Wasm text when the name ends in `.wat`.
    Text,
    /// An ELF file: a Linux program or library, or an engine's compiled code.
    Elf,
    /// Begins with `#!`.
    Script,
    /// Zero bytes.
    Empty,
    /// A directory, a device, a pipe or a socket.
    NotAFile,
    /// Anything else.
    Other,
}

/// How many bytes [`Content::of`] needs.
pub const HEAD_BYTES: usize = 16;

/// What the container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A module or component.
    Module(Module),
    /// A Linux program at this path. Where such programs must not run [`linux_refusal`] has the sentence.
    LinuxProgram {
        /// Its path in the root.
        path: String,
    },
    /// Nothing can be run; the sentence says why.
    Refused(Refusal),
}

/// A module to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where its bytes are.
    pub source: Source,
    /// The function of `path#function`; `None` is the default (`_start`, `wasi:cli/run`).
    pub function: Option<String>,
    /// What the user calls it, for messages.
    pub name: String,
}

/// Where a module's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of the container's root or of a volume in it.
    File {
        /// Absolute path, as [`candidates`] gave it.
        path: String,
    },
    /// A blob of containerd's content store; [`crate::containerd::read_layer`] reads it. Its digest is
    /// that of the module's bytes, so a cache can be asked before anything is read.
    Layer(Layer),
}

/// Why a container is not run: one sentence, for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What the root alone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// No need to ask containerd.
    Decided(Choice),
    /// The image decides: look it up and call [`choose`].
    AskImage,
}

impl Content {
    /// Tells by the first [`HEAD_BYTES`] bytes (fewer only if the file is shorter).
    ///
    /// Whatever begins like Wasm is called Wasm, also when it is cut short or of an unknown version: the
    /// compile worker, which validates it, has the better sentence.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [] => Self::Empty,
            // The preamble's fourth half-word is the layer: 0 core, 1 component.
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', ..] => Self::Module,
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            [b'#', b'!', ..] => Self::Script,
            _ if is_text(head) => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Whether a file's beginning is UTF-8 without control characters. A character may be cut at the end.
fn is_text(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_control() && !c.is_ascii_whitespace())
}

/// Decides by what lies in the root, without the image: a Wasm file at the entrypoint's path is the
/// module. Anything else asks the image, which may hold the module in a layer.
///
/// runwasi takes the layers of a Wasm image even when a Wasm file lies at the entrypoint's path. In a
/// Wasm image that file can only be one that the pod mounted there or that was packed beside the layer
/// under the entrypoint's very name: naming it is meant.
pub fn choose_in_root(request: &Request<'_>, probe: &Probe) -> Step {
    if let Err(refusal) = wasm_only(request) {
        return Step::Decided(Choice::Refused(refusal));
    }
    let entrypoint = entrypoint(request.args);
    if entrypoint.function == Some("") {
        return Step::Decided(Choice::Refused(Refusal(format!(
            "entrypoint {} names no function after its '#'; write path#function, or leave the '#' out",
            quoted(request.args.first().map_or("", String::as_str))
        ))));
    }
    match probe {
        Probe::Found {
            path,
            content: Content::Module | Content::Component,
        } => Step::Decided(file(path, &entrypoint)),
        Probe::Found {
            path,
            content: Content::Text,
        } if path.ends_with(".wat") => Step::Decided(file(path, &entrypoint)),
        Probe::Found { .. } | Probe::Absent => Step::AskImage,
    }
}

/// Decides with the image at hand. Whatever [`choose_in_root`] decided stays so.
///
/// Wasm layers count when the config's architecture is `wasm` (runwasi's rule), and in an artifact,
/// whose config is none of an image. A single Wasm layer is taken whatever `args[0]` says, as runwasi does;
/// of several, `args[0]` names one by title, by file name or by digest.
pub fn choose(request: &Request<'_>, probe: &Probe, image: &ImageView) -> Choice {
    if let Step::Decided(choice) = choose_in_root(request, probe) {
        return choice;
    }
    let entrypoint = entrypoint(request.args);
    let layers = distinct_layers(image);
    let usable = has_modules(image);
    if usable && !layers.is_empty() {
        return match one_layer(entrypoint.path, &layers, image) {
            Ok(layer) => Choice::Module(Module {
                source: Source::Layer(layer.clone()),
                function: entrypoint.named_function(),
                name: layer
                    .title
                    .clone()
                    .unwrap_or_else(|| layer.digest.as_str().to_owned()),
            }),
            Err(refusal) => Choice::Refused(refusal),
        };
    }
    match wasm_only(request) {
        Ok(wasm_only) => without_layers(request, probe, image, wasm_only, !layers.is_empty()),
        Err(refusal) => Choice::Refused(refusal),
    }
}

fn distinct_layers(image: &ImageView) -> Vec<&Layer> {
    let mut layers: Vec<&Layer> = Vec::new();
    for layer in image.wasm_layers() {
        if !layers
            .iter()
            .any(|known| known.digest == layer.digest && known.title == layer.title)
        {
            layers.push(layer);
        }
    }
    layers
}

/// Whether an image's Wasm layers count.
fn has_modules(image: &ImageView) -> bool {
    image.architecture == "wasm" || !image.has_image_config()
}

/// The sentence for a [`Choice::LinuxProgram`] where Linux programs must not run.
pub fn linux_refusal(path: &str) -> Refusal {
    Refusal(format!(
        "entrypoint {} is a Linux program, and LinuxPrograms = false in the options of this runtime handler forbids them; \
         use a RuntimeClass of another handler for it",
        quoted(path)
    ))
}

/// `args[0]`, taken apart at its first `#`.
#[derive(Clone, Copy)]
struct Entrypoint<'a> {
    path: &'a str,
    function: Option<&'a str>,
}

fn entrypoint(args: &[String]) -> Entrypoint<'_> {
    let first = args.first().map_or("", String::as_str);
    match first.split_once('#') {
        Some((path, function)) => Entrypoint {
            path,
            function: Some(function),
        },
        None => Entrypoint {
            path: first,
            function: None,
        },
    }
}

impl Entrypoint<'_> {
    /// `_start` is the default's name in core modules, and what runwasi calls it in components, too.
    fn named_function(self) -> Option<String> {
        self.function
            .filter(|function| *function != "_start")
            .map(str::to_owned)
    }
}

fn file(path: &str, entrypoint: &Entrypoint<'_>) -> Choice {
    Choice::Module(Module {
        source: Source::File {
            path: path.to_owned(),
        },
        function: entrypoint.named_function(),
        name: path.to_owned(),
    })
}

/// Reads the annotations: whether anything but Wasm is excluded.
fn wasm_only(request: &Request<'_>) -> Result<bool, Refusal> {
    let annotation = |name: &str| {
        request
            .annotations
            .and_then(|all| all.get(name))
            .map_or("", String::as_str)
    };
    let by_variant = match annotation(ANNOTATION_VARIANT) {
        "" | "compat-smart" => false,
        "compat" => true,
        other => {
            return Err(Refusal(format!(
                "annotation {ANNOTATION_VARIANT} is {}; it can be compat or compat-smart",
                quoted(other)
            )));
        }
    };
    let by_handler = match annotation(ANNOTATION_HANDLER) {
        "" => false,
        "wasm" => true,
        handler if handler == request.engine => true,
        other => {
            return Err(Refusal(format!(
                "annotation {ANNOTATION_HANDLER} asks for {}, but the RuntimeClass of this container runs {}; \
                 leave the annotation out, or use a RuntimeClass of that handler",
                quoted(other),
                request.engine
            )));
        }
    };
    Ok(by_variant || by_handler)
}

/// The layer that `path` names.
fn one_layer<'a>(
    path: &str,
    layers: &[&'a Layer],
    image: &ImageView,
) -> Result<&'a Layer, Refusal> {
    if let ([only], None) = (layers, path.strip_prefix("sha256:")) {
        return Ok(only);
    }
    let matches = matching(path, layers);
    match matches.as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal(format!(
            "entrypoint {} names none of the {} Wasm layers of {}; name one by its title or digest: {}",
            quoted(path),
            layers.len(),
            image_name(image),
            list(layers)
        ))),
        several => Err(Refusal(format!(
            "entrypoint {} names {} Wasm layers of {}; name one by its digest: {}",
            quoted(path),
            several.len(),
            image_name(image),
            list(several)
        ))),
    }
}

/// The layers that `path` names: by the beginning of a digest, by title, else by the title's file name.
fn matching<'a>(path: &str, layers: &[&'a Layer]) -> Vec<&'a Layer> {
    let digest = path.strip_prefix("sha256:");
    let by_name = |name: &dyn Fn(&str) -> bool| -> Vec<&'a Layer> {
        layers
            .iter()
            .copied()
            .filter(|layer| layer.title.as_deref().is_some_and(name))
            .collect()
    };
    let mut matches = if let Some(hex) = digest {
        // Twelve digits is what tools print of a digest; fewer would match by chance.
        layers
            .iter()
            .copied()
            .filter(|layer| hex.len() >= 12 && layer.digest.hex().starts_with(hex))
            .collect()
    } else {
        by_name(&|title| !path.is_empty() && absolute("/", title) == absolute("/", path))
    };
    if matches.is_empty() && digest.is_none() {
        matches =
            by_name(&|title| !file_name(path).is_empty() && file_name(title) == file_name(path));
    }
    matches.dedup_by(|a, b| a.digest == b.digest);
    matches
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn list(layers: &[&Layer]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = layers
        .iter()
        .take(SHOWN)
        .map(|layer| match &layer.title {
            Some(title) => format!("{} ({})", quoted(title), layer.digest),
            None => layer.digest.to_string(),
        })
        .collect();
    if layers.len() > SHOWN {
        names.push(format!("and {} more", layers.len() - SHOWN));
    }
    names.join(", ")
}

/// The root decides, but holds no Wasm at the entrypoint's path.
fn without_layers(
    request: &Request<'_>,
    probe: &Probe,
    image: &ImageView,
    wasm_only: bool,
    ignored_layers: bool,
) -> Choice {
    let refused = |sentence: String| Choice::Refused(Refusal(sentence));
    let name = image_name(image);
    let (path, content) = match probe {
        Probe::Found { path, content } => (path, *content),
        Probe::Absent if ignored_layers => {
            return refused(format!(
                "{name} has Wasm layers, but its config says architecture {}, where layers are no modules, and \
                 entrypoint {} is not a file in it; build it with architecture wasm",
                quoted(&image.architecture),
                quoted(entrypoint(request.args).path)
            ));
        }
        Probe::Absent if image.config_type == CONFIG_ARTIFACT || image.architecture == "wasm" => {
            return refused(format!(
                "{name} is made for Wasm, but has no layer of type {LAYER_WASM} (a module, titled by {ANNOTATION_TITLE}) and no file at entrypoint {}; \
                 its layers are {}",
                quoted(entrypoint(request.args).path),
                media_types(image)
            ));
        }
        Probe::Absent if entrypoint(request.args).path.is_empty() => {
            return refused(format!(
                "container has no entrypoint, and {name} has no Wasm layers; give it a command that names a module"
            ));
        }
        Probe::Absent => {
            return refused(format!(
                "entrypoint {} is no file in {name}, and there are no Wasm layers",
                quoted(entrypoint(request.args).path)
            ));
        }
    };
    let shown = quoted(path);
    let claims_wasm = is_a_modules_name(path);
    match content {
        Content::Elf | Content::Script if claims_wasm => {
            Choice::Refused(native_refusal("entrypoint", path, content))
        }
        Content::Elf | Content::Script if wasm_only => refused(format!(
            "entrypoint {shown} is a Linux program, but the container's annotations ({ANNOTATION_VARIANT}, \
             {ANNOTATION_HANDLER}) say that it is WebAssembly"
        )),
        Content::Elf | Content::Script => Choice::LinuxProgram { path: path.clone() },
        Content::Empty => refused(format!(
            "entrypoint {shown} is an empty file, not WebAssembly"
        )),
        Content::NotAFile => refused(format!("entrypoint {shown} is not a regular file")),
        Content::Text => refused(format!(
            "entrypoint {shown} is a text file; WebAssembly text is taken from names that end in .wat"
        )),
        Content::Module | Content::Component | Content::Other => refused(format!(
            "entrypoint {shown} is neither WebAssembly nor a program"
        )),
    }
}

fn image_name(image: &ImageView) -> String {
    if image.name.is_empty() {
        return "the container's root (it has no image)".to_owned();
    }
    format!("image {}", quoted(&image.name))
}

fn media_types(image: &ImageView) -> String {
    let mut types: Vec<&str> = image
        .layers
        .iter()
        .map(|layer| layer.media_type.as_str())
        .collect();
    types.dedup();
    types.truncate(8);
    if types.is_empty() {
        "none".to_owned()
    } else {
        types
            .iter()
            .map(|t| quoted(t))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Quoted for a sentence: escaped, and cut, since an argument can be a megabyte long.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
