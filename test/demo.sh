#!/usr/bin/env bash
# Shows Skiff at work: starts a containerd of its own, builds images from examples/ with `skiff build`, runs them
# with `ctr`, compares with a runc container on the same containerd, and takes everything away again.
#
#   test/demo.sh             what `make demo` runs, after building
#   SKIFF_BIN_DIR=…          where Skiff's binaries are (target/stage/bin)
#   SKIFF_DEMO_ROUNDS=…      how often each container is started for the table (15)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=$(realpath -m "${SKIFF_BIN_DIR:-target/stage/bin}")
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
rounds=${SKIFF_DEMO_ROUNDS:-15}
runtime=io.containerd.wasmtime.v1
export PATH=$PATH:$HOME/.cargo/bin
begin=$SECONDS

bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
step() { printf '%s%4d s%s  %s\n' "$dim" $((SECONDS - begin)) "$plain" "$*"; }
fail() {
  printf '\n%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
  [[ -s ${place:-}/containerd.log ]] && grep -E 'level=(error|fatal)' "$place/containerd.log" | tail -n 5 >&2
  exit 1
}

place='' containerd_pid=''
clean_up() {
  local status=$? task containers mount tree
  trap - EXIT INT TERM
  [[ -n $place ]] || exit "$status"
  if [[ -S $place/c.sock ]]; then
    for task in $("${ctr[@]}" task ls -q 2>/dev/null); do "${ctr[@]}" task delete --force "$task" >/dev/null 2>&1 || true; done
    containers=$("${ctr[@]}" container ls -q 2>/dev/null) || true
    for task in $containers; do "${ctr[@]}" container rm "$task" >/dev/null 2>&1 || true; done
  fi
  if [[ -n $containerd_pid ]]; then
    kill "$containerd_pid" 2>/dev/null || true
    wait "$containerd_pid" 2>/dev/null || true
  fi
  # Should a container have gone wrong, its mounts and cgroups are still there.
  for mount in $(awk -v place="$place/" 'index($5, place) == 1 { print $5 }' /proc/self/mountinfo | sort -r); do umount -l "$mount" || true; done
  while IFS= read -r tree; do
    [[ -d $tree/$name ]] && find "$tree/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)
  rm -rf "$place"
  exit "$status"
}

((EUID == 0)) || fail "containers need root; run it as root, or with sudo"
[[ $(uname -s) == Linux ]] || fail "this is no Linux"

title "Getting ready"
test/node/install.sh | sed "s/^/        /"
if [[ ! -x $bin/containerd-shim-skiff-v1 ]]; then
  step "building Skiff (the first time: 10 to 20 minutes on 2 cores)"
  make --no-print-directory build || fail "Skiff did not build; cargo's words are above"
fi
test/node/build.sh containerd-2.4 runc | sed "s/^/        /"
step "building the guests of examples/ for wasm32-wasip1 and wasm32-wasip2"
guests=$(realpath -m "${CARGO_TARGET_DIR:-target}/examples")
cargo build --quiet --locked --manifest-path examples/Cargo.toml --target-dir "$guests" --release --target wasm32-wasip1 --target wasm32-wasip2 ||
  fail "the guests did not build; is the target there (rustup target add wasm32-wasip1 wasm32-wasip2)?"

place=$(mktemp -d /tmp/skiff-demo-XXXXXX)
name=$(basename "$place")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$place"/{tmp,images}
cat >"$place/config.toml" <<TOML
version = 3
root = "$place/root"
state = "$place/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
[grpc]
address = "$place/c.sock"
[ttrpc]
address = "$place/t.sock"
[plugins.'io.containerd.internal.v1.opt']
path = "$place/opt"
[plugins.'io.containerd.nri.v1.nri']
disable = true
TOML
export SKIFF_CACHE_DIR=$place/cache SKIFF_RUN_DIR=$place/run TMPDIR=$place/tmp
export PATH=$bin:$cache/containerd-2.4/bin:$cache/runc/bin:$PATH
export CONTAINERD_ADDRESS=$place/c.sock CONTAINERD_NAMESPACE=$name
ctr=(ctr)
mkdir -p /run/containerd/fifo
containerd --config "$place/config.toml" >"$place/containerd.log" 2>&1 &
containerd_pid=$!
for ((i = 0; i < 100; i++)); do
  [[ -S $place/c.sock ]] && ctr version >/dev/null 2>&1 && break
  kill -0 "$containerd_pid" 2>/dev/null || { tail -n 5 "$place/containerd.log" >&2; fail "containerd ended at once; its last words are above"; }
  sleep 0.1
done
((i < 100)) || fail "containerd did not answer within 10 s"
step "$(containerd --version | awk '{ print $1, $3 }') runs, with root, state and socket in $place"

# Builds an image and imports it. The name, the wasm file, more options of `skiff build`.
image() {
  local tag=$1 file=$2
  shift 2
  skiff build "$file" --tag "localhost/$tag:1" --output "$place/images/$tag.tar" "$@" >/dev/null || fail "skiff build could not make an image of $file"
  ctr image import "$place/images/$tag.tar" >/dev/null 2>"$place/tmp/output" || fail "ctr could not import the image: $(tail -n 1 "$place/tmp/output")"
  step "localhost/$tag:1 built and imported ($(du -h "$place/images/$tag.tar" | cut -f 1))"
}

