#!/usr/bin/env bash
# Makes the machine of `make test-vm`: a Debian 13 with systemd and cgroup v2, started once under QEMU's software
# emulation and frozen when it waits for work. What is made is outside the tree, in the cache of the test tools:
#
#   ${SKIFF_TEST_CACHE:-~/.cache/skiff-test}/vm-<hash of what makes it>/
#       tools/       QEMU and debootstrap, unpacked from packages: nothing is installed on this machine
#       kernel, initrd, disk.qcow2, state    what `machine.sh` starts from
#
# From nothing: about 4 minutes, most of it packages. Needs root (debootstrap) and a Debian with apt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SKIFF_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skiff-test}
begin=$SECONDS

say() { printf '%4ds  %s\n' $((SECONDS - begin)) "$*"; }
fail() { printf 'vm/build.sh: %s\n' "$*" >&2; exit 1; }

# The guest's Debian. Its QEMU is used too where this machine's own is too old.
suite=trixie

[[ $(uname -m) == x86_64 ]] || fail "the machine is made on x86_64 only"
command -v apt-get >/dev/null || fail "this is no Debian system with apt-get"
((EUID == 0)) || fail "unpacking a Debian system needs root"
. /etc/os-release

target=$cache/vm-$(cat "$here/build.sh" "$here/machine.sh" "$here"/guest/* | sha256sum | cut -c 1-12)
if [[ -e $target/state ]]; then
  say "machine: in the cache"
  ln -sfn "$(basename "$target")" "$cache/vm"
  exit 0
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/.build-vm-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# Where this machine gets its own packages from.
mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
  awk -v name="$VERSION_CODENAME" '$1 == name { print $2; exit }')
[[ -n $mirror ]] || fail "apt knows no mirror of $VERSION_CODENAME; see /etc/apt/sources.list.d"

say "tools: QEMU and debootstrap, unpacked from packages"
mkdir -p "$work"/{lists/partial,archives/partial,tools}
for name in "$VERSION_CODENAME" "$VERSION_CODENAME-backports"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $name main"
done >"$work/sources.list"
own_apt() {
  apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
    -o Dir::Cache::archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o APT::Sandbox::User=root -o APT::Update::Post-Invoke= -o APT::Keep-Downloaded-Packages=true "$@"
}
{
  own_apt update
  # QEMU 7.2, which Debian 12 has, computes some flags wrongly under emulation, and the guest's kernel panics.
  own_apt install -y --no-install-recommends --download-only --reinstall -t "$VERSION_CODENAME-backports" \
    qemu-system-x86 qemu-utils debootstrap
} >"$work/apt.log" 2>&1 || { tail -20 "$work/apt.log" >&2; fail "apt could not fetch QEMU and debootstrap from $mirror"; }
for package in "$work"/archives/*.deb; do
  dpkg-deb -x "$package" "$work/tools"
done
rm -rf "$work"/archives "$work"/lists

say "guest: Debian $suite"
root=$work/root
DEBOOTSTRAP_DIR=$work/tools/usr/share/debootstrap "$work/tools/usr/sbin/debootstrap" --variant=minbase \
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
  --include=systemd-sysv,dbus,kmod,udev,procps,busybox-static,libpam-systemd,libseccomp2 \
  "$suite" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
  { tail -20 "$work/debootstrap.log" >&2; fail "debootstrap could not make $suite from $mirror"; }

say "guest: kernel"
# Unpacked, not installed: its scripts would make an initrd by means of more packages.
mkdir "$work/kernel.d"
chroot "$root" /bin/sh -c 'cd /tmp && apt-get -q -o APT::Sandbox::User=root download \
  $(apt-cache depends linux-image-cloud-amd64 | sed -n "s/^ *Depends: \(linux-image-[^ ]*\)$/\1/p" | head -1)' \
  >>"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log" >&2; fail "the guest's kernel could not be fetched"; }
dpkg-deb -x "$root"/tmp/linux-image-*.deb "$work/kernel.d"
version=$(ls "$work/kernel.d/usr/lib/modules" | head -1)
cp "$work/kernel.d/boot/vmlinuz-$version" "$work/kernel"
mkdir -p "$root/usr/lib/modules/$version/kernel"
for part in drivers/block fs lib crypto net/core net/bridge net/netfilter net/ipv4/netfilter drivers/net/veth.ko.xz; do
  [[ ! -e $work/kernel.d/usr/lib/modules/$version/kernel/$part ]] ||
    (cd "$work/kernel.d/usr/lib/modules/$version" && cp -a --parents "kernel/$part" "$root/usr/lib/modules/$version/")
done
cp "$work/kernel.d/usr/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/usr/lib/modules/$version/"
find "$root/usr/lib/modules" -name '*.ko.xz' -exec xz -d {} +
chroot "$root" depmod "$version"
rm -rf "$root"/tmp/*.deb "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/usr/share/{doc,man,locale}

say "guest: what it does when it has booted"
install -m 0755 "$here/guest/serve.sh" "$root/usr/local/bin/skiff-serve"
install -m 0644 "$here/guest/skiff-serve.service" "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../skiff-serve.service "$root/etc/systemd/system/multi-user.target.wants/"
# Nothing of its own accord: emulated time is dear, and a measurement should meet an idle machine.
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-timesyncd.service systemd-tmpfiles-clean.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
echo skiff-vm >"$root/etc/hostname"
: >"$root/etc/fstab"

initrd=$work/initrd.d
mkdir -p "$initrd"/{bin,dev,root}
cp "$root/usr/bin/busybox" "$initrd/bin/"
cp "$root/usr/lib/modules/$version/kernel/drivers/block/virtio_blk.ko" "$initrd/"
install -m 0755 "$here/guest/init.sh" "$initrd/init"
(cd "$initrd" && find . | "$root/usr/bin/busybox" cpio -o -H newc 2>/dev/null) >"$work/initrd"

say "guest: disk"
truncate -s 3G "$work/disk.raw"
mkfs.ext4 -q -F -O ^has_journal -d "$root" "$work/disk.raw"
rm -rf "$root" "$initrd" "$work/kernel.d"

say "machine: first boot"
# The paths of the snapshot's disks must be right when it is started again: it is made at its final place.
rm -rf "$target"
mv -T "$work" "$target"
trap 'rm -f "$target/state"' EXIT
"$here/machine.sh" freeze "$target"
trap - EXIT
ln -sfn "$(basename "$target")" "$cache/vm"
# Machines of other versions, not used for a week.
for old in $(find "$cache" -maxdepth 1 -name "vm-*" -mtime +7); do
  rm -rf "$old"
done
say "machine: ready, $(du -sh "$target" | cut -f 1)"
