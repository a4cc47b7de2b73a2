#!/usr/bin/env bash
# Formatting, clippy without a warning, the rules for dependencies, and the rules that this repository sets itself.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo fetch --locked --quiet
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
(cd crates/toolbox && cargo fmt --check && cargo fetch --locked --quiet &&
    cargo clippy --locked --all-targets -- -D warnings && cargo clippy --locked --target wasm32-wasip2 -- -D warnings)
(cd crates/engine-wasmedge && cargo fmt --all --check)
# Checked where it is built: make test-runwasi-engines.
(cd compat/runwasi && cargo fmt --all --check)
# Linked against WasmEdge's library, which not every machine can have: the build has said why.
packages=${CARGO_TARGET_DIR:-$PWD/target}/wasmedge-packages
if [[ -e $packages/complete ]]; then
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} crates/engine-wasmedge/bundle.sh clippy "$packages"
else
    echo "SKIPPED clippy-wasmedge: make build could not get WasmEdge's library here"
fi
test/repository.sh
cargo_deny=$(test/node/cargo-deny.sh)
"$cargo_deny" --log-level error --offline check bans licenses sources
if ! "$cargo_deny" --log-level error check advisories 2>/tmp/skiff-advisories.$$; then
    if grep -q 'failed to fetch\|failed to open\|unable to\|error sending\|could not' /tmp/skiff-advisories.$$; then
        echo "SKIPPED advisories: the advisory database cannot be fetched from here"
    else
        cat /tmp/skiff-advisories.$$; rm -f /tmp/skiff-advisories.$$; exit 1
    fi
fi
rm -f /tmp/skiff-advisories.$$
