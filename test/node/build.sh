#!/usr/bin/env bash
# Builds the real components that the tests run against (containerd, runc, crictl, a registry, CNI
# plugins) from Go modules with pinned versions: one folder of tools/ each, its go.mod and go.sum committed.
#
#   test/node/build.sh                    everything but the test suites of others and what a cluster is made of
#   test/node/build.sh containerd-2.4 …   only these folders of tools/
#   test/node/build.sh --list             their names and versions
#
# The result is outside the tree, in ${SKIFF_TEST_CACHE:-~/.cache/skiff-test}:
#   <component>-<version>-<hash of go.mod, go.sum, Go files and flags>/bin/…   appears by one rename, so it is whole or absent
#   <folder of tools/> -> the directory above                 what the tests and test/demo.sh look up
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/tools
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
begin=$SECONDS

say() { printf '%4ds  %s\n' $((SECONDS - begin)) "$*"; }
fail() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# The order is the order of need: the first is what most tests use.
all=(containerd-2.4 runc registry crictl containerd-1.7 containerd-2.1 cni)
# For the chart's suite.
chart=(helm helm-3)
# Suites that others wrote, as test binaries; built only when asked for.
suites=(critest client-suite)
# What a cluster is made of; built for test/cluster.
cluster=(etcd kubernetes coredns metrics-server)

# What go.mod says in a line "// test-binary <package>": the package whose tests are built.
test_package_of() { sed -n 's#^// test-binary \(.*\)$#\1#p' "$tools/$1/go.mod"; }

# The module whose version names the component: the first path under `tool` in go.mod, or the suite's.
module_of() {
  local tool
  tool=$(sed -n 's#^// suite of \(.*\)$#\1#p' "$tools/$1/go.mod")
  [[ -n $tool ]] ||
  tool=$(sed -n 's/^tool \([^(].*\)$/\1/p; /^tool (/,/^)/{s/^\t\(.*\)$/\1/p}' "$tools/$1/go.mod" | head -n 1)
  # The longest required module that is a prefix of the tool's path.
  sed -n '/^require (/,/^)/{s/^\t\([^ ]*\) \(v[^ ]*\).*/\1 \2/p}; s/^require \([^(][^ ]*\) \(v[^ ]*\).*/\1 \2/p' "$tools/$1/go.mod" |
    awk -v tool="$tool" 'index(tool "/", $1 "/") == 1 && length($1) > best { best = length($1); line = $0 } END { print line }'
}

build() {
  local name=$1 module version component target private log packages suite cgo=0 tags= link="-s -w"
  [[ -f $tools/$name/go.mod ]] || fail "there is no component \"$name\"; known are: ${all[*]} ${chart[*]} ${suites[*]} ${cluster[*]}"
  read -r module version < <(module_of "$name") || fail "tools/$name/go.mod requires no module that holds its tool"
  component=${name%-[0-9]*}
  case $component in
    containerd)
      link+=" -X $module/version.Version=$version"
      tags=static_build,no_aufs,no_btrfs,no_devmapper,no_zfs
      ;;
    runc)
      # libseccomp is a C library: runc is the one component that needs cgo.
      cgo=1
      link+=" -X main.version=${version#v}"
      tags=seccomp
      ;;
    helm)
      # It judges a chart's kubeVersion by these where it asks no cluster. Where they are has changed between 3 and 4.
      link+=" -X $module/internal/version.version=$version"
      for place in pkg/chart/common pkg/chartutil; do
        link+=" -X $module/$place.k8sVersionMajor=1 -X $module/$place.k8sVersionMinor=36"
      done
      ;;
    # A node reports it, and charts ask for it.
    kubernetes) link+=" -X k8s.io/component-base/version.gitVersion=$version" ;;
    crictl) link+=" -X $module/pkg/version.Version=$version" ;;
  esac
  target=$cache/$component-${version#v}-$({ cat "$tools/$name/go.mod" "$tools/$name/go.sum"; find "$tools/$name" -name '*.go' -exec cat {} +; echo "$cgo $tags $link"; } | sha256sum | cut -c 1-12)
  if [[ -d $target/bin ]]; then
    say "$component ${version#v}: in the cache"
  else
    say "$component ${version#v}: building"
    local started=$SECONDS
    mapfile -t packages < <(cd "$tools/$name" && grep -q '^tool' go.mod && go list -f '{{.ImportPath}}' tool)
    suite=$(test_package_of "$name")
    ((${#packages[@]})) || [[ -n $suite ]] || fail "$name: go lists no tool; is the module proxy reachable (go env GOPROXY)?"
    private=$(mktemp -d "$cache/.build-$name-XXXXXX")
    chmod 755 "$private"
    mkdir "$private/bin"
    log=$private/log
    if ! (
      cd "$tools/$name" && export CGO_ENABLED=$cgo || exit 1
      if ((${#packages[@]})); then
        go build -trimpath -tags "$tags" -ldflags "$link" -o "$private/bin/" "${packages[@]}" || exit 1
      fi
      [[ -n $suite ]] || exit 0
      go test -c -trimpath -tags "$tags" -ldflags "$link" -o "$private/bin/$name.test" "$suite" || exit 1
      # Its output in a form that a program reads.
      go build -trimpath -ldflags "-s -w" -o "$private/bin/" cmd/test2json || exit 1
      # Tests read files by paths below their package.
      data=$(go list -f '{{.Dir}}' "$suite")/testdata
      [[ ! -d $data ]] || { cp -r "$data" "$private/" && chmod -R u+w "$private/testdata"; }
    ) 2>"$log"; then
      cat "$log" >&2
      rm -rf "$private"
      fail "$component ${version#v} did not build; the Go tool's words are above. If modules could not be fetched, set GOPROXY to a reachable proxy"
    fi
    rm -f "$log"
    # A concurrent build of the same thing may have won: its result is as good.
    mv -T "$private" "$target" 2>/dev/null || rm -rf "$private"
    say "$component ${version#v}: built in $((SECONDS - started)) s"
  fi
  # rename(2) replaces the link in one step; `ln -sf` would leave a moment without it.
  ln -s "$(basename "$target")" "$cache/.link-$name.$$"
  mv -T "$cache/.link-$name.$$" "$cache/$name"
}

if [[ ${1:-} == --list ]]; then
  for name in "${all[@]}" "${chart[@]}" "${suites[@]}" "${cluster[@]}"; do
    read -r _ version < <(module_of "$name")
    printf '%-16s %s\n' "$name" "${version#v}"
  done
  exit 0
fi

command -v go >/dev/null || fail "go is missing; test/node/install.sh installs it"
mkdir -p "$cache"
(($#)) || set -- "${all[@]}"
for name in "$@"; do
  build "$name"
done
say "components are in $cache"
