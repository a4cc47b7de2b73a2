//! `-info` and `-v`: what this runtime is, and what it can do.
//!
//! containerd asks when it starts, and at every Create with id-mapped mounts. It tells the kubelet by the answer whether
//! pods of a handler can have user namespaces and recursively read-only mounts. A pod may hold containers of both kinds,
//! Wasm guests and Linux programs that the node's runc runs: so only what both can do is announced.

use std::io::Read;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options as RuncOptions;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::{Map, Value};

use crate::options::Options;

mod runc;

/// By which containerd knows the document: the Go type's name.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// What `-v` prints.
pub fn version(program: &str, engine: &str) -> String {
    let revision =
        revision().map_or_else(String::new, |revision| format!("  Revision: {revision}\n"));
    format!(
        "{program}:\n  Version: {}\n{revision}  Engine:  {engine}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The revision of the sources, where the build names it.
fn revision() -> Option<&'static str> {
    option_env!("SKIFF_REVISION").filter(|revision| !revision.is_empty())
}

/// What `-info` prints. `input` is what containerd pipes to it: the handler's options.
///
/// # Errors
/// Standard input cannot be read.
pub fn info(engine: &str, input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input
        .take(crate::bootstrap::LARGEST_INPUT)
        .read_to_end(&mut bytes)?;
    let others = match program(&bytes) {
        Some(program) => runc::features(&program),
        None => Others::None,
    };
    let mut version = RuntimeVersion::new();
    env!("CARGO_PKG_VERSION").clone_into(&mut version.version);
    revision()
        .unwrap_or_default()
        .clone_into(&mut version.revision);
    let mut info = RuntimeInfo::new();
    info.name = format!("io.containerd.{engine}.v1");
    info.version = MessageField::some(version);
    info.annotations
        .insert("skiff.engine".to_owned(), engine.to_owned());
    let (features, linux_programs) = match others {
        Others::Features(theirs) => (
            both(&skiff_sandbox::spec::features(), &theirs),
            "runc".to_owned(),
        ),
        Others::None => (Some(skiff_sandbox::spec::features()), "none".to_owned()),
        // What it can do is not known, so nothing is promised.
        Others::Unknown(why) => (None, why),
    };
    info.annotations
        .insert("skiff.linux-programs".to_owned(), linux_programs);
    if let Some(features) = features {
        info.features = MessageField::some(Any {
            type_url: FEATURES.to_owned(),
            value: features.to_string().into_bytes(),
            ..Any::default()
        });
    }
    Ok(info.write_to_bytes()?)
}

/// What runs the Linux programs of the handler's pods.
#[derive(Debug, PartialEq)]
enum Others {
    /// Nothing does.
    None,
    /// A runtime with this features document.
    Features(Value),
    /// A runtime that does not tell, and why.
    Unknown(String),
}

/// The runtime for Linux programs, if the handler has any. Options that cannot be read are told at Create.
fn program(options: &[u8]) -> Option<String> {
    let any = Any::parse_from_bytes(options)
        .ok()
        .filter(|any| !any.type_url.is_empty());
    let allowed = Options::from_any(any.as_ref()).map_or(true, |options| options.linux_programs);
    let named = any
        .filter(|any| any.type_url.ends_with("containerd.runc.v1.Options"))
        .and_then(|any| RuncOptions::parse_from_bytes(&any.value).ok())
        .map(|options| options.binary_name)
        .filter(|name| !name.is_empty());
    allowed.then(|| named.unwrap_or_else(|| "runc".to_owned()))
}

/// What two features documents have in common: of lists the entries that are in both, of switches those that are on in
/// both, of versions the narrower range. A key that one does not have says nothing, and is left out.
fn both(ours: &Value, theirs: &Value) -> Option<Value> {
    let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) else {
        return None;
    };
    let mut common = Map::new();
    for (key, ours) in ours {
        let Some(theirs) = theirs.get(key) else {
            continue;
        };
        let value = match (ours, theirs) {
            (Value::Bool(ours), Value::Bool(theirs)) => Value::Bool(*ours && *theirs),
            (Value::Array(ours), Value::Array(theirs)) => Value::Array(
                ours.iter()
                    .filter(|entry| theirs.contains(entry))
                    .cloned()
                    .collect(),
            ),
            (Value::String(ours), Value::String(theirs)) => {
                let order = version_order(ours).cmp(&version_order(theirs));
                let narrower = if key == "ociVersionMin" {
                    order.is_ge()
                } else {
                    order.is_le()
                };
                Value::String(if narrower { ours } else { theirs }.clone())
            }
            (ours @ Value::Object(_), theirs) => match both(ours, theirs) {
                Some(value) => value,
                None => continue,
            },
            _ => continue,
        };
        common.insert(key.clone(), value);
    }
    Some(Value::Object(common))
}

/// `1.0.2-dev` is before `1.0.2`.
fn version_order(version: &str) -> (Vec<u64>, bool) {
    let (numbers, rest) = version.split_once(['-', '+']).unwrap_or((version, ""));
    let numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.collect(), rest.is_empty())
}

#[cfg(test)]
mod tests;
