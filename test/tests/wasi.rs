//! WASI 0.1, function by function: every case of `test/wasi/cases` on each engine alone and inside a container, in the same
//! surroundings. `make test-wasi`, or `test/run.sh wasi [WORD…]`.
//!
//! What passes on the engine alone passes inside. wasmtime fails none, and what WasmEdge fails is in docs/wasi.md.

#[path = "wasi/alone.rs"]
mod alone;
#[path = "wasi/cases.rs"]
mod cases;
#[path = "wasi/surroundings.rs"]
mod surroundings;

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_test::runner::main(&[cases::CASES], &[])
}