# Shows a command as one would type it, and what it prints.
show() {
  local expected=$1 status=0
  shift
  printf '\n  %s$ ctr run --rm --runtime %s %s%s\n' "$bold" "$runtime" "$*" "$plain"
  ctr run --rm --runtime "$runtime" "$@" >"$place/tmp/output" 2>&1 || status=$?
  # Without the warnings of ctr itself.
  sed -e '/^time=".*level=warning/d' -e 's/^/    /' "$place/tmp/output"
  if ((status == expected)); then
    printf '    %s(exit code %d)%s\n' "$green" "$status" "$plain"
  else
    fail "the exit code is $status and should be $expected"
  fi
}

title "Images"
module=$guests/wasm32-wasip1/release component=$guests/wasm32-wasip2/release
image hello "$module/hello.wasm" --env GREETING=ahoy -- one "two words"
image component "$component/hello.wasm" --layout root --workdir /
image text examples/hello.wat
image exit-code "$module/exit-code.wasm"
image trap "$module/trap.wasm"
image sleep "$module/sleep.wasm"

title "Guests"
show 0 localhost/hello:1 hello
show 0 localhost/component:1 component
show 0 localhost/text:1 text
show 42 localhost/exit-code:1 exit-code /exit-code.wasm 42
show 134 localhost/trap:1 trap

title "Beside a runc container on this machine"
# A Linux container that does as little: a static busybox, in a root of its own.
mkdir -p "$place/linux/bin"
cp /bin/busybox "$place/linux/bin/busybox"

# The median of the times of `ctr run --rm`, in milliseconds.
median() {
  local i start times=()
  for ((i = 0; i < rounds; i++)); do
    start=$(date +%s%N)
    "$@" "time$i" "${command[@]}" >/dev/null 2>&1 || fail "a container of the measurement failed: $* time$i ${command[*]}"
    times+=($((($(date +%s%N) - start) / 100000)))
  done
  printf '%s\n' "${times[@]}" | sort -n | sed -n "$((rounds / 2 + 1))p" | awk '{ printf "%.0f", $1 / 10 }'
}

# Proportional memory (PSS) of a container and its shim, in KiB: the shim is the parent of the container's process.
memory() {
  local process shim total
  process=$(ctr task ls 2>/dev/null | awk -v id="$1" '$1 == id { print $2 }')
  shim=$(awk '/^PPid:/ { print $2 }' "/proc/$process/status")
  total=$(awk '/^Pss:/ { sum += $2 } END { print sum }' "/proc/$process/smaps_rollup" "/proc/$shim/smaps_rollup")
  echo "$total"
}

command=()
step "starting each $rounds times"
wasm_time=$(median ctr run --rm --runtime "$runtime" localhost/text:1)
command=(/bin/busybox echo hello)
runc_time=$(median ctr run --rm --runtime io.containerd.runc.v2 --rootfs "$place/linux")
ctr run --detach --null-io --runtime "$runtime" localhost/sleep:1 wasm-sleeps /sleep.wasm 1000 >/dev/null 2>&1 || fail "the sleeping guest did not start"
ctr run --detach --null-io --runtime io.containerd.runc.v2 --rootfs "$place/linux" runc-sleeps /bin/busybox sleep 1000 >/dev/null 2>&1 || fail "the runc container did not start"
sleep 1
wasm_memory=$(memory wasm-sleeps) runc_memory=$(memory runc-sleeps)
for task in wasm-sleeps runc-sleeps; do
  ctr task delete --force "$task" >/dev/null 2>&1 || true
  ctr container rm "$task" >/dev/null 2>&1
done

row() { printf '  %-38s %12s %12s\n' "$@"; }
echo
row '' 'Skiff' 'runc'
row 'hello: ctr run to exit, median' "$wasm_time ms" "$runc_time ms"
row 'the only one, asleep, with shim: PSS' "$(awk -v k="$wasm_memory" 'BEGIN { printf "%.1f MiB", k / 1024 }')" "$(awk -v k="$runc_memory" 'BEGIN { printf "%.1f MiB", k / 1024 }')"
printf '  %s%d starts each, on this machine, now; most of either time is containerd and ctr\n' "$dim" "$rounds"
printf '  a first container has the pages of its executables to itself; of a hundred, each has about a tenth of that%s\n' "$plain"

title "Done"
cat <<TEXT
  Six images were built with \`skiff build\` and ran through $runtime under a containerd of their own.
  It is taken away now, with its images, logs and compiled code; the tools that were built stay in $cache.

  What to try next:
    make install PREFIX=/usr/local       put the binaries on this node
    skiff doctor                         what this node has, and what it lacks
    skiff build app.wasm -t me/app:1     an image of your own
    skiff inspect app.tar                what is in an image, and what it imports
TEXT
step "finished"
