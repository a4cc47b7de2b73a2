#!/usr/bin/env bash
# `make cluster-down`: ends the cluster that test/cluster/up.sh has started, and removes all that was its.
set -euo pipefail

place=/tmp/skiff-cluster
[[ -d $place ]] || { echo "no cluster is up"; exit 0; }
process=$(cat "$place/process" 2>/dev/null || true)
if [[ -n $process ]] && kill -0 "$process" 2>/dev/null && grep -qz -- "--keep=$place" "/proc/$process/cmdline"; then
  touch "$place/stop"
  for ((i = 0; i < 600; i++)); do
    kill -0 "$process" 2>/dev/null || break
    sleep 0.1
  done
  # Everything in its process namespace ends with it.
  if kill -KILL "$process" 2>/dev/null; then sleep 1; fi
fi
if [[ -n $process ]]; then
  while IFS= read -r tree; do
    [[ ! -d $tree/skiff-cluster-$process ]] || find "$tree/skiff-cluster-$process" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)
fi
rm -rf "$place"
echo "the cluster is gone"
