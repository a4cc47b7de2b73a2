#!/usr/bin/env bash
# Builds the guests of test-languages from source into the cache of pinned tools.
#
#   test/languages/build.sh            all of them: about 3 minutes on 2 cores, and at once when nothing has changed
#   test/languages/build.sh go c …     only these
#
# The result is outside the tree, in ${SKIFF_TEST_CACHE:-~/.cache/skiff-test}/languages:
#   <name>-<hash of sources, locks and versions of tools>/{guest.wasm,tool}   appears by one rename, so it is whole or absent
#   <name> -> the directory above, or <name>.missing with the reason why it could not be built
set -euo pipefail
export PATH=$PATH:$HOME/.cargo/bin:/usr/local/go/bin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}/languages
begin=$SECONDS
failed=()
# Guests are built outside of the checkout, where rustup does not see which toolchain it names.
RUSTUP_TOOLCHAIN=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$here/../../rust-toolchain.toml")
export RUSTUP_TOOLCHAIN
all=(rust-p1 rust-p2 c cpp go assemblyscript javascript python)

say() { printf '%4ds  %s\n' $((SECONDS - begin)) "$*"; }
# Ends one language: the others are built all the same.
missing() { printf '%s\n' "$*" >"$reason"; exit 1; }

# Debian's compiler of C and C++, its linker, and the libraries for Wasm.
debian=(clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 libc++-19-dev-wasm32 libc++abi-19-dev-wasm32)

install_packages() {
  local package absent=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || absent+=("$package")
  done
  ((${#absent[@]})) || return 0
  command -v apt-get >/dev/null || missing "these packages are missing and this is no Debian system: ${absent[*]}"
  ((EUID == 0)) || missing "these packages are missing and installing them needs root: ${absent[*]}"
  say "installing ${absent[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${absent[@]}" >"$log" 2>&1 ||
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${absent[@]}"; } >"$log" 2>&1 ||
    missing "apt-get could not install ${absent[*]}: $(tail -n 1 "$log")"
}

# What the language needs on this machine.
prepare() {
  case $name in
    c | cpp) install_packages "${debian[@]}" ;;
    go) command -v go >/dev/null || missing "go is missing; test/node/install.sh installs it" ;;
    assemblyscript | javascript)
      command -v node >/dev/null || install_packages nodejs
      command -v npm >/dev/null || install_packages npm
      ;;
    python) python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip ;;
  esac
}

# The words that the table names its tool by.
tool_of() {
  case $name in
    rust-*) (cd "$here" && rustc --version | cut -d ' ' -f 1-2) ;;
    c | cpp) echo "clang $(version_of clang-19), wasi-libc $(version_of wasi-libc)" ;;
    go) (cd "$here/go" && go env GOVERSION | sed 's/^go/go /') ;;
    assemblyscript) pinned assemblyscript ;;
    javascript) pinned @bytecodealliance/componentize-js ;;
    python) sed -n 's/^\(componentize-py\)==\([^ ]*\).*/\1 \2/p' "$here/python/requirements.txt" ;;
  esac
}

# Of a Debian package, without epoch and revision: 19.1.7, or the day of a version that is none.
version_of() { dpkg-query -W -f '${Version}' "$1" | sed 's/^[0-9]*://; s/^.*git\([0-9]*\).*/\1/; s/-.*//'; }
pinned() { sed -n "s#^ *\"\($1\)\": \"\([0-9.]*\)\".*#\1 \2#p" "$here/$name/package.json" | sed 's#^@[a-z]*/##'; }

packages_of_npm() {
  cp "$here/$name"/package*.json .
  # None of them may run a program of its own when it is installed. Not `npm ci`: it wants the lock file to have the
  # binaries for all other systems as well.
  npm install --ignore-scripts --no-audit --no-fund || missing "npm could not install what test/languages/$name/package-lock.json names; is a registry reachable?"
}

