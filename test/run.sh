#!/usr/bin/env bash
# Runs a suite that needs a real containerd. `make build` must have staged Skiff's binaries (or SKIFF_BIN_DIR names
# where they are) and test/node/build.sh the components; what else is missing is built here.
#
#   test/run.sh containerd [WORD…]   all but the long ones, or the tests whose names hold one of the words
#   test/run.sh containerd-wasmedge [WORD…]   those that ask something of the engine, of WasmEdge
#   test/run.sh cycles [WORD…]       1,000 containers in a row, then a look at what they left
#   test/run.sh crash [WORD…]        shims and workers killed at many points, again and again
#   test/run.sh list                 the names of all tests
#   test/run.sh install [WORD…]      the installer, on trees of files that stand for nodes and on containerds of its own
#   test/run.sh chart [WORD…]        the chart, as Helm 4 and Helm 3 make objects of it
#   test/run.sh compat               the same images under a runwasi shim and under Skiff
#   test/run.sh runwasi-engines [WORD…]  engines written for runwasi, under Skiff
#   test/run.sh critest [OPTION…]    cri-tools' suite for CRI under runc and under Skiff
#   test/run.sh client-suite [OPT…]  containerd's own client tests under runc's shim and under Skiff
#   test/run.sh wasi [WORD…]         WASI 0.1, function by function: on each engine alone, and in a container
#   test/run.sh languages [WORD…]    guests in many languages, built from source, on each engine
#   test/run.sh twin [OPT…] [WORD…]  what Kubernetes may ask of a container, asked of Wasm containers
#
# The last line of each is exactly "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suite=${1:-containerd}
(($#)) && shift
export PATH=$PATH:$HOME/.cargo/bin


((EUID == 0)) || { echo "run.sh: these tests start containers and need root" >&2; exit 1; }

# The guest is built for Wasm, by a workspace of its own: neither the target nor the flags of ours are right for it.
cargo build --quiet --locked --manifest-path test/guest/Cargo.toml --target-dir test/guest/target --release \
  --target wasm32-wasip1 --target wasm32-wasip2
for example in http http-p3; do
  cargo build --quiet --locked --manifest-path examples/$example/Cargo.toml --target-dir examples/$example/target --release \
    --target wasm32-wasip2
done
cargo build --quiet --locked --manifest-path test/drafts/Cargo.toml --target-dir test/drafts/target --release --target wasm32-wasip2
cargo build --quiet --locked -p skiff-test --tests
# A debug build on purpose: it has the places at which the tests kill it.
build_node() {
  cargo build --quiet --locked -p skiff-node -p skiff-agent
  export SKIFF_AGENT=${CARGO_TARGET_DIR:-$PWD/target}/x86_64-unknown-linux-gnu/debug/skiff-agent
  export SKIFF_NODE=${CARGO_TARGET_DIR:-$PWD/target}/x86_64-unknown-linux-gnu/debug/skiff-node
}

run() { cargo test --quiet --locked -p skiff-test --test containerd -- "$@"; }
case $suite in
  containerd) run "$@" ;;
  containerd-wasmedge)
    if [[ ! -e ${SKIFF_BIN_DIR:-$PWD/target/stage/bin}/containerd-shim-wasmedge-v1 ]]; then
      echo "SKIPPED containerd-wasmedge: make build could not make WasmEdge's bundle here, and said why"
      echo "test result: ok. 0 passed; 0 failed; 1 ignored"
      echo "0 passed, 0 failed, 1 skipped"
      exit 0
    fi
    (($#)) || set -- run:: cri:: life:: exec:: toolbox:: terminal:: limits:: figures:: options:: engine_options:: termination:: endings:: \
      stats:: volumes:: reach:: bad_module:: bad_image:: cache:: disk:: user:: alone::
    SKIFF_TEST_ENGINE=wasmedge run "$@"
    ;;
  cycles) run "${@:-cycles}" ;;
  crash) run "${@:-crash}" ;;
  install)
    build_node
    test/node/build.sh containerd-2.4 containerd-2.1 containerd-1.7
    # What an installer writes to is the tests' own: nothing of this machine's is seen, or removed.
    mkdir -p /var/lib/skiff
    SKIFF_OWN_MOUNTS=yes unshare --mount --propagation private bash -c \
      'for folder in /opt /run /var/lib/skiff; do mount -t tmpfs skiff-test "$folder" || exit 1; done
       exec cargo test --quiet --locked -p skiff-test --test install -- "$@"' install "$@"
    ;;
  chart)
    test/node/build.sh helm helm-3
    cargo test --quiet --locked -p skiff-test --test chart -- "$@"
    ;;
  compat) test/compat/build-peer.sh && cargo test --quiet --locked -p skiff-test --test compat -- "$@" ;;
  runwasi-engines)
    test/node/build.sh containerd-2.4 containerd-2.1 containerd-1.7 runc registry cni crictl
    target=${CARGO_TARGET_DIR:-$PWD/target}
    compat/runwasi/build.sh "${SKIFF_BIN_DIR:-$target/stage/bin}" "$target/runwasi/bin"
    (cd compat/runwasi && cargo test --quiet --locked --release -p skiff-runwasi --target-dir "$target/runwasi")
    SKIFF_BIN_DIR=$target/runwasi/bin cargo test --quiet --locked -p skiff-test --test runwasi_engines -- "$@"
    ;;
  critest)
    test/node/packages.sh busybox nginx
    test/node/build.sh containerd-2.4 runc registry cni crictl critest
    cargo test --quiet --locked -p skiff-test --test critest -- "$@"
    ;;
  client-suite)
    test/node/packages.sh busybox
    test/node/build.sh containerd-2.4 runc registry client-suite
    cargo test --quiet --locked -p skiff-test --test client_suite -- "$@"
    ;;
  twin)
    test/node/build.sh containerd-2.4 runc registry cni crictl
    cargo test --quiet --locked -p skiff-test --test twin -- "$@"
    ;;
  wasi)
    cargo build --quiet --locked --manifest-path test/wasi/cases/Cargo.toml --target-dir test/wasi/target --release \
      --target wasm32-wasip1
    # A call of its own: it has a compiler, which would be united with the features of others.
    cargo build --quiet --locked -p skiff-bare-wasmtime
    test/node/build.sh containerd-2.4
    cargo test --quiet --locked -p skiff-test --test wasi -- "$@"
    ;;
  languages)
    test/languages/build.sh
    test/node/build.sh containerd-2.4
    cargo test --quiet --locked -p skiff-test --test languages -- "$@"
    ;;
  list) run --list "$@" && run --list cycles && run --list crash ;;
  *) echo "run.sh: there is no suite \"$suite\"; known are containerd, containerd-wasmedge, cycles, crash, install, chart, compat, runwasi-engines, critest, client-suite, wasi, languages, twin, list" >&2; exit 1 ;;
esac
