#!/bin/busybox sh
# The first process of the machine: finds the disk, and hands over to systemd on it.
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox insmod /virtio_blk.ko
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do
  /bin/busybox usleep 100000
  tries=$((tries + 1))
done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
