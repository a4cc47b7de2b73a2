//! What the tests' containers run: the program of `test/guest`, and modules made on the spot.

use anyhow::{Context as _, Result};

use crate::node::engine;
use crate::tools;

/// The guest program as a core module (WASI p1). `test/guest/src/main.rs` says what it can do.
///
/// # Errors
/// If it was not built.
pub fn module() -> Result<Vec<u8>> {
    built("wasm32-wasip1")
}

/// The same as a component (WASI 0.2). A test that needs one is skipped for an engine that runs none.
///
/// # Errors
/// If it was not built.
pub fn component() -> Result<Vec<u8>> {
    only_wasmtime("runs components")?;
    built("wasm32-wasip2")
}

/// Ends a test of what other engines do not do; docs/engines.md lists that.
///
/// # Errors
/// If the tests are of another engine.
pub fn only_wasmtime(does: &str) -> Result<()> {
    if engine() != "wasmtime" {
        crate::skip!("of the engines, only wasmtime {does}");
    }
    Ok(())
}

/// A component that handles HTTP requests: `examples/http`.
///
/// # Errors
/// If it was not built.
pub fn service() -> Result<Vec<u8>> {
    read("examples/http/target/wasm32-wasip2/release/http.wasm")
}

/// The same of WASI 0.3: `examples/http-p3`. Its handler needs `WasiP3 = true`.
///
/// # Errors
/// If it was not built.
pub fn service_p3() -> Result<Vec<u8>> {
    read("examples/http-p3/target/wasm32-wasip2/release/http_p3.wasm")
}

/// A service that uses what WASI has only drafts of: `test/drafts`.
///
/// # Errors
/// If it was not built.
pub fn drafts() -> Result<Vec<u8>> {
    read("test/drafts/target/wasm32-wasip2/release/drafts.wasm")
}

fn built(target: &str) -> Result<Vec<u8>> {
    read(&format!("test/guest/target/{target}/release/guest.wasm"))
}

fn read(path: &str) -> Result<Vec<u8>> {
    let path = tools::checkout().join(path);
    std::fs::read(&path)
        .with_context(|| format!("could not read {}; `test/run.sh` builds it", path.display()))
}

/// A module from its text.
///
/// # Errors
/// If the text is wrong.
pub fn text(wat: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_str(wat)?)
}

/// A valid module that does nothing, with a custom section of `name` and `bytes` in it.
///
/// # Errors
/// If the section cannot be encoded.
pub fn with_section(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = text(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?;
    let mut body = Vec::new();
    leb(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(bytes);
    module.push(0);
    leb(&mut module, body.len());
    module.extend_from_slice(&body);
    Ok(module)
}

/// A module of `count` functions.
///
/// # Errors
/// If the text is wrong.
pub fn functions(count: usize) -> Result<Vec<u8>> {
    let mut wat = String::from(r#"(module (memory (export "memory") 1) (func (export "_start"))"#);
    for number in 0..count {
        wat.push_str(&format!(
            "(func (param i32) (result i32) local.get 0 i32.const {number} i32.add)"
        ));
    }
    wat.push(')');
    text(&wat)
}

/// A module that is about `bytes` long, most of it one data segment.
///
/// # Errors
/// If the text is wrong.
pub fn padded(bytes: usize) -> Result<Vec<u8>> {
    with_section("padding", &vec![7; bytes])
}

/// Unsigned LEB128, as Wasm has it.
fn leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit into a byte");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
