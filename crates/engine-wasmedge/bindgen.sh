#!/usr/bin/env bash
# Stands in for bindgen, which would need libclang: hands out the bindings that wasmedge-sys brings along, which are
# those of the library's own release. Called by the build script of wasmedge-sys, in its own folder, with bindgen's
# arguments: … -o <output> <header> -- …
set -euo pipefail
while (($#)) && [ "$1" != -o ]; do shift; done
exec cp "$CARGO_MANIFEST_DIR/bindings/wasmedge.rs" "$2"
