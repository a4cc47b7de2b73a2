//! containerd's CRI plugin: are Skiff's handlers configured, and with what?
//!
//! Asked of containerd itself (`containerd config dump`), which merges its defaults, its file and the imports.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::containerd::{PATIENCE, Process, Version};
use super::{Finding, RUN_AS_ROOT, privileges, probe, sentence};

/// The annotations by which pods choose how an image is run; containerd hides them from a shim unless told.
const ANNOTATIONS: [&str; 2] = ["module.wasm.image/variant", "run.oci.handler"];

/// What was found.
#[derive(Debug)]
pub struct Facts {
    /// The configuration in force, or why it could not be read.
    pub config: Result<CriConfig, String>,
    /// A kubelet lives on this node.
    pub kubelet: bool,
}

/// What Skiff needs to know of the CRI plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriConfig {
    /// The plugin runs.
    pub enabled: bool,
    /// Its `restrict_oom_score_adj`.
    pub restrict_oom_score_adj: bool,
    /// Its `use_local_image_pull`, where containerd knows it (2.1 and later).
    pub local_pull: Option<bool>,
    /// All handlers.
    pub handlers: Vec<Handler>,
}

/// One entry of the table `runtimes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Handler {
    /// The name that a RuntimeClass gives as its `handler`.
    #[serde(skip)]
    pub name: String,
    /// Names the shim's binary: `io.containerd.wasmtime.v1`.
    pub runtime_type: String,
    /// The shim's path, when it is not to be searched for.
    pub runtime_path: String,
    /// Annotations of pods that the shim is shown.
    pub pod_annotations: Vec<String>,
    /// `options.SystemdCgroup`.
    #[serde(skip)]
    pub systemd_cgroup: bool,
    /// Keys of `options` that a shim of Skiff's refuses.
    #[serde(skip)]
    pub unknown_options: Vec<String>,
}

impl Handler {
    /// The binary that containerd starts for this handler, by its name.
    pub fn binary(&self) -> Option<String> {
        let mut parts = self.runtime_type.rsplit('.');
        let (version, engine) = (parts.next()?, parts.next()?);
        Some(format!("containerd-shim-{engine}-{version}"))
    }
}

impl CriConfig {
    /// The handlers that lead to a shim of Skiff's.
    pub fn skiff_handlers(&self) -> impl Iterator<Item = &Handler> {
        const TYPES: [&str; 3] = [
            "io.containerd.wasmtime.v1",
            "io.containerd.wasmedge.v1",
            "io.containerd.skiff.v1",
        ];
        self.handlers
            .iter()
            .filter(|handler| TYPES.contains(&handler.runtime_type.as_str()))
    }

    /// Reads a dumped configuration, of version 2 (containerd 1.7) or 3 (containerd 2).
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let whole: Table = toml::from_str(text)?;
        let plugin = |name: &str| {
            whole
                .get("plugins")
                .and_then(|plugins| plugins.get(name))
                .and_then(Value::as_table)
        };
        let (runtime, images, ids) = match plugin("io.containerd.cri.v1.runtime") {
            Some(runtime) => (
                Some(runtime),
                plugin("io.containerd.cri.v1.images"),
                ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"],
            ),
            None => (
                plugin("io.containerd.grpc.v1.cri"),
                None,
                ["io.containerd.grpc.v1.cri", "cri"],
            ),
        };
        let disabled = whole
            .get("disabled_plugins")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let is_disabled = disabled
            .iter()
            .filter_map(Value::as_str)
            .any(|id| ids.contains(&id));
        let flag = |table: Option<&Table>, key: &str| {
            table
                .and_then(|table| table.get(key))
                .and_then(Value::as_bool)
        };
        let runtimes =
            runtime.and_then(|runtime| runtime.get("containerd")?.get("runtimes")?.as_table());
        let handlers = runtimes
            .into_iter()
            .flatten()
            .map(|(name, value)| handler(name, value))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            enabled: runtime.is_some() && !is_disabled,
            restrict_oom_score_adj: flag(runtime, "restrict_oom_score_adj").unwrap_or(false),
            local_pull: flag(images, "use_local_image_pull"),
            handlers,
        })
    }
}

/// Options that the shim takes; a test of the shim's sees that these are all.
pub const SHIM_OPTIONS: [&str; 18] = [
    "SystemdCgroup",
    "Engine",
    "Engines",
    "EngineVersions",
    "WasiP3",
    "LinuxPrograms",
    "Toolbox",
    "BinaryName",
    "Root",
    "MemoryCap",
    "TimeLimit",
    "StackSize",
    "OptLevel",
    "Backtrace",
    "Proposals",
    "CachePolicy",
    "Http",
    "WasmEdge",
];
/// Options that containerd itself reads.
pub(crate) const CONTAINERD_OPTIONS: [&str; 3] = ["TypeUrl", "ConfigPath", "ConfigBody"];

