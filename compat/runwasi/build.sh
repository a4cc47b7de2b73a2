#!/usr/bin/env bash
# Builds the engines of this workspace and puts them beside Skiff's own binaries, as an administrator would:
#
#   build.sh BIN OUT    OUT gets what BIN has (links to the same files), engines/<engine>/<version> for each engine here,
#                       and the names containerd-shim-<engine>-v1 by which containerd finds the shim
#
# An engine is one executable by two names: its host and its compile worker.
set -euo pipefail
bin=$(realpath "$1") out=$2
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "${BASH_SOURCE[0]}")"

target=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}/runwasi
cargo build --quiet --locked --release --workspace --target-dir "$target"

rm -rf "$out"
cp -al "$bin" "$out" 2>/dev/null || cp -a "$bin" "$out"
version_of() { sed -n "/^name = \"$1\"\$/{n;s/^version = \"\(.*\)\"/\1/p;}" Cargo.lock | tail -n 1; }
for engine in wasmi:wasmi wasmtime36:wasmtime probe:skiff-probe; do
    name=${engine%%:*} version=$(version_of "${engine#*:}")
    folder=$out/engines/$name/$version
    mkdir -p "$folder"
    install -m 0755 "$(find "$target" -path "*/release/skiff-$name" -type f | head -n 1)" "$folder/skiff-host-$name"
    ln "$folder/skiff-host-$name" "$folder/skiff-compile-$name"
    ln -sfn containerd-shim-skiff-v1 "$out/containerd-shim-$name-v1"
    echo "runwasi: $name $version, $(du -h "$folder/skiff-host-$name" | cut -f 1)"
done
