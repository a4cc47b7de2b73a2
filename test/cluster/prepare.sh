# Sourced by the scripts of this folder: builds what a cluster needs ($components, if set), finds the suite's executable ($suite), and knows how
# to take away what a run leaves outside of its namespaces.
export PATH=$PATH:$HOME/.cargo/bin

((EUID == 0)) || { echo "cluster: containers and namespaces need root" >&2; exit 1; }
command -v openssl >/dev/null || { echo "cluster: openssl is missing; test/node/install.sh installs it" >&2; exit 1; }
[[ -v components ]] || components=(containerd-2.4 containerd-1.7 runc registry cni crictl etcd kubernetes coredns metrics-server)
test/node/build.sh "${components[@]}" || exit 1
cargo build --quiet --locked --manifest-path test/guest/Cargo.toml --target-dir test/guest/target --release \
  --target wasm32-wasip1 --target wasm32-wasip2 || exit 1
cargo build --quiet --locked --manifest-path examples/http/Cargo.toml --target-dir examples/http/target --release \
  --target wasm32-wasip2 || exit 1
# Started without cargo in between, which would not hand on signals.
suite=$(cargo test --quiet --locked -p skiff-test --test cluster --no-run --message-format json |
  sed -nE 's/.*"executable":"([^"]*cluster-[^"]*)".*/\1/p' | tail -n 1)
[[ -x $suite ]] || { echo "cluster: the suite was not built" >&2; exit 1; }

# What a run by this process has left: its folder, and cgroups that nothing is in.
sweep() {
  local tree
  rm -rf "/tmp/skiff-cluster-$1"
  while IFS= read -r tree; do
    [[ ! -d $tree/skiff-cluster-$1 ]] || find "$tree/skiff-cluster-$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)
}
# Runs that were killed could not do it.
for folder in /tmp/skiff-cluster-*; do
  process=${folder##*-}
  if [[ $process =~ ^[0-9]+$ && ! -e /proc/$process ]]; then sweep "$process"; fi
done
