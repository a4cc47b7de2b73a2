#!/usr/bin/env bash
# Starts the machine that build.sh has made.
#
#   machine.sh freeze DIR       first boot; keeps its state and its disk in DIR when it waits for work
#   machine.sh run DIR TAR      goes on from there with TAR on the second disk; prints what its run.sh prints, and
#                               exits as that does. KEEP=log: the console is in DIR.log afterwards
#
# Two serial ports: the first is the kernel's console, the second is what guest/serve.sh speaks on.
set -euo pipefail

mode=$1 directory=$2 tar=${3:-}
fail() { printf 'vm/machine.sh: %s\n' "$*" >&2; exit 1; }

# The whole run, boot included.
patience=${PATIENCE:-900}
# What is on the second disk may change between freezing and running, its size may not.
tar_size=$((1 << 30))

run=$(mktemp -d)
pid=
finish() {
  [[ -z $pid ]] || kill "$pid" 2>/dev/null || true
  rm -rf "$run"
}
trap finish EXIT

tools=$directory/tools
libraries=$(find "$tools/usr/lib" "$tools/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd :)
tool() { LD_LIBRARY_PATH=$libraries "$tools/usr/bin/$1" "${@:2}"; }

disk=$run/disk.qcow2 more=()
if [[ $mode == freeze ]]; then
  disk=$directory/disk.qcow2
  tool qemu-img create -q -f qcow2 -b disk.raw -F raw "$disk"
else
  tool qemu-img create -q -f qcow2 -b "$directory/disk.qcow2" -F qcow2 "$disk"
  more=(-incoming "file:$directory/state")
  cp --sparse=always "$tar" "$run/tar"
fi
truncate -s $tar_size "$run/tar"

for name in serial monitor; do mkfifo "$run/$name.in" "$run/$name.out"; done
# Opened for both, so that neither side waits for the other to open it.
exec 3<>"$run/serial.out" 4<>"$run/serial.in" 5<>"$run/monitor.in" 6<>"$run/monitor.out"
cat <&6 >"$run/monitor.log" 3<&- 4<&- 5<&- &
monitor=$!

# One and the same machine for freezing and running: every word of this counts.
LD_LIBRARY_PATH=$libraries nice -n "${NICE:-0}" "$tools/usr/bin/qemu-system-x86_64" \
  -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" \
  -M q35,hpet=off -accel tcg,thread=multi,tb-size=512 -cpu Nehalem -smp 2 -m 3G \
  -nodefaults -no-user-config -display none -no-reboot \
  -kernel "$directory/kernel" -initrd "$directory/initrd" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check random.trust_cpu=on apparmor=0 audit=0 systemd.show_status=0" \
  -drive "if=none,id=root,file=$disk,format=qcow2,cache=unsafe" -device virtio-blk-pci,drive=root \
  -drive "if=none,id=tar,file=$run/tar,format=raw,cache=unsafe" -device virtio-blk-pci,drive=tar \
  -serial "file:$run/console" \
  -chardev "pipe,id=serial,path=$run/serial" -serial chardev:serial \
  -chardev "pipe,id=monitor,path=$run/monitor" -mon chardev=monitor,mode=readline \
  "${more[@]}" </dev/null >"$run/qemu.log" 2>&1 3<&- 4<&- 5<&- 6<&- &
pid=$!
# The end of the emulator is told like a line of the guest.
{ while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done; echo GONE >&3; } 2>/dev/null 4<&- 5<&- 6<&- &
watcher=$!
trap 'kill $watcher $monitor 2>/dev/null || true; finish' EXIT

explain() {
  { echo "---- console, last lines"; tail -n 30 "$run/console"; echo "---- emulator"; tail -n 5 "$run/qemu.log"; } >&2 2>/dev/null || true
}

if [[ $mode == freeze ]]; then
  while IFS= read -r -t "$patience" line <&3; do
    case $line in
      READY*) break ;;
      GONE) explain; fail "the machine did not boot" ;;
    esac
  done
  [[ ${line:-} == READY* ]] || { explain; fail "the machine did not boot within $patience seconds"; }
  sleep 2
  printf 'migrate_set_parameter max-bandwidth 100G\nmigrate -d file:%s/state.new\n' "$directory" >&5
  for ((i = 0; i < 120; i++)); do
    sleep 1
    printf 'info migrate\n' >&5
    ! grep -qE 'completed|failed|cancelled' "$run/monitor.log" || break
  done
  printf 'quit\n' >&5
  wait "$pid" 2>/dev/null || true
  pid=
  grep -q 'completed' "$run/monitor.log" || { tail -5 "$run/monitor.log" >&2; fail "the machine's state could not be saved"; }
  mv "$directory/state.new" "$directory/state"
  exit 0
fi

status=
deadline=$((SECONDS + patience)) started=
while ((SECONDS < deadline)); do
  # What comes before the guest reads is lost: said again until it answers.
  [[ -n $started ]] || echo "go $(date +%s)" >&4
  part=
  if ! IFS= read -r -t 2 part <&3; then
    line=${line:-}$part
    continue
  fi
  line=${line:-}$part
  line=${line%$'\r'}
  case $line in
    STARTED) started=yes ;;
    GONE) break ;;
    EXIT\ *) status=${line#EXIT }; break ;;
    *) [[ -z $started ]] || printf '%s\n' "$line" ;;
  esac
  line=
done
[[ ${KEEP:-} != log ]] || cp "$run/console" "$directory.log"
if [[ -z $status ]]; then
  explain
  ((SECONDS < deadline)) && fail "the machine ended before its tests did" || fail "the machine's tests took longer than $patience seconds"
fi
exit "$status"
