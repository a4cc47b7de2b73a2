//! Reads and checks a module for the builder, and tells what it is.
//!
//! The node validates again when it compiles; here a mistake is found before it is shipped. Validation is
//! generous: which proposals a node runs is its engine's matter.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use super::{BuildError, ModuleFacts};
use crate::choose::Content;
use crate::view::Digest;

/// Largest module: what a node takes.
const MODULE_BYTES: u64 = 256 << 20;

/// A checked module in its binary form.
#[derive(Debug)]
pub(super) struct Module {
    /// `hello.wasm`.
    pub(super) file_name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) facts: ModuleFacts,
}

impl Module {
    pub(super) fn read(path: &Path) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MODULE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = binary(&path.display().to_string(), bytes)?;
        let stem = name
            .strip_suffix(".wat")
            .or_else(|| name.strip_suffix(".wasm"))
            .unwrap_or(&name);
        let file_name = format!("{stem}.wasm");
        let facts = facts(&file_name, &bytes)?;
        Ok(Self {
            file_name,
            bytes,
            facts,
        })
    }
}

/// The binary form of a module given in either form.
pub(super) fn binary(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, BuildError> {
    let refused = |why: &str| {
        Err(BuildError::NotWasm {
            name: name.to_owned(),
            why: why.to_owned(),
        })
    };
    if bytes.len() as u64 > MODULE_BYTES {
        return refused("it is larger than 256 MiB, the limit of a module");
    }
    match Content::of(&bytes) {
        Content::Module | Content::Component => Ok(bytes),
        Content::Empty => refused("it is empty (0 bytes)"),
        Content::Elf => refused(
            "it is native code (ELF); give the WebAssembly module that it was compiled from, nodes compile it themselves",
        ),
        Content::Script => refused("it is a script (#!)"),
        Content::NotAFile | Content::Other => {
            refused("it is neither WebAssembly nor its text format")
        }
        Content::Text => match wat::parse_bytes(&bytes) {
            Ok(binary) => Ok(binary.into_owned()),
            Err(error) => Err(BuildError::Text {
                name: name.to_owned(),
                source: error.into(),
            }),
        },
    }
}

/// Validates a binary module and tells what it is.
pub(super) fn facts(name: &str, bytes: &[u8]) -> Result<ModuleFacts, BuildError> {
    let invalid = |source| BuildError::Invalid {
        name: name.to_owned(),
        source,
    };
    let mut facts = ModuleFacts {
        name: name.to_owned(),
        digest: Digest::of(bytes).to_string(),
        bytes: bytes.len() as u64,
        ..ModuleFacts::default()
    };
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .map_err(invalid)?;
    // Nested modules and components come as payloads of their own; only the outermost one's imports count.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if section.name() == "wasmedge" => {
                return Err(BuildError::NotWasm {
                    name: name.to_owned(),
                    why: "it carries native code for WasmEdge (custom section \"wasmedge\"); give the module that it was \
                          compiled from, nodes compile it themselves"
                        .to_owned(),
                });
            }
            _ if depth > 0 => {}
            Payload::Version { encoding, .. } => {
                facts.kind = match encoding {
                    Encoding::Module => "module",
                    Encoding::Component => "component",
                }
                .to_owned();
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(invalid)?;
                    facts
                        .imports
                        .push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    facts.exports.push(export.map_err(invalid)?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    facts
                        .imports
                        .push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    facts
                        .exports
                        .push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    facts.os = os(&facts);
    facts.world = world(&facts);
    Ok(facts)
}

/// The WASI version by the imports.
fn os(facts: &ModuleFacts) -> String {
    let imports = |part: &str| facts.imports.iter().any(|import| import.contains(part));
    let wasi = |version: &str| {
        facts.imports.iter().chain(&facts.exports).any(|name| {
            name.starts_with("wasi:")
                && name
                    .split_once('@')
                    .is_some_and(|(_, found)| found.starts_with(version))
        })
    };
    if facts.kind == "component" {
        if wasi("0.3") {
            "wasip3"
        } else if wasi("0.2") {
            "wasip2"
        } else {
            "none"
        }
    } else if imports("wasi_snapshot_preview1.") || imports("wasi_unstable.") {
        "wasip1"
    } else {
        "none"
    }
    .to_owned()
}

/// The known world that the module fits, by what it exports.
fn world(facts: &ModuleFacts) -> Option<String> {
    let exports = |interface: &str| {
        facts
            .exports
            .iter()
            .find(|name| name.split('@').next() == Some(interface))
            .map(|name| {
                name.split_once('@')
                    .map_or(String::new(), |(_, version)| format!("@{version}"))
            })
    };
    let worlds = [
        ("wasi:cli/run", "wasi:cli/command"),
        ("wasi:http/incoming-handler", "wasi:http/proxy"),
        ("wasi:http/handler", "wasi:http/service"),
    ];
    if facts.kind == "component" {
        worlds.iter().find_map(|(interface, world)| {
            exports(interface).map(|version| format!("{world}{version}"))
        })
    } else if exports("_start").is_some() {
        Some("command".to_owned())
    } else if exports("_initialize").is_some() {
        Some("reactor".to_owned())
    } else {
        None
    }
}
