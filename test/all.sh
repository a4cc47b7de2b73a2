#!/usr/bin/env bash
# `make test`: every suite that fits this machine, one after the other, with its time, and one summary at the end.
# A suite is a command; what it counts is read from its output: lines of libtest ("test result: …"), and lines
# "SKIPPED <test>: <reason>", which a test that cannot run here prints before it returns.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
names=() times=() counts=() states=()
total_passed=0 total_failed=0 total_skipped=0
begin=$SECONDS

suite() { # name, command…
    local name=$1 log="$logs/$1" start=$SECONDS state=ok passed failed skipped
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if ! "$@" 2>&1 | tee "$log"; then state=FAILED; fi
    passed=$(sed -nE 's/^test result: .* ([0-9]+) passed;.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    failed=$(sed -nE 's/^test result: .* ([0-9]+) failed;.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    skipped=$(grep -cE '^SKIPPED ' "$log")
    # A suite that is one check (formatting, a build) has no such line, and counts as one.
    if ! grep -q '^test result: ' "$log"; then if [ $state = ok ]; then passed=1; else failed=1; fi; fi
    if [ $state = FAILED ] && ((failed == 0)); then failed=1; fi
    names+=("$name") times+=($((SECONDS - start))) counts+=("$passed $failed $skipped") states+=("$state")
    total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed)) total_skipped=$((total_skipped + skipped))
}

suite install test/node/install.sh
suite build make --no-print-directory build
suite lint test/lint.sh
suite unit test/unit.sh
suite aarch64 test/check-aarch64.sh
suite tools test/node/build.sh
suite containerd make --no-print-directory test-node
suite wasmedge make --no-print-directory test-wasmedge CASE="options:: reach:: cache::"
suite wasi make --no-print-directory test-wasi
suite installer make --no-print-directory test-install
suite cluster make --no-print-directory test-cluster-first
suite chart make --no-print-directory test-chart

printf '\n%-12s %8s %7s %7s %8s  %s\n' suite seconds passed failed skipped state
for i in "${!names[@]}"; do
    read -r passed failed skipped <<<"${counts[$i]}"
    printf '%-12s %8d %7d %7d %8d  %s\n' "${names[$i]}" "${times[$i]}" "$passed" "$failed" "$skipped" "${states[$i]}"
done
if ((total_skipped > 0)); then
    printf '\nskipped:\n'
    grep -hE '^SKIPPED ' "$logs"/* | sed 's/^SKIPPED /  /' | sort -u
fi
printf '\nnot part of this run: make test-vm (cgroup v2 and systemd, in an emulated machine), make test-compat (beside a runwasi shim), make test-runwasi-engines, make test-languages (guests in many languages), make test-wasmedge (the rest of it), make test-critest, make test-client-suite, make test-twin, make test-cluster (the rest of it, on containerd 1.7 too and on two nodes), make test-scale, make test-http-storm, make check-aarch64 alone, make demo\n'
printf 'whole run: %d min %d s\n\n' $(((SECONDS - begin) / 60)) $(((SECONDS - begin) % 60))
printf '%d passed, %d failed, %d skipped\n' "$total_passed" "$total_failed" "$total_skipped"
((total_failed == 0))