fn handler(name: &str, value: &Value) -> Result<Handler, toml::de::Error> {
    let options = value.get("options").and_then(Value::as_table);
    let systemd_cgroup = options
        .and_then(|options| options.get("SystemdCgroup"))
        .and_then(Value::as_bool);
    let unknown = options.into_iter().flat_map(Table::keys).filter(|key| {
        let mut known = SHIM_OPTIONS.iter().chain(&CONTAINERD_OPTIONS);
        !known.any(|option| option == key)
    });
    let handler: Handler = value.clone().try_into()?;
    Ok(Handler {
        name: name.to_owned(),
        systemd_cgroup: systemd_cgroup.unwrap_or(false),
        unknown_options: unknown.cloned().collect(),
        ..handler
    })
}

/// The configuration in force, as the running containerd's own executable tells it.
///
/// # Errors
/// Why it does not, as half a sentence.
pub(crate) fn dump(process: &Process) -> Result<String, String> {
    let config_file = process.config_file.to_string_lossy();
    let arguments = ["--config", &config_file, "config", "dump"];
    probe::answer_of(&process.program(), &arguments, PATIENCE).map_err(|error| sentence(&error))
}

/// The handlers of a dumped configuration, of version 2 or 3.
pub(crate) fn runtimes(whole: &Table) -> Option<&Table> {
    let plugins = whole.get("plugins")?;
    let plugin = plugins
        .get("io.containerd.cri.v1.runtime")
        .or_else(|| plugins.get("io.containerd.grpc.v1.cri"))?;
    plugin.get("containerd")?.get("runtimes")?.as_table()
}

/// Asks for the configuration in force.
pub fn gather(process: &Process) -> Facts {
    let config = dump(process)
        .and_then(|text| CriConfig::parse(&text).map_err(|error| error.message().to_owned()));
    Facts {
        config,
        kubelet: Path::new("/var/lib/kubelet").is_dir(),
    }
}

/// Findings on the plugin, its handlers, and how they pull and pass on annotations.
pub fn judge(facts: &Facts, version: Option<Version>) -> Vec<Finding> {
    let config = match &facts.config {
        Ok(config) => config,
        Err(error) => {
            let by_hand = "run `containerd config dump` by hand: what it complains of, containerd itself will complain of at its next start";
            let next = if privileges::may_mount() {
                by_hand
            } else {
                RUN_AS_ROOT
            };
            let finding = format!(
                "containerd's configuration could not be read: `containerd config dump` {error}"
            );
            return vec![Finding::warn("cri.config", finding, next)];
        }
    };
    if !config.enabled {
        return vec![Finding::warn(
            "cri.enabled",
            "containerd's CRI plugin is off; `ctr` works, Kubernetes does not",
            "take cri out of disabled_plugins in containerd's configuration and restart containerd, if this is a node of a cluster",
        )];
    }
    let mut findings = vec![handlers(config, facts.kubelet, version)];
    findings.extend(config.skiff_handlers().filter_map(options));
    findings.extend(config.skiff_handlers().filter_map(annotations));
    findings
}

fn handlers(config: &CriConfig, kubelet: bool, version: Option<Version>) -> Finding {
    let id = "cri.handler";
    let names: Vec<String> = config
        .skiff_handlers()
        .map(|handler| format!("{} ({})", handler.name, handler.runtime_type))
        .collect();
    if !names.is_empty() {
        return Finding::ok(id, format!("runtime handler {}", names.join(", ")));
    }
    let snippet = match version {
        Some(version) if version.major < 2 => "runtimeclass/containerd-v2.toml",
        _ => "runtimeclass/containerd-v3.toml",
    };
    let next = format!(
        "run `skiff-node install`; or, by hand, add {snippet} to containerd's configuration, restart containerd, and apply runtimeclass/wasmtime.yaml to the cluster"
    );
    if kubelet {
        Finding::fail(
            id,
            "no runtime handler of Skiff's is configured in containerd; pods with a RuntimeClass for it fail",
            next,
        )
    } else {
        Finding::warn(
            id,
            "no runtime handler of Skiff's is configured in containerd; `ctr run --runtime io.containerd.wasmtime.v1` works without one",
            next,
        )
    }
}

fn options(handler: &Handler) -> Option<Finding> {
    let (name, unknown) = (&handler.name, handler.unknown_options.join(", "));
    (!unknown.is_empty()).then(|| {
        Finding::fail(
            "cri.options",
            format!("handler {name} has options that Skiff does not know, {unknown}; its containers are refused"),
            format!("leave them out of runtimes.{name}.options in containerd's configuration and restart containerd"),
        )
    })
}

fn annotations(handler: &Handler) -> Option<Finding> {
    let passed = |annotation: &str| {
        handler
            .pod_annotations
            .iter()
            .any(|pattern| matches(pattern, annotation))
    };
    let hidden: Vec<&str> = ANNOTATIONS
        .into_iter()
        .filter(|annotation| !passed(annotation))
        .collect();
    (!hidden.is_empty()).then(|| {
        Finding::warn(
            "cri.annotations",
            format!("handler {} does not pass on the annotations {}; pods that use them are run as if they had none", handler.name, hidden.join(", ")),
            format!("add pod_annotations = [\"module.wasm.image/*\", \"run.oci.handler\"] to runtimes.{} in containerd's configuration and restart containerd", handler.name),
        )
    })
}

/// containerd's patterns are those of Go's `path.Match`; a star at the end is the only use made of them here.
fn matches(pattern: &str, annotation: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => annotation
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.contains('/')),
        None => pattern == annotation,
    }
}

#[cfg(test)]
mod tests;
