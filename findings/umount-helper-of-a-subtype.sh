#!/bin/bash
# umount(8) of util-linux 2.38 calls /sbin/umount.TYPE.SUBTYPE only for mounts that have an entry in
# /run/mount/utab. For all others it takes the type from fstatfs(2), which has no subtype, and looks for
# umount.fuse. So a helper that waits for a FUSE server to end is passed over without a word, although
# umount(8) says that it calls "umount.<suffix>" for the type of the mount. mount(8) makes the entry for
# options such as _netdev.
#
# Expected by a reader of umount(8): the helper is called in both cases. Seen: only in the second.
# Needs root, /dev/fuse and apt. Exits with 1 when the behaviour has changed.
set -euo pipefail
room=$(mktemp -d /var/tmp/finding-XXXXXX)
trap 'rm -rf "$room"' EXIT
cd "$room"
chmod 755 .
for package in fuse-overlayfs=1.10-1 fuse3=3.14.0-4; do
  apt-get download -qq "$package" 2>/dev/null
done
for file in ./*.deb; do dpkg -x "$file" programs; done
umount --version

cat >helper <<'END'
#!/bin/sh
echo "called: $0"
exec umount -i "$@"
END
chmod +x helper

unshare --mount bash -euo pipefail -c '
  sbin=$(readlink -f /sbin)
  cp -a "$sbin" sbin
  cp helper sbin/umount.fuse.fuse-overlayfs
  cp "$(find programs -name mount.fuse3 -type f)" sbin/mount.fuse
  cp programs/usr/bin/fuse-overlayfs sbin/
  mount --bind sbin "$sbin"
  mkdir lower point
  try() { # OPTIONS: mount and unmount, and say which helper was called
    mount -t fuse.fuse-overlayfs -o "lowerdir=$PWD/lower$1" fuse-overlayfs "$PWD/point"
    findmnt -n -o FSTYPE,OPTIONS "$PWD/point" >&2
    umount "$PWD/point"
  }
  try "" >without
  try ",_netdev" >with
' || { echo "the mounts failed"; exit 2; }
echo "without an entry in utab: $(cat without)"
echo "with an entry in utab:    $(cat with)"
[ ! -s without ] && grep -q "called: /sbin/umount.fuse.fuse-overlayfs" with
