#!/usr/bin/env bash
# `make test-vm`: the tests of test/tests/vm in a machine with cgroup v2 and systemd (build.sh, machine.sh).
#
#   test/vm/run.sh [WORD…]     all, or the tests whose names hold one of the words
#
# `make build` must have staged Skiff's binaries (or SKIFF_BIN_DIR names where they are) and test/node/build.sh the
# components. The last line is exactly "N passed, N failed, N skipped".
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
bin=${SKIFF_BIN_DIR:-$root/target/stage/bin}
export PATH=$PATH:$HOME/.cargo/bin
begin=$SECONDS

skip() { printf 'SKIPPED test-vm: %s\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
[[ $(uname -m) == x86_64 ]] || skip "the machine is made on x86_64 only"
command -v apt-get >/dev/null || skip "the machine is made of Debian's packages"
((EUID == 0)) || { echo "run.sh: making the machine needs root" >&2; exit 1; }

"$here/build.sh"

cargo build --quiet --locked --manifest-path test/guest/Cargo.toml --target-dir test/guest/target --release \
  --target wasm32-wasip1 --target wasm32-wasip2
tests=$(cargo build --quiet --locked -p skiff-test --test vm --message-format=json |
  jq -r 'select(.executable != null and .target.name == "vm") | .executable')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,cache}
cp -aL "$bin"/. "$work/bin/"
for component in containerd-2.4 runc; do
  mkdir "$work/cache/$component"
  cp -aL "$cache/$component/bin" "$work/cache/$component/"
done
# What is built for debugging is mostly its names.
strip -o "$work/tests" "$tests"
strip "$work"/bin/* 2>/dev/null || true
for target in wasm32-wasip1 wasm32-wasip2; do
  install -D -m 0644 "test/guest/target/$target/release/guest.wasm" "$work/guest/$target/release/guest.wasm"
done
cat >"$work/run.sh" <<RUN
#!/bin/sh
# The tests look for the guest where they were built.
mkdir -p '$root/test/guest'
ln -s /run/work/guest '$root/test/guest/target'
export SKIFF_TEST_OWN_MACHINE=yes SKIFF_TEST_SLOW=4 SKIFF_BIN_DIR=/run/work/bin SKIFF_TEST_CACHE=/run/work/cache HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec ./tests $* </dev/null
RUN
chmod 755 "$work/run.sh"
tar -C "$work" -cf "$work.tar" .
trap 'rm -rf "$work" "$work.tar"' EXIT
rm -rf "$work"
echo "$((SECONDS - begin)) s until the machine goes on"
"$here/machine.sh" run "$cache/vm" "$work.tar"