compile() {
  case $name in
    rust-*)
      cargo build --quiet --locked --release --manifest-path "$here/rust/Cargo.toml" --target-dir target --target "wasm32-wasi${name#rust-}"
      mv "target/wasm32-wasi${name#rust-}/release/languages.wasm" guest.wasm
      ;;
    c) clang-19 --target=wasm32-wasi -O2 -s -Wall -Wextra -Werror -o guest.wasm "$here/c/guest.c" ;;
    cpp)
      clang++-19 --target=wasm32-wasi -std=c++23 -stdlib=libc++ -fno-exceptions -O2 -s -Wall -Wextra -Werror \
        -o guest.wasm "$here/cpp/guest.cpp"
      ;;
    go) (cd "$here/go" && GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags "-s -w" -o "$OLDPWD/guest.wasm" .) ;;
    assemblyscript)
      packages_of_npm
      cp "$here/$name/guest.ts" .
      node node_modules/assemblyscript/bin/asc.js guest.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json \
        --runtime stub -O2 -o guest.wasm
      ;;
    javascript)
      packages_of_npm
      mkdir -p wit/deps
      cp "$here/$name/world.wit" wit/
      cp -r node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12/wasi-* wit/deps/
      node node_modules/@bytecodealliance/componentize-js/src/cli.js "$here/$name/guest.js" -w wit -n guest -d http fetch-event -o guest.wasm
      ;;
    python)
      python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes --no-deps --only-binary :all: \
        --target tools -r "$here/python/requirements.txt" || missing "pip could not install what test/languages/python/requirements.txt names; is an index reachable?"
      cp "$here/python/guest.py" .
      PYTHONPATH=tools python3 tools/bin/componentize-py -d "$here/python/guest.wit" -w guest componentize guest -o guest.wasm
      ;;
  esac
}

build() {
  local tool target sources=${name%-p[12]} started=$SECONDS
  # In subshells, and not as conditions, where errors would not end them.
  set +e
  (set -e; prepare)
  set -e
  if [[ ! -s $reason ]]; then
    tool=$(tool_of)
    target=$cache/$name-$({ cat "$here/build.sh"; echo "$tool"; cd "$here/$sources" && find . -type f -not -path './target/*' | sort | xargs cat; } | sha256sum | cut -c 1-12)
    if [[ -e $target/guest.wasm ]]; then
      say "$name: in the cache"
    else
      say "$name: building with $tool"
      set +e
      (set -e; cd "$private"; compile) >"$log" 2>&1
      set -e
      if [[ ! -s $private/guest.wasm ]]; then
        # Of tools that are there it is no reason to go without: a mistake in the guest, or in how it is built.
        [[ -s $reason ]] || { cat "$log" >&2; failed+=("$name"); return; }
      else
        mkdir -m 755 "$private/done"
        install -m 644 "$private/guest.wasm" "$private/done/"
        echo "$tool" >"$private/done/tool"
        # A concurrent build of the same thing may have won: its result is as good.
        mv -T "$private/done" "$target" 2>/dev/null || true
        say "$name: built in $((SECONDS - started)) s, $(($(stat -c %s "$target/guest.wasm") / 1024)) KiB"
      fi
    fi
  fi
  if [[ -s $reason ]]; then
    say "$name: cannot be had here: $(cat "$reason")"
    rm -f "$cache/$name"
    mv "$reason" "$cache/$name.missing"
  else
    rm -f "$cache/$name.missing"
    ln -sfn "$(basename "$target")" "$cache/$name"
  fi
}

mkdir -p "$cache"
(($#)) || set -- "${all[@]}"
for name in "$@"; do
  [[ " ${all[*]} " == *" $name "* ]] || { echo "build.sh: there is no guest \"$name\"; known are ${all[*]}" >&2; exit 1; }
  private=$(mktemp -d "$cache/.build-$name-XXXXXX")
  trap 'rm -rf "$private"' EXIT
  reason=$private/reason log=$private/log
  build
  rm -rf "$private"
done
((${#failed[@]} == 0)) || { echo "build.sh: not built: ${failed[*]}; what the tools said is above" >&2; exit 1; }
say "guests are in $cache"
