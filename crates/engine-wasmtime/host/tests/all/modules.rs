//! Core modules: WASI p1.

use skiff_sandbox::sys::process::ExitStatus;

use crate::harness::Container;

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 100) "hello from p1\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 14))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

pub(crate) fn exit(code: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code})) unreachable))"#
    )
}

#[test]
fn hello() {
    let outcome = Container::new(HELLO).run();
    assert_eq!(
        (
            outcome.code(),
            outcome.stdout.as_str(),
            outcome.stderr.as_str()
        ),
        (0, "hello from p1\n", "")
    );
}

/// Waits for the first of two clocks, and calls nothing else before.
const WAITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 1000000))
        (i32.store (i32.const 64) (i32.const 1))
        (i64.store (i32.const 72) (i64.const 1000000))
        (call $exit (call $poll (i32.const 0) (i32.const 256) (i32.const 2) (i32.const 512)))))"#;

#[test]
fn waiting_needs_no_other_call_before() {
    let outcome = Container::new(WAITS).run();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
}

#[test]
fn exit_codes_are_the_guests_own() {
    for (given, expected) in [(0, 0), (7, 7), (126, 126), (255, 255), (256, 0), (263, 7)] {
        let outcome = Container::new(exit(given)).run();
        assert_eq!(outcome.code(), expected, "{outcome:?}");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn a_trap_names_functions() {
    let module = r#"(module $app
        (func $inner unreachable)
        (func $outer call $inner)
        (func (export "_start") call $outer))"#;
    let outcome = Container::new(module).run();
    assert_eq!(outcome.code(), 134);
    assert!(
        outcome.stderr.starts_with("skiff: /app.wasm trapped: "),
        "{}",
        outcome.stderr
    );
    for part in ["unreachable", "inner", "outer"] {
        assert!(
            outcome.stderr.contains(part),
            "{part} is not in: {}",
            outcome.stderr
        );
    }
}

#[test]
fn traps_of_every_kind_are_134() {
    let bodies = [
        "(drop (i32.load (i32.const 0x7fffffff)))",
        "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
        "(call_indirect (i32.const 1))",
        "(call $start)",
    ];
    for body in bodies {
        let module = format!(
            r#"(module (memory 1) (table 1 funcref) (func $start (export "_start") {body}))"#
        );
        let outcome = Container::new(module).run();
        assert_eq!(outcome.code(), 134, "{body}: {outcome:?}");
        assert!(
            outcome.stderr.contains("trapped"),
            "{body}: {}",
            outcome.stderr
        );
    }
}

/// Prints what a `*_get` call with its `*_sizes_get` hands out.
fn lister(call: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "{call}_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "{call}_get" (func $get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (drop (call $sizes (i32.const 0) (i32.const 4)))
                (drop (call $get (i32.const 1024) (i32.const 2048)))
                (i32.store (i32.const 8) (i32.const 2048))
                (i32.store (i32.const 12) (i32.load (i32.const 4)))
                (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#
    )
}

#[test]
fn arguments_and_environment() {
    let outcome = Container::new(lister("args"))
        .args(&["app", "one", "two words"])
        .run();
    assert_eq!(outcome.stdout, "app\0one\0two words\0");
    let outcome = Container::new(lister("environ"))
        .env(&["A=1", "EMPTY=", "B=x=y"])
        .run();
    assert_eq!(outcome.stdout, "A=1\0EMPTY=\0B=x=y\0");
}

#[test]
fn an_entrypoint_can_name_a_function() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (global $set (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $set (i32.const 9)))
        (func (export "other") (call $exit (global.get $set)))
        (func (export "value") (result i64) (i64.const 3)))"#;
    assert_eq!(
        Container::new(module).function("other").run().code(),
        9,
        "initialized first"
    );
    assert_eq!(Container::new(module).function("value").run().code(), 0);
}

#[test]
fn without_imports_there_is_nothing_to_link() {
    let outcome = Container::new(r#"(module (func (export "_start")))"#).run();
    assert_eq!(outcome.status, ExitStatus::Code(0));
}

/// Opens `path` below the only preopened directory (3) and exits with the error code.
pub(crate) fn opener(path: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 100) "{path}")
            (func (export "_start")
                (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 100) (i32.const {length})
                    (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))))"#,
        length = path.len()
    )
}

#[test]
fn the_root_is_the_only_directory() {
    const NOENT: u8 = 44;
    const PERM: u8 = 63;
    assert_eq!(
        Container::new(opener("etc/motd"))
            .file("etc/motd", "hi")
            .run()
            .code(),
        0
    );
    assert_eq!(Container::new(opener("etc/motd")).run().code(), NOENT);
    assert_eq!(Container::new(opener("proc/self/mem")).run().code(), NOENT);
    assert_eq!(
        Container::new(opener("../../etc/passwd")).run().code(),
        PERM
    );
}
