#!/usr/bin/env bash
# What this repository promises of itself: every crate takes the workspace's lints, unsafe code sits only in modules
# named for it, the shim links no engine and the host no compiler, and the picture in the docs names every crate.
set -uo pipefail
cd "$(dirname "$0")/.."
failures=0
fail() { echo "repository: $*"; failures=$((failures + 1)); }

for manifest in crates/*/Cargo.toml crates/engine-wasmtime/*/Cargo.toml bench/Cargo.toml test/Cargo.toml; do
    grep -A1 '^\[lints\]' "$manifest" | grep -q '^workspace = true' || fail "$manifest does not inherit the workspace's lints"
done
for crate in crates/*/; do
    grep -q "$crate\|crates/$(basename "$crate")" docs/architecture.md || fail "docs/architecture.md does not name ${crate%/}"
done
while IFS= read -r file; do
    case $file in
        */sys/* | */sys.rs | crates/pause/*) ;;
        */tests/* | */tests.rs) ;; # Says so at each place, by clippy's and rustc's own rules.
        *) fail "$file has unsafe code, and is not a sys module" ;;
    esac
done < <(git ls-files '*.rs' | grep -v '^bench/peers/\|^compat/\|^examples/' | xargs grep -lE '^[^/]*\bunsafe (fn|impl|extern|\{)|^[^/]*\bunsafe \{' 2>/dev/null)
# Nothing names an absolute path of one machine. /home/kubernetes is a folder of every GKE node.
homes=$(git grep -E '/home/[a-z]' -- . ':!test/repository.sh' | grep -v '/home/kubernetes/' | cut -d: -f1 | sort -u)
[ -z "$homes" ] || fail "a path of one machine is named: $(echo "$homes" | tr '\n' ' ')"
if cargo tree --locked -p skiff-shim -e normal --prefix none | grep -qE '^(wasmtime|cranelift|wasmparser)'; then
    fail "the shim links an engine"
fi
for host in skiff-host-wasmtime skiff-serve-wasmtime; do
    if cargo tree --locked -p $host -e normal --prefix none | grep -qE '^(cranelift-codegen|wasmtime-internal-cranelift|winch)'; then
        fail "$host links a compiler"
    fi
done
((failures == 0)) && echo "repository: rules kept"
exit $((failures > 0))
