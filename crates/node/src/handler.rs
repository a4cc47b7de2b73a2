//! What is in force for a runtime handler, and where each value comes from: `skiff config show`.
//!
//! containerd is asked for its configuration as it understands it; what the shim takes for options that are not there
//! is known here, and a test of the shim's sees that it is true.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use crate::doctor::{containerd, cri};

/// The shim's options and their defaults, as TOML.
pub const DEFAULTS: [(&str, &str); 18] = [
    ("SystemdCgroup", "false"),
    ("Engine", "\"\""),
    ("Engines", "[]"),
    ("EngineVersions", "{}"),
    ("WasiP3", "false"),
    ("LinuxPrograms", "true"),
    ("Toolbox", "true"),
    ("BinaryName", "\"\""),
    ("Root", "\"\""),
    ("MemoryCap", "\"default\""),
    ("TimeLimit", "\"off\""),
    ("StackSize", "\"512Ki\""),
    ("OptLevel", "\"speed\""),
    ("Backtrace", "\"lines\""),
    ("Proposals", "{}"),
    ("CachePolicy", "\"use\""),
    ("Http", "{}"),
    ("WasmEdge", "{}"),
];

/// A handler of containerd's.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Its name.
    pub handler: String,
    /// What it starts.
    pub runtime_type: String,
    /// Its options, all that there are.
    pub options: Vec<Setting>,
}

/// One option.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// `default`, `containerd`, or the path of the file that `ConfigPath` names.
    pub origin: String,
    /// The shim takes it; it refuses every container of a handler that has others.
    pub known: bool,
}

/// Why that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// There is no containerd.
    #[error("could not ask the containerd behind {}: {reason}", address.display())]
    Containerd {
        /// Its socket.
        address: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something that should be TOML.
    #[error("{origin} is not valid TOML: {}", source.message())]
    Toml {
        /// What.
        origin: String,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// Not configured.
    #[error("containerd has no runtime handler {handler}; it has {}", if others.is_empty() { "none" } else { others })]
    Unknown {
        /// What was asked for.
        handler: String,
        /// Those that there are.
        others: String,
    },
    /// The file of `ConfigPath`.
    #[error("could not read {}, which the handler's ConfigPath names", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Asks the containerd behind `address`.
///
/// # Errors
/// See [`HandlerError`].
pub fn in_force(address: &Path, handler: &str) -> Result<InForce, HandlerError> {
    let failed = |reason: String| HandlerError::Containerd {
        address: address.to_owned(),
        reason,
    };
    let facts = containerd::gather(address);
    let process = facts.process().ok_or_else(|| {
        failed("nobody answers there; is containerd running, and is this run as root?".to_owned())
    })?;
    let dump = cri::dump(process).map_err(failed)?;
    of_dump(&dump, handler, |path| std::fs::read_to_string(path))
}

fn of_dump(
    dump: &str,
    handler: &str,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<InForce, HandlerError> {
    let parsed = |text: &str, origin: &str| -> Result<Table, HandlerError> {
        toml::from_str(text).map_err(|source| HandlerError::Toml {
            origin: origin.to_owned(),
            source,
        })
    };
    let whole = parsed(dump, "containerd's configuration")?;
    let runtimes = cri::runtimes(&whole);
    let entry = runtimes.and_then(|runtimes| runtimes.get(handler));
    let Some(entry) = entry.and_then(Value::as_table) else {
        let others = runtimes
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str());
        let others: Vec<_> = others.collect();
        return Err(HandlerError::Unknown {
            handler: handler.to_owned(),
            others: others.join(", "),
        });
    };
    let own = entry.get("options").and_then(Value::as_table);
    let text = |table: Option<&Table>, key: &str| {
        let value = table.and_then(|table| table.get(key));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    // With a file, containerd sends the shim nothing of the table.
    let path = PathBuf::from(text(own, "ConfigPath"));
    let (given, origin) = if path.as_os_str().is_empty() {
        (own.cloned().unwrap_or_default(), "containerd".to_owned())
    } else {
        let origin = path.display().to_string();
        let text = read(&path).map_err(|source| HandlerError::File { path, source })?;
        (parsed(&text, &origin)?, origin)
    };
    let mut options: Vec<Setting> = DEFAULTS
        .iter()
        .map(|(key, default)| match given.get(*key) {
            Some(value) => Setting::new(key, written(value), &origin, true),
            None => Setting::new(key, (*default).to_owned(), "default", true),
        })
        .collect();
    let strangers = given.iter().filter(|(key, _)| {
        let known = DEFAULTS.iter().any(|(known, _)| known == key);
        !known && !cri::CONTAINERD_OPTIONS.contains(&key.as_str())
    });
    options.extend(strangers.map(|(key, value)| Setting::new(key, written(value), &origin, false)));
    Ok(InForce {
        handler: handler.to_owned(),
        runtime_type: text(Some(entry), "runtime_type"),
        options,
    })
}

/// A value as TOML, on one line.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(written).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", written(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

impl Setting {
    fn new(key: &str, value: String, origin: &str, known: bool) -> Self {
        Self {
            key: key.to_owned(),
            value,
            origin: origin.to_owned(),
            known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"
version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmtime]
runtime_type = "io.containerd.wasmtime.v1"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmtime.options]
MemoryCap = "75%"
Typo = 1
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmtime.options.Proposals]
gc = false
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.filed]
runtime_type = "io.containerd.wasmtime.v1"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.filed.options]
ConfigPath = "/etc/skiff/filed.toml"
MemoryCap = "off"
"#;

    fn of(handler: &str, file: &str) -> Result<InForce, HandlerError> {
        of_dump(DUMP, handler, |path| {
            assert_eq!(path, Path::new("/etc/skiff/filed.toml"));
            Ok(file.to_owned())
        })
    }

    fn line(found: &InForce, key: &str) -> (String, String, bool) {
        let setting = found.options.iter().find(|setting| setting.key == key);
        let setting = setting.unwrap();
        (setting.value.clone(), setting.origin.clone(), setting.known)
    }

    #[test]
    fn values_come_from_containerd_a_file_or_nowhere() {
        let found = of("wasmtime", "").unwrap();
        assert_eq!(found.runtime_type, "io.containerd.wasmtime.v1");
        let told = |value: &str, origin: &str, known| (value.to_owned(), origin.to_owned(), known);
        assert_eq!(
            line(&found, "MemoryCap"),
            told("\"75%\"", "containerd", true)
        );
        assert_eq!(
            line(&found, "Proposals"),
            told("{ gc = false }", "containerd", true)
        );
        assert_eq!(line(&found, "Toolbox"), told("true", "default", true));
        assert_eq!(line(&found, "Typo"), told("1", "containerd", false));
        let found = of("filed", "Toolbox = false").unwrap();
        let file = "/etc/skiff/filed.toml";
        assert_eq!(line(&found, "Toolbox"), told("false", file, true));
        assert_eq!(
            line(&found, "MemoryCap"),
            told("\"default\"", "default", true)
        );
    }

    #[test]
    fn a_handler_that_is_not_there_is_told_with_those_that_are() {
        let told = of("wasm", "").unwrap_err().to_string();
        assert_eq!(
            told,
            "containerd has no runtime handler wasm; it has filed, wasmtime"
        );
        assert!(
            of("filed", "x")
                .unwrap_err()
                .to_string()
                .contains("filed.toml is not valid TOML")
        );
    }
}
