#!/usr/bin/env bash
# Runs Skiff in a real cluster of its own: control plane, kubelet and containerd in namespaces that end with the run.
# `make build` must have staged Skiff's binaries (or SKIFF_BIN_DIR names where they are); the rest is built here.
#
#   test/cluster/run.sh [WORD…]                    on containerd 2.4, then on 1.7: all scenarios, or those whose names hold a word
#   test/cluster/run.sh --containerd=2.4 [WORD…]   on one of them
#   test/cluster/run.sh --containerd=2.4 scale     50 pods beside runc (not among all)
#   test/cluster/run.sh chart                      the chart by Helm, on a node of its own without Skiff (among all, after the others)
#   test/cluster/run.sh two_nodes                  the chart on two nodes, and what pods do there (among all, the last)
#   test/cluster/run.sh first [WORD…]              the set of `make test`: a few of all kinds on one node, on containerd 2.4
#   test/cluster/run.sh list                       the names of all scenarios
#
# The last line is exactly "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

versions=(2.4 1.7)
words=()
for word in "$@"; do
  case $word in
    --containerd=*) versions=("${word#--containerd=}") ;;
    *) words+=("$word") ;;
  esac
done
# Which clusters are wanted: of a node that has Skiff, of one that gets it by the chart, of two that get it by the chart.
clusters=(--with-skiff --clean-node --two-nodes)
case ${words[0]:-} in
  "" | list) ;;
  # Some scenarios for `make test`, which must not wait long for what they are built of.
  first) clusters=(--first) versions=("${versions[0]}") words=("${words[@]:1}") components=("containerd-${versions[0]}" runc registry cni crictl etcd kubernetes coredns helm) ;;
  chart*) clusters=(--clean-node) ;;
  two*) clusters=(--two-nodes) ;;
  *) clusters=(--with-skiff) ;;
esac
source test/cluster/prepare.sh
if [[ ${words[0]:-} == list ]]; then
  for cluster in "${clusters[@]}"; do "$suite" "$cluster" --list || exit 1; done
  exit 0
fi
if [[ ${clusters[*]} != --with-skiff ]]; then
  test/node/build.sh helm || exit 1
  target=$(uname -m)-unknown-linux-gnu
  if [[ -z ${SKIFF_IMAGE_BUILDER:-} ]]; then
    cargo build --quiet --release --locked --target "$target" -p skiff-image --features build --bin skiff-linux-image || exit 1
    export SKIFF_IMAGE_BUILDER=${CARGO_TARGET_DIR:-$PWD/target}/$target/release/skiff-linux-image
  fi
fi

passed=0 failed=0 skipped=0
lines=()
for version in "${versions[@]}"; do
  for cluster in "${clusters[@]}"; do
    printf '\n--- containerd %s, %s\n' "$version" "${cluster#--}"
    begin=$SECONDS
    log=$(mktemp)
    "$suite" "--containerd=$version" "$cluster" ${words[@]+"${words[@]}"} > >(tee "$log") 2>&1 &
    process=$!
    # What it was told to stop by, it is stopped by: the namespaces end with it.
    trap 'kill -KILL "$process" 2>/dev/null; wait "$process" 2>/dev/null; sweep "$process"; rm -f "$log"; exit 130' INT TERM
    wait "$process"
    status=$?
    trap - INT TERM
    sweep "$process"
    # tee may write its last line after the suite has ended.
    for _ in $(seq 50); do grep -qE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" && break; sleep 0.1; done
    if read -r p _ f _ s _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1); then :; else p=0 f=1 s=0; fi
    ((status == 0 || f > 0)) || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    lines+=("containerd $version, ${cluster#--}: $p scenarios passed, $f failed, $s skipped, in $((SECONDS - begin)) s")
    rm -f "$log"
  done
done
printf '\n'
printf '%s\n' "${lines[@]}"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
