#!/usr/bin/env bash
# Unit and root tests of every crate. Host and worker are tested by calls of their own: see the Makefile's build.
set -euo pipefail
cd "$(dirname "$0")/.."
light=(-p skiff-sandbox -p skiff-engine -p skiff-host -p skiff-cache -p skiff-image -p skiff-node -p skiff-agent -p skiff-shim -p skiff-cli)
status=0
cargo test --locked "${light[@]}" --all-features --no-fail-fast || status=1
cargo test --locked -p skiff-host-wasmtime --no-fail-fast || status=1
cargo test --locked -p skiff-serve-wasmtime -p skiff-wasi-wasmtime --no-fail-fast || status=1
cargo test --locked -p skiff-compile-wasmtime -p skiff-engine-wasmtime --no-fail-fast || status=1
(cd crates/toolbox && cargo test --locked --no-fail-fast) || status=1
exit $status
