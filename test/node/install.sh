#!/usr/bin/env bash
# Installs the Debian packages that building and testing Skiff needs, only those that are missing, with one
# apt-get call; and the Rust toolchain that rust-toolchain.toml names, when rustup is there to do it.
#
#   test/node/install.sh            what building and testing need
#   test/node/install.sh build      only what building needs
#   test/node/install.sh --check    install nothing, say what is missing; exit status 1 if anything is
set -euo pipefail

fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

mode=${1:-all}

# What is looked for, and the package that has it: a command on PATH, or a file.
needs=(
  gcc gcc
  make make
  git git
  pkg-config pkg-config
  /usr/include/seccomp.h libseccomp-dev
  /etc/ssl/certs/ca-certificates.crt ca-certificates
)
if [[ $mode != build ]]; then
  needs+=(
    go golang-go
    jq jq
    ip iproute2
    strace strace
    /bin/busybox busybox-static
    mkfs.ext4 e2fsprogs
    losetup mount
    lsof lsof
    mkfs.xfs xfsprogs
    openssl openssl
    nft nftables
  )
  # For check-aarch64: some crates compile C even to be type-checked.
  [[ $(uname -m) == aarch64 ]] || needs+=(
    aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    /usr/aarch64-linux-gnu/include/stdio.h libc6-dev-arm64-cross
  )
fi

PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
missing=()
for ((i = 0; i < ${#needs[@]}; i += 2)); do
  what=${needs[i]}
  if [[ $what == /* ]]; then
    [[ -e $what ]] || missing+=("${needs[i + 1]}")
  else
    command -v "$what" >/dev/null || missing+=("${needs[i + 1]}")
  fi
done
# Debian's rustc is older than the pinned one; rustup fetches exactly that.
command -v cargo >/dev/null || [[ -x $HOME/.cargo/bin/cargo ]] || missing+=(rustup)

if [[ $mode == --check ]]; then
  ((${#missing[@]})) || { echo "nothing is missing"; exit 0; }
  echo "missing packages: ${missing[*]}"
  exit 1
fi

if ((${#missing[@]})); then
  echo "installing: ${missing[*]}"
  command -v apt-get >/dev/null || fail "these packages are missing and this is no Debian system with apt-get: ${missing[*]}; install them by your system's own means"
  ((EUID == 0)) || fail "these packages are missing and installing them needs root: ${missing[*]}"
  # A fresh machine has no package lists; one that has them is not made to wait for new ones.
  [[ -n $(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null) ]] || apt-get -q update ||
    fail "apt-get update failed; is a package mirror reachable (/etc/apt/sources.list.d)?"
  if [[ " ${missing[*]} " == *" rustup "* && -z $(apt-cache policy rustup | sed -n 's/^  Candidate: //p' | grep -v '(none)') ]]; then
    fail "cargo is missing and this Debian has no rustup package: install rustup by its own installer, then run this again"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" ||
    { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } ||
    fail "apt-get could not install ${missing[*]}; its words are above"
fi

if [[ $mode != build ]]; then
  # Go fetches the toolchain that a go.mod names by itself, from 1.21 on and unless told not to.
  version=$(go env GOVERSION)
  minor=${version#go1.}
  minor=${minor%%.*}
  ((minor >= 21)) || fail "go is $version; the components need 1.26: install it from a newer Debian suite (golang-1.26) or another source, first on PATH"
  if ((minor < 26)) && [[ $(go env GOTOOLCHAIN) == local ]]; then
    fail "go is $version and GOTOOLCHAIN=local; the components need 1.26: unset GOTOOLCHAIN, or install a newer Go"
  fi
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PATH=$PATH:$HOME/.cargo/bin
if command -v rustup >/dev/null; then
  # Reads rust-toolchain.toml: channel, components and targets.
  (cd "$root" && { rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install; }) ||
    fail "rustup could not install the toolchain of rust-toolchain.toml; can this machine reach its distribution server (RUSTUP_DIST_SERVER)?"
  for target in $(sed -n 's/^targets = \[\(.*\)\]$/\1/p' "$root/rust-toolchain.toml" | tr -d '",'); do
    (cd "$root" && rustup target list --installed) | grep -qx "$target" || (cd "$root" && rustup target add "$target") ||
      fail "rustup could not add the target $target"
  done
fi
echo "everything needed is installed"
