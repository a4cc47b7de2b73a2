#!/usr/bin/env bash
# Lays out the root of the chart's image from staged binaries, and writes the image. `make image` calls it.
#
#   test/image.sh BINARIES BUILDER NAME OUTPUT [ARCHITECTURE=BINARIES…]
#
# BINARIES are of this machine's architecture; more are named with theirs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# >= 4)) || { echo "image.sh: usage: test/image.sh BINARIES BUILDER NAME OUTPUT [ARCHITECTURE=BINARIES…]" >&2; exit 2; }
binaries=$1 builder=$2 name=$3 output=$4
shift 4
case $(uname -m) in
  x86_64) own=amd64 ;;
  aarch64) own=arm64 ;;
  *) echo "image.sh: Skiff runs on amd64 and arm64, not on $(uname -m)" >&2; exit 1 ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
roots=()
for pair in "$own=$binaries" "$@"; do
  architecture=${pair%%=*} from=${pair#*=}
  root=$scratch/$architecture
  mkdir -p "$root/skiff/bin" "$root/host"
  # Links between shims are made by the installer.
  find "$from" -mindepth 1 -maxdepth 1 -type f ! -name '.*' -exec cp -t "$root/skiff/bin" {} +
  # Engines that bring libraries of their own.
  [[ ! -d $from/engines ]] || cp -a "$from/engines" "$root/skiff/bin/"
  # What `helm test` runs: the module of the installer's own probes.
  install -m 0644 crates/node/src/proof/hello.wasm "$root/skiff/hello.wasm"
  roots+=("$architecture=$root")
done
# Said here, and in the image itself.
for pair in "${roots[@]}"; do
  root=${pair#*=}
  {
    echo "wasmtime"
    if [[ -d $root/skiff/bin/engines/wasmedge ]]; then
      echo "wasmedge $(ls "$root/skiff/bin/engines/wasmedge")"
    elif [[ ${pair%%=*} == amd64 ]]; then
      echo "not in this image: WasmEdge, which make build could not bundle and said why; with handlers.wasmedge.enabled nothing is installed"
    else
      echo "not in this image: WasmEdge, whose bundle is made for amd64 only; with handlers.wasmedge.enabled these nodes get the other handlers"
    fi
  } >"$root/skiff/ENGINES"
  sed "s/^/${pair%%=*}: /" "$root/skiff/ENGINES"
done
"$builder" "$name" "$output" /skiff/bin/skiff-agent "${roots[@]}"
