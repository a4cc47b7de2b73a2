//! Which module does this container run? Pure functions; the shim does the looking.
//!
//! Two steps, since most containers are decided without asking containerd anything:
//!
//! 1. The shim looks for the first of [`candidates`] in the container's root (and in the volumes mounted
//!    there), describes what it finds as a [`Probe`], and calls [`choose_in_root`].
//! 2. Only when that answers [`Step::AskImage`] does it look the image up
//!    ([`crate::containerd::lookup_image`]) and call [`choose`].

use std::collections::HashMap;

use crate::view::{ImageView, Layer};

/// What is asked for. All of it comes from the container's `config.json`, but the engine.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `process.args`.
    pub args: &'a [String],
    /// `annotations`; none is the same as an empty map.
    pub annotations: Option<&'a HashMap<String, String>>,
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
    /// A Linux program at this path. This release has no place to run it: [`Choice::linux_refusal`].
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
    pub fn of(head: &[u8]) -> Self {
        let _ = head;
        Self::Other
    }
}

/// The paths at which the entrypoint may lie in the root, in order: absolute, without `.` and `..`.
pub fn candidates(args: &[String], working_directory: &str, environment: &[String]) -> Vec<String> {
    let _ = (args, working_directory, environment);
    Vec::new()
}

/// Decides by what lies in the root, without the image.
pub fn choose_in_root(request: &Request<'_>, probe: &Probe) -> Step {
    let _ = (request, probe);
    Step::AskImage
}

/// Decides with the image at hand.
pub fn choose(request: &Request<'_>, probe: &Probe, image: &ImageView) -> Choice {
    let _ = (request, probe, image);
    Choice::Refused(Refusal("not yet".to_owned()))
}
