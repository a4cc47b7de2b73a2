//! What is tried, line by line.

use super::{Feature, What};

const fn line(name: &'static str, what: What) -> Feature {
    Feature {
        name,
        what,
        options: "",
    }
}

const fn with(name: &'static str, options: &'static str, what: What) -> Feature {
    Feature {
        name,
        what,
        options,
    }
}

/// A module with this before its function and this in it. The function exits with what it leaves on the stack.
macro_rules! exits {
    ($head:literal, $body:literal) => {
        concat!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
            $head,
            r#"(memory (export "memory") 1) (func (export "_start") (call $exit "#,
            $body,
            ")))"
        )
    };
}

const RECURSES: &str = r#"(module (memory (export "memory") 1)
  (func $deeper (param i64) (result i64)
    (i64.rotl (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "_start") (drop (call $deeper (i64.const 0)))))"#;

/// An asynchronous function, implemented by a synchronous one.
const WASI_P3: &str = r#"(component
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run async (result (result)) (canon lift (core func $i "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $cli)))"#;

pub(super) const FEATURES: &[Feature] = &[
    line(
        "core modules, WASI 0.1",
        What::Guest(&["say", "done", "exit", "42"], 42, "done"),
    ),
    line(
        "entrypoint `path#function`",
        What::Guest(&["/app.wasm#other"], 0, "the other function"),
    ),
    line("WebAssembly text", What::Text(exits!("", "(i32.const 42)"))),
    line(
        "components, WASI 0.2",
        What::GuestComponent(&["say", "done", "exit", "1"], 1, "done"),
    ),
    with(
        "components, WASI 0.3 (`WasiP3 = true`)",
        "WasiP3 = true",
        What::Component(WASI_P3),
    ),
    line(
        "sockets of a core module",
        What::Module(exits!(
            r#"(import "wasi_snapshot_preview1" "sock_open" (func $open (param i32 i32 i32) (result i32)))"#,
            "(if (result i32) (call $open (i32.const 1) (i32.const 2) (i32.const 0))
               (then (i32.const 1)) (else (i32.const 42)))"
        )),
    ),
    line(
        "names looked up by a core module",
        What::Module(exits!(
            r#"(import "wasi_snapshot_preview1" "sock_getaddrinfo"
                 (func $lookup (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
               (data (i32.const 2) "\01\02")
               (data (i32.const 64) "\80\00\00\00")
               (data (i32.const 140) "\c0\00\00\00")
               (data (i32.const 196) "\1a\00\00\00\e0\00\00\00")
               (data (i32.const 300) "127.0.0.1")"#,
            "(if (result i32) (call $lookup (i32.const 300) (i32.const 9) (i32.const 0) (i32.const 0)
                 (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72))
               (then (i32.const 1)) (else (i32.const 42)))"
        )),
    ),
    line(
        "names looked up by a component",
        What::GuestComponent(&["lookup", "127.0.0.1"], 0, "[127.0.0.1]"),
    ),
    line(
        "bulk memory",
        What::Module(exits!(
            "",
            "(block (result i32) (memory.fill (i32.const 0) (i32.const 42) (i32.const 9)) (i32.load8_u (i32.const 5)))"
        )),
    ),
    line(
        "multiple values",
        What::Module(exits!(
            "(func $two (result i32 i32) (i32.const 40) (i32.const 2))",
            "(block (result i32) (call $two) (i32.add))"
        )),
    ),
    line(
        "reference types",
        What::Module(exits!(
            "(table $t 1 externref)",
            "(if (result i32) (ref.is_null (table.get $t (i32.const 0))) (then (i32.const 42)) (else (i32.const 1)))"
        )),
    ),
    line(
        "vectors (SIMD)",
        What::Module(exits!(
            "",
            "(i32x4.extract_lane 1 (i32x4.add (i32x4.splat (i32.const 40)) (i32x4.splat (i32.const 2))))"
        )),
    ),
    line(
        "relaxed vectors",
        What::Module(exits!(
            "",
            "(i8x16.extract_lane_u 0 (i8x16.relaxed_swizzle (i8x16.splat (i32.const 42)) (i8x16.splat (i32.const 0))))"
        )),
    ),
    line(
        "extended constant expressions",
        What::Module(exits!(
            "(global $g i32 (i32.add (i32.const 40) (i32.const 2)))",
            "(global.get $g)"
        )),
    ),
    line(
        "tail calls",
        What::Module(exits!(
            "(func $count (param i32) (result i32)
               (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 42))
                 (else (return_call $count (i32.sub (local.get 0) (i32.const 1))))))",
            "(call $count (i32.const 1000000))"
        )),
    ),
    line(
        "several memories",
        What::Module(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1) (memory $other 1)
                 (func (export "_start")
                   (i32.store $other (i32.const 0) (i32.const 42))
                   (call $exit (i32.load $other (i32.const 0)))))"#,
        ),
    ),
    line(
        "64-bit memory",
        What::Module(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") i64 1)
                 (func (export "_start")
                   (i32.store (i64.const 8) (i32.const 42))
                   (call $exit (i32.load (i64.const 8)))))"#,
        ),
    ),
    line(
        "typed function references",
        What::Module(exits!(
            "(type $f (func (result i32))) (func $answer (type $f) (i32.const 42)) (elem declare func $answer)",
            "(call_ref $f (ref.func $answer))"
        )),
    ),
    line(
        "garbage collection",
        What::Module(exits!(
            "(type $box (struct (field i32)))",
            "(struct.get $box 0 (struct.new $box (i32.const 42)))"
        )),
    ),
    line(
        "exceptions",
        What::Module(exits!(
            "(tag $tag (param i32))",
            "(block $caught (result i32)
               (try_table (catch $tag $caught) (throw $tag (i32.const 42))) (i32.const 1))"
        )),
    ),
    line(
        "atomic instructions",
        What::Module(exits!(
            "",
            "(block (result i32) (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 42))) (i32.atomic.load (i32.const 0)))"
        )),
    ),
    line(
        "memory shared between threads",
        What::Module(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1 1 shared)
                 (func (export "_start") (call $exit (i32.const 42))))"#,
        ),
    ),
    line(
        "threads (wasi-threads)",
        What::Module(exits!(
            r#"(import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))"#,
            "(i32.const 42)"
        )),
    ),
    with(
        "pages of one byte (proposal `custom-page-sizes`)",
        "[Proposals]\ncustom-page-sizes = true",
        What::Module(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 42 (pagesize 1))
                 (func (export "_start") (call $exit (memory.size))))"#,
        ),
    ),
    with(
        "128-bit arithmetic (proposal `wide-arithmetic`)",
        "[Proposals]\nwide-arithmetic = true",
        What::Module(exits!(
            "",
            "(i32.wrap_i64 (block (result i64)
               (i64.add128 (i64.const 40) (i64.const 0) (i64.const 2) (i64.const 0)) (drop)))"
        )),
    ),
    with(
        "a proposal can be forbidden (`gc = false`)",
        "[Proposals]\ngc = false",
        What::Told(
            exits!(
                "(type $box (struct (field i32)))",
                "(struct.get $box 0 (struct.new $box (i32.const 42)))"
            ),
            "could not compile",
        ),
    ),
    line("code compiled once, mapped from the node's cache", What::Mapped),
    with(
        "cap on memory (`MemoryCap`)",
        "MemoryCap = \"20Mi\"",
        What::GuestTold(&["grow", "30"], "at a cap of 20 MiB"),
    ),
    with(
        "cap on the memory that a module declares",
        "MemoryCap = \"1Mi\"",
        What::Told(
            r#"(module (memory (export "memory") 32) (func (export "_start")))"#,
            "at a cap of 1 MiB",
        ),
    ),
    with(
        "cap on tables",
        "MemoryCap = \"2Mi\"",
        What::Told(
            exits!(
                "(table $t 1 externref)",
                "(if (result i32) (i32.eq (table.grow $t (ref.null extern) (i32.const 1000000)) (i32.const -1))
                   (then (i32.const 1)) (else (i32.const 0)))"
            ),
            "at a cap of 2 MiB",
        ),
    ),
    with(
        "limit of time (`TimeLimit`)",
        "TimeLimit = \"1s\"",
        What::Guest(&["spin"], 142, "spinning"),
    ),
    line("a signal ends a guest that spins", What::Stopped("SIGTERM", 143)),
    with(
        "limit of the stack (`StackSize`)",
        "StackSize = \"64Ki\"",
        What::Told(RECURSES, "call stack exhausted"),
    ),
    line(
        "a trap is told",
        What::GuestTold(&["trap"], "/app.wasm trapped: "),
    ),
    line(
        "a trap tells its functions",
        What::Told(
            r#"(module (memory (export "memory") 1) (func $the_one_that_traps unreachable)
                 (func (export "_start") (call $the_one_that_traps)))"#,
            "the_one_that_traps",
        ),
    ),
    line("exec of a module", What::Exec(&["/app.wasm", "say", "x"])),
    line("exec of the built-in tools", What::Exec(&["ls", "/"])),
];
