#!/usr/bin/env bash
# Makes the folder engines/wasmedge/<version> with everything that WasmEdge needs on any distribution: its library from
# Debian's packages with that suite's loader and C library, our host and our compile worker.
#
#   bundle.sh packages DIR    fetches and unpacks the packages into DIR (once; later calls find them)
#   bundle.sh build DIR OUT   the same, builds host and worker against them, and puts the bundle into
#                             OUT/engines/wasmedge/<version>
#   bundle.sh clippy DIR      looks for what is wrong with the sources
#
# Exit status 3: this machine cannot make the bundle, which is no fault of the sources. One sentence says why.
#
# The host never compiles, and LLVM is most of the library's weight and of its start: the host is linked with a stub in its
# place that has the same names and stops the process. The worker has the real one.
#
# packages.sha256 lists the packages that this was tested with. The bundle has a list of those that it was made from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

version=0.17.1
suite=forky
architecture=amd64
triplet=x86_64-linux-gnu
loader=ld-linux-x86-64.so.2
target=x86_64-unknown-linux-gnu
cargo_target=${CARGO_TARGET_DIR:-$PWD/target}/wasmedge

say() { echo "wasmedge: $*" >&2; }
cannot() { say "left out of this build, which is complete but for it: $*"; exit 3; }

packages() {
    local dir=$1
    if [ -f "$dir/complete" ]; then return; fi
    [ "$(uname -m)" = x86_64 ] || cannot "its bundle is made on amd64 machines only so far"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || cannot "it is taken from Debian's packages, and there is no apt-get here"
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f $keyring ] || cannot "the package debian-archive-keyring is not installed, by which Debian's packages are verified"
    mirror=$({ cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | sed -n 1p)
    [ -n "$mirror" ] || cannot "no package mirror is configured for apt (/etc/apt/sources.list.d)"
    say "fetching WasmEdge $version from suite $suite (about 45 MB)"
    rm -rf "$dir"
    mkdir -p "$dir"/apt/{lists/partial,archives/partial} "$dir/root"
    touch "$dir/apt/status"
    echo "deb [arch=$architecture signed-by=$keyring] $mirror $suite main" >"$dir/apt/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache::archives=$dir/apt/archives"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o "APT::Architecture=$architecture" -o APT::Install-Recommends=0
        -o APT::Sandbox::User=root)
    local log=$dir/apt/log
    "${apt[@]}" update >"$log" 2>&1 &&
        "${apt[@]}" -y --download-only install libwasmedge0 libwasmedge-dev >>"$log" 2>&1 ||
        cannot "its packages cannot be fetched from $mirror, suite $suite: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")"
    # Versions and checksums, beside the bundle: what it was made from. The archive's signature was checked by apt.
    (cd "$dir/apt/archives" && sha256sum -- *.deb) >"$dir/packages.sha256"
    if ! grep -q "libwasmedge0_${version//./\\.}-" "$dir/packages.sha256"; then
        cannot "suite $suite of $mirror has $(grep -o 'libwasmedge0_[^_]*' "$dir/packages.sha256") and not $version any more"
    fi
    local newer
    newer=$(comm -13 <(sort packages.sha256) <(sort "$dir/packages.sha256") | wc -l)
    [ "$newer" = 0 ] || say "$newer packages are other ones than those that this was tested with (packages.sha256)"
    for package in "$dir"/apt/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
    rm -rf "$dir/apt"
    touch "$dir/complete"
}

