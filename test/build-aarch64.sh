#!/usr/bin/env bash
# Builds Skiff's executables for arm64 on an amd64 machine, for the chart's image. `make image` calls it.
#
#   test/build-aarch64.sh FOLDER     where they are put, all at once
#
# Exit status 3: this machine cannot build them, which is no fault of the sources. One sentence says why.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
target=aarch64-unknown-linux-gnu
built=${CARGO_TARGET_DIR:-$PWD/target}
packages=$built/aarch64-packages

cannot() { echo "arm64: left out of the image, which is complete but for it: $*" >&2; exit 3; }
[[ $(uname -m) == x86_64 ]] || cannot "it is cross-compiled on amd64 machines only"
command -v aarch64-linux-gnu-gcc >/dev/null || cannot "there is no aarch64-linux-gnu-gcc (make install-tools installs it)"

# The shim knows the names of system calls by libseccomp, the one library of a distribution that is linked into it.
library=usr/lib/aarch64-linux-gnu/libseccomp.a
if [[ ! -e $packages/$library ]]; then
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  command -v apt-get >/dev/null && [[ -f $keyring ]] || cannot "libseccomp.a for arm64 is taken from Debian's packages, which this system does not have"
  suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mirror=$({ cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | sed -n 1p)
  [[ -n $mirror && -n $suite ]] || cannot "no package mirror is configured for apt (/etc/apt/sources.list.d)"
  rm -rf "$packages.new" && mkdir -p "$packages.new"/{lists/partial,archives/partial}
  touch "$packages.new/status"
  echo "deb [arch=arm64 signed-by=$keyring] $mirror $suite main" >"$packages.new/sources.list"
  # Lists and state of its own: the machine's apt knows nothing of this architecture, before and after.
  apt=(apt-get -qq -o "Dir::Etc::sourcelist=$packages.new/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$packages.new/lists" -o "Dir::State::status=$packages.new/status"
    -o "Dir::Cache::archives=$packages.new/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root)
  (cd "$packages.new" && "${apt[@]}" update && "${apt[@]}" download libseccomp-dev && dpkg -x libseccomp-dev_*.deb .) >&2 ||
    cannot "libseccomp-dev for arm64 cannot be fetched from $mirror, suite $suite"
  rm -rf "$packages" && mv "$packages.new" "$packages"
fi
export LIBSECCOMP_LIB_PATH=$packages/${library%/*}

# In the same calls as for this machine's own: in one, cargo would unite wasmtime's features.
build() { cargo build --release --locked --target "$target" "$@"; }
build -p skiff-shim -p skiff-cli -p skiff-node -p skiff-agent -p skiff-init -p skiff-pause
build -p skiff-host-wasmtime
build -p skiff-serve-wasmtime
build -p skiff-compile-wasmtime

rm -rf "$folder.new" && mkdir -p "$folder.new"
for program in containerd-shim-skiff-v1 skiff skiff-node skiff-agent skiff-init skiff-pause \
  skiff-host-wasmtime skiff-serve-wasmtime skiff-compile-wasmtime; do
  install -m 0755 "$built/$target/release/$program" "$folder.new/"
done
# A guest: it is the same everywhere.
install -m 0644 "$built/wasm32-wasip2/release/skiff-toolbox.wasm" "$folder.new/"
rm -rf "$folder" && mv "$folder.new" "$folder"
