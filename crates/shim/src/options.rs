//! The runtime's options, as containerd's configuration or `ctr` gives them to `Create`.
//!
//! Three types come: none, containerd's generic `runtimeoptions.v1.Options` (a piece of TOML or the path
//! of a TOML file), and `containerd.runc.v1.Options` from clients that think every runtime is runc.
//! An option that is not known is refused: it may be one that narrows what a pod can do.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci::Options as RuncMessage;
use serde::Deserialize;
use skiff_engine::compile::{CachePolicy, CompileOptions};
use skiff_engine::options::{
    self as contract, CodeOptions, DEFAULT_STACK, GuestOptions, OptLevel, Proposals,
};

use http::Http;
use skiff_engine::service::ServiceOptions;
use values::{
    Backtrace, MemoryCap, StackSize, TimeLimit, engine, engines, proposals, text, versions,
};
use wasmedge::WasmEdge;

pub mod http;
pub mod values;
pub mod wasmedge;

use crate::engine::Engine;
use crate::runc::RuncOptions;

/// Longest TOML file that is read.
const LARGEST_FILE: u64 = 1 << 20;

/// The options, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The node's cgroups are made by systemd.
    #[serde(rename = "SystemdCgroup")]
    pub systemd_cgroup: bool,
    /// The engine of the handler's guests; else that of the runtime type. See [`crate::engine`].
    #[serde(rename = "Engine", deserialize_with = "engine")]
    pub engine: Option<String>,
    /// Engines that a pod may choose by annotation.
    #[serde(rename = "Engines", deserialize_with = "engines")]
    pub engines: Vec<String>,
    /// Which version of an engine, where the node has several.
    #[serde(rename = "EngineVersions", deserialize_with = "versions")]
    engine_versions: BTreeMap<String, String>,
    /// Guests may use WASI 0.3.
    #[serde(rename = "WasiP3")]
    pub wasi_p3: bool,
    /// Linux programs may run in the handler's pods: as containers, and by exec.
    #[serde(rename = "LinuxPrograms")]
    pub linux_programs: bool,
    /// The built-in tools (`sh`, `ls`, `cat`, …) can be run by exec where an image has none.
    #[serde(rename = "Toolbox")]
    pub toolbox: bool,
    /// The executable that runs Linux containers; empty is `runc`.
    #[serde(rename = "BinaryName")]
    binary_name: String,
    /// Where it keeps its state; empty is where containerd's own shim has it.
    #[serde(rename = "Root")]
    root: String,
    /// How Linux containers are run.
    #[serde(skip)]
    pub runc: RuncOptions,
    /// The cap on a guest's memory.
    #[serde(rename = "MemoryCap", deserialize_with = "text")]
    pub memory_cap: MemoryCap,
    /// The longest that a guest may run.
    #[serde(rename = "TimeLimit", deserialize_with = "text")]
    pub time_limit: TimeLimit,
    /// The guest's stack.
    #[serde(rename = "StackSize", deserialize_with = "text")]
    pub stack_size: StackSize,
    /// How much work is put into code.
    #[serde(rename = "OptLevel", deserialize_with = "text")]
    pub opt_level: OptLevel,
    /// What a trap tells.
    #[serde(rename = "Backtrace", deserialize_with = "text")]
    pub backtrace: Backtrace,
    /// What modules may use of WebAssembly.
    #[serde(rename = "Proposals", deserialize_with = "proposals")]
    pub proposals: Proposals,
    /// What the node's cache of compiled code is for.
    #[serde(rename = "CachePolicy", deserialize_with = "text")]
    pub cache_policy: CachePolicy,
    /// How components that handle HTTP requests are served.
    #[serde(rename = "Http")]
    pub http: Http,
    /// What WasmEdge alone can do.
    #[serde(rename = "WasmEdge")]
    pub wasmedge: WasmEdge,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            systemd_cgroup: false,
            engine: None,
            engines: Vec::new(),
            engine_versions: BTreeMap::new(),
            wasi_p3: false,
            linux_programs: true,
            toolbox: true,
            binary_name: String::new(),
            root: String::new(),
            runc: RuncOptions::default(),
            memory_cap: MemoryCap::default(),
            time_limit: TimeLimit::default(),
            stack_size: StackSize(DEFAULT_STACK),
            opt_level: OptLevel::default(),
            backtrace: Backtrace::default(),
            proposals: Proposals::default(),
            cache_policy: CachePolicy::default(),
            http: Http::default(),
            wasmedge: WasmEdge::default(),
        }
    }
}

impl Options {
    /// An engine in the version that is asked for.
    pub fn version_of(&self, engine: &str) -> Engine {
        Engine {
            name: engine.to_owned(),
            version: self.engine_versions.get(engine).cloned(),
        }
    }

    /// For the compile worker, and the key of what it makes.
    pub fn compile(&self) -> CompileOptions {
        CompileOptions {
            code: self.code(),
            opt_level: self.opt_level,
            cache: self.cache_policy,
        }
    }

    /// The same for the built-in tools. They are Skiff's own: no policy for guests keeps them from being compiled.
    pub fn compile_tools(&self) -> CompileOptions {
        CompileOptions {
            code: CodeOptions {
                statistics: false,
                interpreted: false,
                ..self.code()
            },
            cache: CachePolicy::Use,
            ..self.compile()
        }
    }