with_library() { # folder with the packages, cargo's words…
    local dir=$1 link=$1/link
    shift
    # Nothing but the library: the crate's build script puts the folder on the path of its own tools' libraries.
    mkdir -p "$link"
    cp -a "$dir/root/usr/lib/$triplet"/libwasmedge.so* "$link/"
    if [ ! -e "$dir/stub/libLLVM.so.21.1" ] || [ "${BASH_SOURCE[0]##*/}" -nt "$dir/stub/libLLVM.so.21.1" ]; then
        rm -rf "$dir/stub.new"
        mkdir "$dir/stub.new"
        stub "$dir/root/usr/lib/$triplet" "$dir/stub.new"
        rm -rf "$dir/stub"
        mv "$dir/stub.new" "$dir/stub"
    fi
    local identity
    identity=$(sha256sum <"$dir/packages.sha256" | cut -c1-16)
    # These flags take the place of those for Skiff's own executables, which are static.
    WASMEDGE_INCLUDE_DIR=$dir/root/usr/include WASMEDGE_LIB_DIR=$link WASMEDGE_RUST_BINDGEN_PATH=$PWD/bindgen.sh \
        SKIFF_BUNDLE=$identity SKIFF_LLVM_STUB=$dir/stub/libLLVM.so.21.1 \
        RUSTFLAGS='--cfg getrandom_backend="linux_getrandom"' \
        cargo "$1" --release --locked --workspace --target "$target" --target-dir "$cargo_target" "${@:2}"
}

build() {
    local dir out
    dir=$(realpath "$1") out=$2
    local libraries=$dir/root/usr/lib/$triplet bundle=$out/engines/wasmedge/$version
    with_library "$dir" build

    local new=$bundle.new
    rm -rf "$new"
    # LLVM's library looks for its own in the folder "lib" beside the one that it is in.
    mkdir -p "$new/host" "$new/lib"
    cp "$dir/stub/libLLVM.so.21.1" "$new/host/"
    local library
    for library in "$loader" libc.so.6 libm.so.6 libgcc_s.so.1 libstdc++.so.6 libwasmedge.so.0 libz.so.1 libzstd.so.1 \
        libspdlog.so.1.15 libfmt.so.11 libLLVM.so.21.1 libedit.so.2 libffi.so.8 libxml2.so.16 libz3.so.4 libbsd.so.0 \
        libmd.so.0 libtinfo.so.6; do
        cp -L "$libraries/$library" "$new/lib/"
    done
    install -m 0755 "$cargo_target/$target/release/skiff-host-wasmedge" "$new/"
    install -m 0755 "$cargo_target/$target/release/skiff-compile-wasmedge" "$new/"
    cp "$dir/packages.sha256" "$new/"
    ln -sfn containerd-shim-skiff-v1 "$out/containerd-shim-wasmedge-v1"
    rm -rf "$bundle"
    mv "$new" "$bundle"
    say "bundle of $(du -sh "$bundle" | cut -f1) in $bundle"
}

# A library with the names that WasmEdge's needs of LLVM, each of which ends the process.
stub() { # folder with WasmEdge's library, folder to write to
    local work
    work=$(mktemp -d)
    nm -D --undefined-only "$1/libwasmedge.so.0" | sed -nE 's/.* U ([^@]+)@LLVM_21\.1$/\1/p' | sort -u >"$work/names"
    [ -s "$work/names" ] || { say "this WasmEdge needs no LLVM 21.1: the stub is out of date"; exit 1; }
    {
        sed -E 's/.*/.globl &\n.type &,@function\n&:/' "$work/names"
        echo '    ud2'
        echo '.section .note.GNU-stack,"",@progbits'
    } >"$work/stub.s"
    { echo 'LLVM_21.1 { global:'; sed 's/$/;/' "$work/names"; echo 'local: *; };'; } >"$work/stub.map"
    gcc -shared -nostdlib -Wl,-soname,libLLVM.so.21.1 "-Wl,--version-script=$work/stub.map" -o "$2/libLLVM.so.21.1" "$work/stub.s"
    rm -rf "$work"
}

case ${1:-} in
packages) packages "$2" ;;
build) packages "$2" && build "$2" "$3" ;;
clippy) packages "$2" && with_library "$(realpath "$2")" clippy --all-targets -- -D warnings ;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
