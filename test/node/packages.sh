#!/usr/bin/env bash
# Unpacks Debian packages, without installing them, for tests that make images of them.
#
#   test/node/packages.sh nginx …    into ${SKIFF_TEST_CACHE:-~/.cache/skiff-test}/packages/<name>
set -euo pipefail

cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}/packages
fail() { printf 'packages.sh: %s\n' "$*" >&2; exit 1; }

mkdir -p "$cache"
for name in "$@"; do
  [[ ! -d $cache/$name ]] || continue
  command -v apt-get >/dev/null || fail "this is no Debian system: unpack the package $name into $cache/$name by your system's own means"
  private=$(mktemp -d "$cache/.$name-XXXXXX")
  # apt downloads as a user of its own, who must be able to write here.
  chmod 777 "$private"
  (cd "$private" && { apt-get -q download "$name" || { apt-get -q update && apt-get -q download "$name"; }; }) ||
    { rm -rf "$private"; fail "apt-get could not download $name; is a package mirror reachable?"; }
  mkdir -m 755 "$private/root"
  dpkg -x "$private"/*.deb "$private/root"
  # A concurrent run may have won: its result is as good.
  mv -T "$private/root" "$cache/$name" 2>/dev/null || true
  rm -rf "$private"
done
