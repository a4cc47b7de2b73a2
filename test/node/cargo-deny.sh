#!/usr/bin/env bash
# Prints the path of a cargo-deny of the pinned version, building it first where it is missing (once; it is kept beside
# the other pinned tools).
set -euo pipefail
version=0.20.2
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
root=$cache/cargo-deny-$version
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "cargo-deny $version: building (about 4 minutes, once)" >&2
    mkdir -p "$cache"
    building=$(mktemp -d "$cache/.build-cargo-deny-XXXXXX")
    trap 'rm -rf "$building"' EXIT
    # Away from the checkout: its flags for static binaries are not meant for tools.
    (cd / && cargo install --quiet --locked --debug --version "$version" --root "$building/root" --target-dir "$building/target" cargo-deny >&2)
    rm -rf "$root"
    mv "$building/root" "$root"
fi
echo "$root/bin/cargo-deny"
