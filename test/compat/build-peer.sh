#!/usr/bin/env bash
# Builds the runwasi shim that test-compat compares with (bench/peers/runwasi-wasmtime, a workspace and lockfile of its
# own) into the cache of pinned tools. About 10 minutes on 2 cores, once per lockfile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../bench/peers/runwasi-wasmtime"
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
root=$cache/runwasi-1.0.1-$(cat Cargo.toml Cargo.lock src/*.rs | sha256sum | cut -c 1-12)
if [ ! -x "$root/bin/containerd-shim-runwasi-v1" ]; then
    if ! command -v protoc >/dev/null || [ ! -e /usr/include/google/protobuf/empty.proto ]; then
        echo "compat: installing protobuf-compiler libprotobuf-dev (runwasi's containerd client is generated at build time)"
        apt-get install -y -qq protobuf-compiler libprotobuf-dev >/dev/null ||
            { echo "compat: could not install protobuf-compiler; run apt-get update and try again" >&2; exit 1; }
    fi
    echo "compat: building the runwasi shim (about 10 minutes, once)"
    building=$(mktemp -d "$cache/.build-runwasi-XXXXXX")
    trap 'rm -rf "$building"' EXIT
    # The peer is built as its users build it: dynamic, position independent. Flags in the environment
    # take the place of those in our .cargo/config.toml.
    RUSTFLAGS="-C debuginfo=0" LIBSECCOMP_LINK_TYPE=dylib \
        cargo build --quiet --locked --release --target-dir "${SKIFF_PEER_TARGET:-$building/target}"
    mkdir -p "$building/root/bin"
    find "${SKIFF_PEER_TARGET:-$building/target}" -path '*/release/containerd-shim-runwasi-v1' -type f \
        -exec cp {} "$building/root/bin/" \; -quit
    rm -rf "$root"
    mv "$building/root" "$root"
fi
ln -sfn "$root" "$cache/runwasi"