    /// For the engine host.
    pub fn guest(&self) -> GuestOptions {
        GuestOptions {
            code: self.code(),
            stack: self.stack_size.0,
            backtrace: self.backtrace != Backtrace::Off,
            memory_cap: (self.memory_cap != MemoryCap::Off).then(|| contract::MemoryCap {
                option: self.memory_cap.to_string(),
                admits_minimum: self.memory_cap == MemoryCap::Default,
            }),
            time_limit: self.time_limit.0,
            memory_pages: self.wasmedge.memory_pages.map(|pages| pages.0),
            plugins: self.wasmedge.plugins.clone().map(|directory| directory.0),
        }
    }

    /// For the host that serves HTTP, as far as the container's annotations do not narrow it.
    ///
    /// # Errors
    /// An annotation cannot be used.
    pub fn service(
        &self,
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<ServiceOptions, OptionsError> {
        self.http.service(annotations)
    }

    fn code(&self) -> CodeOptions {
        CodeOptions {
            wasi_p3: self.wasi_p3,
            proposals: self.proposals,
            lines: self.backtrace == Backtrace::Lines,
            statistics: self.wasmedge.statistics,
            interpreted: self.wasmedge.interpreter,
        }
    }
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A message of another runtime.
    #[error(
        "runtime options of type {0} are not understood: use runtimeoptions.v1.Options, which is what containerd sends for a plain `options` table"
    )]
    UnknownType(String),
    /// Bytes that are not such a message.
    #[error("the runtime options of type {name} are damaged")]
    Damaged {
        /// The type.
        name: &'static str,
        /// Why.
        #[source]
        source: containerd_shim_protos::protobuf::Error,
    },
    /// A key or value that is not known.
    #[error("{origin}, line {line}: {message}")]
    Toml {
        /// Where the text is from.
        origin: String,
        /// Line in it, from 1.
        line: usize,
        /// What is wrong there, the key included.
        message: String,
    },
    /// An annotation that is not understood, or asks for what the handler does not grant.
    #[error("its annotation {name} = {value:?} cannot be followed: {reason}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why.
        reason: String,
    },
    /// The file of `ConfigPath`.
    #[error("could not read the runtime options file {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Options {
    /// Reads what `Create` carries.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn from_any(any: Option<&Any>) -> Result<Self, OptionsError> {
        match any {
            None => Ok(Self::default()),
            // Types come with and without a host in front of their name.
            Some(any) => match any.type_url.rsplit('/').next().unwrap_or_default() {
                "" if any.value.is_empty() => Ok(Self::default()),
                "runtimeoptions.v1.Options" => generic(&any.value),
                "containerd.runc.v1.Options" => runc(&any.value),
                _ => Err(OptionsError::UnknownType(any.type_url.clone())),
            },
        }
    }

    pub(crate) fn from_toml(text: &str, origin: &str) -> Result<Self, OptionsError> {
        let options: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            OptionsError::Toml {
                origin: origin.to_owned(),
                line,
                message: error.message().to_owned(),
            }
        })?;
        let runc = RuncOptions {
            binary_name: options.binary_name.clone(),
            root: options.root.clone(),
            ..RuncOptions::default()
        };
        Ok(Self { runc, ..options })
    }
}

/// `runtimeoptions.v1.Options { 1: type_url, 2: config_path, 3: config_body }`.
fn generic(bytes: &[u8]) -> Result<Options, OptionsError> {
    let (path, body) = generic_fields(bytes).map_err(|source| OptionsError::Damaged {
        name: "runtimeoptions.v1.Options",
        source,
    })?;
    if !body.is_empty() {
        return Options::from_toml(
            &String::from_utf8_lossy(&body),
            "the runtime's options in containerd's configuration",
        );
    }
    if path.is_empty() {
        return Ok(Options::default());
    }
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text))
        .map_err(|source| OptionsError::File {
            path: PathBuf::from(&path),
            source,
        })?;
    Options::from_toml(&text, &path)
}

fn generic_fields(bytes: &[u8]) -> containerd_shim_protos::protobuf::Result<(String, Vec<u8>)> {
    let mut input = CodedInputStream::from_bytes(bytes);
    let (mut path, mut body) = (String::new(), Vec::new());
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            0x12 => path = input.read_string()?,
            0x1a => body = input.read_bytes()?,
            _ => {
                let kind = containerd_shim_protos::protobuf::rt::WireType::new(tag & 7);
                let kind =
                    kind.ok_or_else(|| std::io::Error::other("a field of unknown wire type"))?;
                input.skip_field(kind)?;
            }
        }
    }
    Ok((path, body))
}

/// What containerd's own shim takes. For Linux containers it means the same here; for Wasm containers the cgroup
/// driver does.
fn runc(bytes: &[u8]) -> Result<Options, OptionsError> {
    let runc = RuncMessage::parse_from_bytes(bytes).map_err(|source| OptionsError::Damaged {
        name: "containerd.runc.v1.Options",
        source,
    })?;
    Ok(Options {
        systemd_cgroup: runc.systemd_cgroup,
        runc: RuncOptions::of(&runc),
        ..Options::default()
    })
}

#[cfg(test)]
mod tests;
