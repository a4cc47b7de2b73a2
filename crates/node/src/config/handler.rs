//! A runtime handler, and how it is written for each version of the configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The annotations by which a pod says that an image holds WebAssembly. containerd hides a pod's annotations from
/// its shim unless the handler names them.
pub const ANNOTATIONS: [&str; 2] = ["module.wasm.image/*", "run.oci.handler"];

/// What a handler's containers are run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// wasmtime.
    Wasmtime,
    /// WasmEdge.
    Wasmedge,
    /// Whichever the handler's options name.
    Skiff,
}

impl Engine {
    /// All of them, in the order in which their handlers are written.
    pub const ALL: [Self; 3] = [Self::Wasmtime, Self::Wasmedge, Self::Skiff];

    /// As in the names of handlers, runtime types and binaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmtime => "wasmtime",
            Self::Wasmedge => "wasmedge",
            Self::Skiff => "skiff",
        }
    }

    /// The shim's file name, by which it knows its engine.
    pub fn shim(self) -> String {
        format!("containerd-shim-{}-v1", self.name())
    }

    /// containerd's name of the runtime.
    pub fn runtime_type(self) -> String {
        format!("io.containerd.{}.v1", self.name())
    }
}

/// One handler as containerd is to have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// What a RuntimeClass names.
    pub name: String,
    /// What its containers are run by.
    pub engine: Engine,
    /// The folder with the shim, as containerd sees it.
    pub folder: PathBuf,
    /// Cgroups are made by systemd, as the node's runc handler has it.
    pub systemd_cgroup: bool,
}

/// Where a configuration keeps its handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// Version 1, or none, on containerd 1.x: plugins go by their short names.
    Short,
    /// Version 2: one CRI plugin.
    Cri,
    /// Version 3 and later: the CRI plugin in two halves.
    Split,
}

impl Schema {
    /// The plugin that holds handlers.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Short => "cri",
            Self::Cri => "io.containerd.grpc.v1.cri",
            Self::Split => "io.containerd.cri.v1.runtime",
        }
    }

    /// The plugin that pulls images.
    pub fn images_plugin(self) -> &'static str {
        match self {
            Self::Short | Self::Cri => self.plugin(),
            Self::Split => "io.containerd.cri.v1.images",
        }
    }

    /// The table that holds one table per handler.
    pub fn runtimes(self) -> [&'static str; 4] {
        ["plugins", self.plugin(), "containerd", "runtimes"]
    }

    /// What a file that says this of itself is to be read as, the likeliest first.
    pub fn of_version(version: Option<i64>, containerd_major: u32) -> &'static [Self] {
        match (version, containerd_major) {
            (Some(2), _) => &[Self::Cri],
            (None | Some(..=1), ..=1) => &[Self::Short],
            // containerd 2 takes a file without a version for one of its own, or for an old one, by release.
            (None | Some(..=1), _) => &[Self::Split, Self::Short, Self::Cri],
            (Some(3..), _) => &[Self::Split],
        }
    }
}

/// A name that cannot be a handler's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be a handler's name: use lower-case letters, digits and dashes, as a RuntimeClass takes them"
)]
pub struct HandlerNameError(String);

/// What is asked for on the command line: `wasmtime`, or `wasmtime=NAME`.
impl FromStr for Engine {
    type Err = HandlerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|engine| engine.name() == text);
        found.ok_or_else(|| HandlerNameError(text.to_owned()))
    }
}

impl Handler {
    /// Checks the name, which becomes part of a file's text.
    ///
    /// # Errors
    /// If a RuntimeClass could not name it.
    pub fn check_name(name: &str) -> Result<(), HandlerNameError> {
        let good = !name.is_empty()
            && name.len() <= 63
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if good {
            Ok(())
        } else {
            Err(HandlerNameError(name.to_owned()))
        }
    }

    /// The shim's path, as containerd sees it.
    pub fn shim(&self) -> PathBuf {
        self.folder.join(self.engine.shim())
    }

    /// Its tables in this form of the configuration, without a line end after the last line.
    pub fn render(&self, schema: Schema) -> String {
        let header = format!(
            "plugins.{}.containerd.runtimes.{}",
            quoted(schema.plugin()),
            self.name
        );
        let annotations: Vec<String> = ANNOTATIONS.iter().map(|each| quoted(each)).collect();
        let mut text = format!(
            "[{header}]\n  runtime_type = {}\n  runtime_path = {}\n  pod_annotations = [{}]",
            quoted(&self.engine.runtime_type()),
            quoted(&self.shim().to_string_lossy()),
            annotations.join(", "),
        );
        if self.systemd_cgroup {
            write!(text, "\n\n  [{header}.options]\n    SystemdCgroup = true")
                .expect("a string takes all that is written");
        }
        text
    }
}

/// A string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(control))
                    .expect("a string takes all that is written");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a path names a shim under a folder of ours.
pub(super) fn is_below(path: &str, prefix: &Path) -> bool {
    Path::new(path).starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(systemd_cgroup: bool) -> Handler {
        Handler {
            name: "wasmtime".into(),
            engine: Engine::Wasmtime,
            folder: "/opt/skiff/current".into(),
            systemd_cgroup,
        }
    }

    #[test]
    fn handlers_are_tables_of_their_own() {
        assert_eq!(
            handler(true).render(Schema::Cri),
            r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wasmtime]
  runtime_type = "io.containerd.wasmtime.v1"
  runtime_path = "/opt/skiff/current/containerd-shim-wasmtime-v1"
  pod_annotations = ["module.wasm.image/*", "run.oci.handler"]

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wasmtime.options]
    SystemdCgroup = true"#
        );
        assert!(!handler(false).render(Schema::Split).contains("options"));
    }

    #[test]
    fn names_are_those_of_runtime_classes() {
        for name in ["wasmtime", "a", "skiff-2"] {
            Handler::check_name(name).unwrap();
        }
        for name in ["", "-a", "a-", "A", "a.b", "a]\nroot = 1", "a\"b"] {
            Handler::check_name(name).unwrap_err();
        }
    }

    #[test]
    fn strings_cannot_end_early() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\u000A""#);
    }
}
