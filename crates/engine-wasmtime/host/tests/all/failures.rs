//! What does not become a container, and with which sentence.

use skiff_engine::options::CodeOptions;

use crate::harness::{Container, compile};

#[track_caller]
fn refusal(container: Container) -> String {
    match container.create() {
        Err(sentence) => sentence,
        Ok(_) => panic!("it was created"),
    }
}

#[test]
fn an_unknown_import_is_named_with_its_provider() {
    let module = r#"(module (import "env" "emscripten_memcpy" (func)) (func (export "_start")))"#;
    let sentence = refusal(Container::new(module));
    assert!(
        sentence.starts_with("/app.wasm imports emscripten_memcpy from env, "),
        "{sentence}"
    );
    assert!(sentence.contains("Emscripten"), "{sentence}");

    let module = r#"(module
        (import "wasi_snapshot_preview1" "sock_connect" (func (param i32 i32 i32) (result i32)))
        (func (export "_start")))"#;
    let sentence = refusal(Container::new(module));
    assert!(
        sentence.contains("sock_connect") && sentence.contains("WasmEdge"),
        "{sentence}"
    );
}

#[test]
fn an_import_of_another_type_is_named() {
    let module =
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#;
    let sentence = refusal(Container::new(module));
    assert!(
        sentence.starts_with("could not link /app.wasm"),
        "{sentence}"
    );
    assert!(sentence.contains("fd_write"), "{sentence}");
}

#[test]
fn components_name_interface_and_function() {
    let component = r#"(component
        (import "wasi:http/types@0.2.0" (instance (export "http-error-code" (func))))
        (core module $m) (core instance (instantiate $m)))"#;
    let sentence = refusal(Container::new(component).function("run"));
    assert!(sentence.contains("exports no function run"), "{sentence}");

    let component = r#"(component
        (import "wasi:http/types@0.2.0" (instance (export "fields-of" (func))))
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    let sentence = refusal(Container::new(component).function("run"));
    assert!(
        sentence.starts_with("/app.wasm imports fields-of from wasi:http/types@0.2.0, "),
        "{sentence}"
    );
}

#[test]
fn a_missing_function_is_named_with_what_there_is() {
    let module = r#"(module (func (export "main")) (func (export "add") (param i32 i32)))"#;
    let sentence = refusal(Container::new(module));
    assert!(
        sentence.contains("exports no function _start"),
        "{sentence}"
    );
    assert!(
        sentence.contains("main") && !sentence.contains("add"),
        "{sentence}"
    );
    let sentence = refusal(Container::new(module).function("add"));
    assert!(sentence.contains("takes 2 parameters"), "{sentence}");
}

#[test]
fn names_of_a_guest_are_made_for_a_log() {
    let name = format!("\\1b[31mred\\0alevel=fatal {}", "x".repeat(90_000));
    let sentence = refusal(Container::new(format!(
        r#"(module (func (export "{name}")))"#
    )));
    assert!(
        sentence.contains("\\u{1b}[31mred level=fatal"),
        "{sentence}"
    );
    assert!(
        sentence.len() < 4200 && sentence.ends_with('…'),
        "{sentence}"
    );
}

/// Text of one line is quoted whole by what reads it: more than the pipe of the worker's words holds.
#[test]
fn the_worker_is_done_with_a_long_line() {
    let started = std::time::Instant::now();
    let sentence = compile("(".repeat(2_000_000).as_bytes(), CodeOptions::default()).unwrap_err();
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    assert!(
        sentence.starts_with("this is not valid WebAssembly text: "),
        "{}",
        &sentence[..100]
    );
    assert!(sentence.len() < 4200, "{}", sentence.len());
}

#[test]
fn the_worker_refuses_what_is_no_module() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "empty"),
        (b"\x7fELF\x02\x01\x01\x00", "native code"),
        (b"(module (@custom \"wasmedge\" \"x\"))", "native code"),
        (b"(module (func (result i32)))", "type mismatch"),
        (b"\x00asm\x01\x00\x00\x00\x07", "offset"),
    ];
    for (bytes, expected) in cases {
        let sentence = compile(bytes, CodeOptions::default()).unwrap_err();
        assert!(sentence.contains(expected), "{bytes:?}: {sentence}");
    }
}

#[test]
fn code_of_another_configuration_is_not_loaded() {
    // Compiled without the option, run with it.
    let (code, kind) = compile(
        b"(module (func (export \"_start\")))",
        CodeOptions::default(),
    )
    .unwrap();
    let sentence = refusal(Container::new("").compiled(code, kind).wasi_p3());
    assert!(
        sentence.starts_with("could not load the compiled code of /app.wasm"),
        "{sentence}"
    );
}

#[test]
fn bytes_that_are_no_code_are_not_loaded() {
    let (_, kind) = compile(b"(module)", CodeOptions::default()).unwrap();
    let file = std::fs::File::open("/bin/sh").unwrap();
    let sentence = refusal(Container::new("").compiled(file.into(), kind));
    assert!(
        sentence.starts_with("could not load the compiled code of /app.wasm"),
        "{sentence}"
    );
}
