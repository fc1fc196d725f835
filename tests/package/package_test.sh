#!/bin/bash
# The Debian packages in a minimal Debian 12: installed by dpkg, a cloud made and mounted through
# fstab, removed and installed again over the living data, purged without a trace of their own.
#
# The root holds the essential packages and what ours depend on, copied from this machine
# (minimal_root.py): no network, and less than a minute. With DATACLOUD_PACKAGE_ROOT=debootstrap it
# is made by debootstrap and apt instead. Needs root. Everything happens in a mount and process name
# space of its own, so that nothing is left behind however it ends.
set -euo pipefail
build=${DATACLOUD_BUILD:?the build directory}
mirror=${DATACLOUD_MIRROR:-http://deb.debian.org/debian}
packages=(tools daemon fs osd-class)
ls "$build"/packages/datacloud-osd-class_*.deb >/dev/null 2>&1 || packages=(tools daemon fs)

if [ "${1:-}" != --inside ]; then
  work=$(mktemp -d "${DATACLOUD_TEST_DIR:-/var/tmp}/datacloud-package-XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  unshare --mount-proc --pid --fork --kill-child bash "$0" --inside "$work" &
  trap 'kill $!; exit 143' TERM INT
  wait $!
  exit
fi

work=$2
root=$work/root
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
die() { say "FAILED: $*"; exit 1; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
  DEBIAN_FRONTEND=noninteractive "$@"; }

make_root() {
  if [ "${DATACLOUD_PACKAGE_ROOT:-}" = debootstrap ]; then
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
      { tail -n 20 "$work/debootstrap.log"; die "debootstrap"; }
  else
    python3 -B "$(dirname "$0")/minimal_root.py" "$root" "$build"/packages/*.deb || die "no root"
  fi
  mkdir -p "$root/packages"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  cp "$build"/packages/*.deb "$root/packages/"
}

# Every path that is not apt's or dpkg's own bookkeeping.
listing() {
  inside find / -xdev \( -path /packages -o -path /var/lib/dpkg -o -path /var/lib/apt \
    -o -path /var/cache -o -path /var/log/apt -o -path /var/log/dpkg.log -o -path /srv \
    -o -path /proc -o -path /dev -o -path /run -o -path /tmp -o -name '*.pyc' \) -prune \
    -o -print | sort
}

wait_until() { # SECONDS COMMAND...
  local left=$(($1 * 10))
  shift
  until "$@"; do
    [ $((left--)) -gt 0 ] || return 1
    sleep 0.1
  done
}
not_mounted() { ! grep -q ' /datacloud ' "$root/proc/mounts"; }
start_daemon() { inside datacloudd --config /etc/datacloud/demo.toml; }
stop_daemon() {
  kill "$(cat "$root/var/lib/datacloud/demo/datacloudd.pid")"
  wait_until 30 test ! -e "$root/var/lib/datacloud/demo/datacloudd.pid"
}
unmount() { inside umount /datacloud && not_mounted && no_mount_process; }
no_mount_process() { ! pgrep -x mount.datacloud >/dev/null; }

write_config() {
  {
    printf '[cloud]\nname = "demo"\n[daemon]\nstate = "/var/lib/datacloud/demo"\n'
    printf 'listen = "unix:/run/datacloud/demo.sock"\n[keys]\n'
    printf 'data = "/etc/datacloud/demo.data.key"\nservice = "/etc/datacloud/demo.service.key"\n'
    for i in 1 2 3 4 5; do
      mkdir -p "$root/srv/site$i"
      printf '[[site]]\nname = "site%d"\nstore = "directory"\npath = "/srv/site%d"\n' $i $i
    done
  } >"$root/etc/datacloud/demo.toml"
  mkdir -p "$root/datacloud"
  echo '/etc/datacloud/demo.toml /datacloud datacloud defaults,_netdev 0 0' >>"$root/etc/fstab"
}

debs() {
  for name in "${packages[@]}"; do
    echo "/packages/$(basename "$root/packages/datacloud-${name}_"*.deb)"
  done
}
install_all() {
  if [ "${DATACLOUD_PACKAGE_ROOT:-}" = debootstrap ]; then
    inside apt-get -q -y -o APT::Sandbox::User=root -o Acquire::Retries=3 update >"$work/apt.log"
    inside apt-get -q -y -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 --no-install-recommends \
      install $(debs) >>"$work/apt.log" 2>&1 || { tail -n 30 "$work/apt.log"; die "apt install"; }
  else
    inside dpkg --install $(debs) >"$work/dpkg.log" 2>&1 ||
      { tail -n 30 "$work/dpkg.log"; die "dpkg --install"; }
  fi
}
ours() { printf 'datacloud-%s ' "${packages[@]}"; }

make_root
say "root is there"
install_all
say "installed"
for unit in "$root"/usr/lib/systemd/system/datacloud*.service; do
  program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
  inside test -x "$program" || die "$(basename "$unit") starts $program, which is not there"
done
for path in /usr/share/man/man1/datacloud-key.1 /usr/share/man/man8/mount.datacloud.8 \
  /usr/share/man/man5/datacloud.toml.5 /usr/share/bash-completion/completions/datacloud \
  /sbin/mount.fuse.datacloud /sbin/umount.fuse.datacloud /sbin/fsck.datacloud \
  /usr/lib/sysusers.d/datacloud.conf; do
  [ -e "$root$path" ] || [ -L "$root$path" ] || [ -e "$root$path.gz" ] || die "$path is not there"
done

write_config
inside datacloud --config /etc/datacloud/demo.toml create >"$work/create.log" || die "create"
inside datacloud --config /etc/datacloud/demo.toml key verify >/dev/null || die "key verify"
start_daemon
inside mount -a
inside sh -c 'echo hello >/datacloud/greeting && cp -r /usr/share/doc/datacloud-tools /datacloud/'
[ "$(inside datacloud --config /etc/datacloud/demo.toml status --json |
  sed -n 's/^ *"health": "\(.*\)",/\1/p')" = ok ] || die "status is not ok"
unmount
inside fsck -t datacloud /etc/datacloud/demo.toml -- -n >"$work/fsck.log" 2>&1 ||
  { cat "$work/fsck.log"; die "fsck(8)"; }
stop_daemon
say "a cloud was made, mounted by mount -a, and written"

inside dpkg --remove $(ours) >"$work/remove.log" 2>&1 ||
  { tail -n 20 "$work/remove.log"; die "dpkg --remove"; }
[ ! -e "$root/usr/bin/datacloud" ] && [ ! -e "$root/sbin/mount.datacloud" ] || die "programs stayed"
[ -e "$root/etc/datacloud/demo.data.key" ] || die "removal took the key away"
install_all
inside install -d /run/datacloud
start_daemon
inside mount /datacloud
[ "$(inside cat /datacloud/greeting)" = hello ] || die "the file is not as before"
inside diff -r /usr/share/doc/datacloud-tools /datacloud/datacloud-tools || die "the copy differs"
unmount
stop_daemon
say "removed, installed again, and everything is there"

inside dpkg -L $(ours) | sort -u >"$work/ours"
inside dpkg --purge $(ours) >"$work/purge.log" 2>&1 ||
  { tail -n 20 "$work/purge.log"; die "dpkg --purge"; }
while read -r path; do
  if [ -f "$root$path" ] || [ -L "$root$path" ] && [ ! -d "$root$path" ]; then
    die "purged, and $path is still there"
  fi
done <"$work/ours"
left=$(listing | grep -i datacloud | grep -v -e '^/etc/datacloud$' -e '^/etc/datacloud/demo\.' \
  -e '^/var/lib/datacloud$' -e '^/var/lib/datacloud/demo' -e '^/datacloud$' || true)
[ -z "$left" ] || die "purged, and left: $left"
[ -e "$root/etc/datacloud/demo.service.key" ] && [ -e "$root/var/lib/datacloud/demo/metadata" ] ||
  die "purging took keys or metadata away"
say "purged: keys, metadata and sites alone are left"
