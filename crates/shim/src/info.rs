//! `-info` and `-v`: what this runtime is.

use std::io::Read;

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// What `-v` prints.
pub fn version(program: &str, engine: &str) -> String {
    format!(
        "{program}:\n  Version: {}\n  Engine:  {engine}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What `-info` prints. The options that containerd pipes to it change nothing in the answer and are
/// taken off the pipe only so that containerd can write them.
///
/// It has no OCI features: containerd would take each of them for a promise, and without them it lets
/// `Create` decide.
///
/// # Errors
/// Standard input cannot be read.
pub fn info(engine: &str, input: impl Read) -> std::io::Result<Vec<u8>> {
    std::io::copy(
        &mut input.take(crate::bootstrap::LARGEST_INPUT),
        &mut std::io::sink(),
    )?;
    let mut version = RuntimeVersion::new();
    env!("CARGO_PKG_VERSION").clone_into(&mut version.version);
    let mut info = RuntimeInfo::new();
    info.name = format!("io.containerd.{engine}.v1");
    info.version = MessageField::some(version);
    info.annotations
        .insert("skiff.engine".to_owned(), engine.to_owned());
    Ok(info.write_to_bytes()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_it_is() {
        let bytes = info("wasmtime", &[1, 2, 3][..]).unwrap();
        let info = RuntimeInfo::parse_from_bytes(&bytes).unwrap();
        assert_eq!(info.name, "io.containerd.wasmtime.v1");
        assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
        assert!(info.features.is_none());
    }
}
