#!/usr/bin/env bash
# Everything type-checks for aarch64. Nothing is run: there is no such machine here.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
cargo check --locked --target $target -p skiff-shim -p skiff-cli -p skiff-node -p skiff-agent -p skiff-init -p skiff-pause
cargo check --locked --target $target -p skiff-host-wasmtime
cargo check --locked --target $target -p skiff-serve-wasmtime
cargo check --locked --target $target -p skiff-compile-wasmtime
