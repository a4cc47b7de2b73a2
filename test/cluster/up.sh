#!/usr/bin/env bash
# `make cluster`: starts a cluster of one node with Skiff on it, leaves it running, and says what to try.
#
#   test/cluster/up.sh [--containerd=1.7]     in /tmp/skiff-cluster; test/cluster/down.sh takes it away
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

place=/tmp/skiff-cluster
if [[ -e $place/ready ]] && kill -0 "$(cat "$place/process")" 2>/dev/null; then
  echo "a cluster is up already, in $place"
else
  source test/cluster/prepare.sh
  test/cluster/down.sh >/dev/null
  mkdir -p "$place"
  # In a session of its own: it outlives the terminal that it was started from.
  setsid "$suite" "--keep=$place" "$@" >"$place/log" 2>&1 </dev/null &
  process=$!
  echo "$process" >"$place/process"
  for ((i = 0; i < 1800; i++)); do
    [[ ! -e $place/ready ]] || break
    kill -0 "$process" 2>/dev/null || { cat "$place/log" >&2; test/cluster/down.sh >/dev/null; exit 1; }
    sleep 0.1
  done
  [[ -e $place/ready ]] || { cat "$place/log" >&2; echo "cluster: it is not ready after 3 minutes" >&2; test/cluster/down.sh >/dev/null; exit 1; }
  cat "$place/log"
fi
# shellcheck source=/dev/null
source "$place/images"
hello=$PWD/examples/hello.wat
skiff=${SKIFF_BIN_DIR:-$PWD/target/stage/bin}/skiff
cat >"$place/hello.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: hello
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - name: hello
      image: $guest
      args: ["say", "hello from Wasm", "show"]
YAML
cat >"$place/server.yaml" <<YAML
apiVersion: apps/v1
kind: Deployment
metadata:
  name: server
spec:
  replicas: 3
  selector:
    matchLabels: { app: server }
  template:
    metadata:
      labels: { app: server }
    spec:
      runtimeClassName: wasmtime
      containers:
        - name: server
          image: $component
          args: ["serve", "8080"]
YAML
cat <<TEXT

The cluster is up. In this shell:

  export PATH=$place/bin:\$PATH
  kubectl get nodes --output wide
  kubectl get runtimeclass

A Wasm pod, its log, its end:

  kubectl apply -f $place/hello.yaml
  kubectl logs hello --follow
  kubectl get pod hello

Three servers, a shell in one of them, a port of it on this machine's side of the cluster:

  kubectl apply -f $place/server.yaml
  kubectl rollout status deployment/server
  kubectl exec -it deployment/server -- sh
  kubectl delete -f $place/server.yaml -f $place/hello.yaml

An image of your own:

  $skiff build $hello --tag localhost/mine:1 --output /tmp/mine.tar && load /tmp/mine.tar
  kubectl run mine --image localhost/mine:1 --restart Never --overrides '{"spec":{"runtimeClassName":"wasmtime"}}'
  kubectl logs mine

On the node:

  on-node skiff-node status
  on-node crictl ps

\`make cluster-down\` takes all of it away.
TEXT
