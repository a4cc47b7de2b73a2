#!/usr/bin/env bash
# What the bench's scenario of HTTP measures Skiff beside, besides the runwasi shim: `wasmtime serve` of the version that
# Skiff has, built into the cache of pinned tools (about 10 minutes on 2 cores, once), nginx and wrk of the distribution.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
version=$(sed -n 's/^wasmtime = { version = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
root=$cache/wasmtime-$version
if [ ! -x "$root/bin/wasmtime" ]; then
    echo "bench: building wasmtime $version (about 10 minutes, once)"
    building=$(mktemp -d "$cache/.build-wasmtime-XXXXXX")
    trap 'rm -rf "$building"' EXIT
    # From a folder without our .cargo/config.toml: the peer is built as its users build it, with its own lockfile.
    toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    (cd "$building" && RUSTUP_TOOLCHAIN=$toolchain CARGO_TARGET_DIR=${SKIFF_PEER_TARGET:-$building/target} cargo install --quiet --locked \
        --root "$building/root" --version "=$version" --no-default-features \
        --features run,serve,cranelift,parallel-compilation,pooling-allocator,component-model,component-model-async,gc,gc-copying,threads,addr2line,backtrace,demangle \
        wasmtime-cli) || { echo "bench: wasmtime $version could not be built; the scenario goes without it" >&2; rm -rf "$building/root"; }
    if [ -d "$building/root" ]; then
        rm -rf "$root"
        mv "$building/root" "$root"
    fi
fi
[ ! -d "$root" ] || ln -sfn "$root" "$cache/wasmtime"
# The library that wrk is linked with is unpacked beside it.
test/node/packages.sh nginx wrk libluajit-5.1-2
