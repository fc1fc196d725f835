#!/bin/bash
# A first look at Data Cloud, on one machine: installs, builds, makes a cloud of five sites, copies
# real pictures into it, takes two of the sites away and proves that every file is still exact.
#
#   tools/quickstart.sh          shows everything and cleans up behind itself
#   tools/quickstart.sh --keep   leaves the cloud running and mounted at /datacloud
#   tools/quickstart.sh --share  shows how a picture is marked, sent and restored instead
#   tools/quickstart.sh --two-nodes   shows two machines instead (tools/quickstart_two_nodes.sh)
#
# For a fresh Debian 12, run as root; a second run replaces what the first one left. Everything it
# makes is below /var/lib/datacloud/quickstart (pictures: /var/cache/datacloud/pictures).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${DATACLOUD_BUILD:-$PWD/build}
state=/var/lib/datacloud/quickstart
pictures=/var/cache/datacloud/pictures
config=$state/cloud.toml
log=$state/log
mnt=/datacloud
sites=(tokyo kyoto osaka nagoya sapporo)
keep=
case ${1:-} in
  "") ;;
  --keep) keep=yes ;;
  --share) shift; exec tools/quickstart_share.sh "$@" ;;
  --two-nodes) shift; exec tools/quickstart_two_nodes.sh "$@" ;;
  -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '%s\n' "$*" | fold -s -w 96; }
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
now_ms() { date +%s%3N; }
megabytes() { awk -v b="$1" 'BEGIN { printf "%.0f MB", b / 1e6 }'; }
rate() { awk -v b="$1" -v t="$2" 'BEGIN { printf "%.0f MB/s", b / 1e3 / (t > 0 ? t : 1) }'; }
seconds() { awk -v t="$1" 'BEGIN { printf "%.1f s", t / 1e3 }'; }
cloud() { "$build/bin/datacloud" --config "$config" "$@"; }

[ "$(id -u)" = 0 ] || die "run as root: mounting for all users needs it"

# --- What an earlier run left ------------------------------------------------------------------

mounted() { mountpoint -q "$mnt"; }
ours() { # the mount at $mnt is a Data Cloud one, and made by this script
  [ -e "$state/mounted" ] && findmnt -n -o FSTYPE --mountpoint "$mnt" | grep -q '^fuse\.datacloud'
}
running() { # process ids of one of our programs working on this cloud
  local directory
  for directory in /proc/[0-9]*; do
    tr '\0' ' ' 2>/dev/null <"$directory/cmdline" | grep -q "$1 .*$config" &&
      echo "${directory#/proc/}"
  done
  return 0
}
wait_for_end() { # PROGRAM SECONDS
  local end=$((SECONDS + $2))
  while [ -n "$(running "$1")" ] && [ $SECONDS -lt $end ]; do sleep 0.1; done
  [ -z "$(running "$1")" ]
}
stop_daemon() {
  local pids
  pids=$(running datacloudd)
  [ -n "$pids" ] || return 0
  kill $pids 2>/dev/null || true
  wait_for_end datacloudd 15 || kill -9 $pids 2>/dev/null || true
}
unmount() {
  local attempt
  for attempt in 1 2 3 4 5; do # a program may still be looking at it
    mounted || break
    umount "$mnt" 2>/dev/null || sleep "0.$attempt"
  done
  mounted && umount -l "$mnt"
  rm -f "$state/mounted"
  # The mount writes what it still holds before it ends.
  wait_for_end mount.datacloud 60
}
clean_up() {
  ! ours || unmount || true
  stop_daemon
  rm -rf "$state"
}

if mounted && ! ours; then
  findmnt --mountpoint "$mnt" >&2 || true
  die "something else is mounted at $mnt (above). Unmount it first, then run this again."
fi
if ! mounted && [ -d "$mnt" ] && [ -n "$(ls -A "$mnt")" ]; then
  die "$mnt is not empty. Move its files away first: a mount would hide them."
fi
if [ -d "$state" ]; then
  say "Removing what an earlier run left in $state."
  clean_up
fi

finish() {
  local status=$?
  trap - EXIT
  if [ $status -ne 0 ]; then
    printf '\nThe quickstart failed (status %s). ' "$status" >&2
    if ls "$log"/* >/dev/null 2>&1; then
      echo "Last lines of the logs:" >&2
      tail -n 15 "$log"/* >&2
    fi
  fi
  if [ $status -ne 0 ] || [ -z "$keep" ]; then
    clean_up
    rmdir "$mnt" 2>/dev/null || true
  fi
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# --- Install and build -------------------------------------------------------------------------

title "1. Installing what is needed, and real pictures from Debian packages"
tools/install-deps.sh --demo "$pictures"
files=$(find "$pictures" -type f | wc -l)
bytes=$(find "$pictures" -type f -printf '%s\n' | awk '{ s += $1 } END { printf "%.0f", s }')
say "$files files, $(megabytes "$bytes"): photographs, satellite maps and small files."

title "2. Building (the first time takes some minutes)"
export CCACHE_NOHASHDIR=1
mkdir -p "$build"
[ -e "$build/CMakeCache.txt" ] || extra=-DDATACLOUD_TESTS=OFF
began=$(now_ms)
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release ${extra:-} >"$build/quickstart.log" 2>&1 &&
  ninja -C "$build" datacloud datacloudd mount.datacloud >>"$build/quickstart.log" 2>&1 || {
  tail -n 40 "$build/quickstart.log" >&2
  die "the build failed"
}
say "Built in $(seconds $(($(now_ms) - began))): $(cd "$build/bin" && echo datacloud datacloudd mount.datacloud)"

# --- Create, start, mount ----------------------------------------------------------------------

title "3. Creating a cloud of five sites"
mkdir -p "$state/sites" "$log"
chmod 700 "$state"
{
  printf '[cloud]\nname = "quickstart"\ncode = "rs-3-2"\n\n'
  printf '[daemon]\nstate = "%s"\nlisten = "unix:%s"\n\n' "$state/daemon" "$state/daemon.sock"
  printf '[keys]\ndata = "%s"\nservice = "%s"\n' "$state/data.key" "$state/service.key"
  for site in "${sites[@]}"; do
    mkdir "$state/sites/$site"
    printf '\n[[site]]\nname = "%s"\nstore = "directory"\npath = "%s"\n' "$site" "$state/sites/$site"
  done
} >"$config"
say "Each site is a directory here; in earnest it is a disk or a cluster in another town."
cloud create

start_daemon() {
  # Without our standard output: whoever reads that must not wait for the daemon.
  setsid "$build/bin/datacloudd" --config "$config" --foreground >>"$log/daemon" 2>&1 </dev/null &
  for _ in $(seq 100); do
    cloud status >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  die "the daemon did not start"
}
mount_cloud() {
  mkdir -p "$mnt"
  "$build/bin/mount.datacloud" "$config" "$mnt" -o "log=$log/mount" || die "the mount failed"
  touch "$state/mounted"
}
drop_caches() {
  sync
  { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null ||
    say "(This container may not drop the kernel's caches; the new mount starts empty anyway.)"
}
start_daemon
mount_cloud
say "The daemon runs, and $mnt is mounted."

# --- Use ---------------------------------------------------------------------------------------

title "4. Copying $(megabytes "$bytes") into $mnt"
(cd "$pictures" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$state/sums"
began=$(now_ms)
cp -a "$pictures" "$mnt/pictures"
find "$mnt/pictures" -type f -print0 | xargs -0 sync
write_ms=$(($(now_ms) - began))
say "Copied and made durable in $(seconds $write_ms): $(rate "$bytes" $write_ms), $files files."

title "5. What the cloud says about itself"
cloud status
picture=$(find "$mnt/pictures" -type f -size -1000k -path '*natural_earth*' -name '*.png' | sort | head -n 1)
[ -n "$picture" ] || picture=$(find "$mnt/pictures" -type f -size -1000k -name '*.jpg' | sort | head -n 1)
printf '\nWhere one of the satellite maps lies:\n'
cloud locate "$picture"

# --- Lose two sites ----------------------------------------------------------------------------

check_all() { (cd "$mnt/pictures" && sha256sum --check --quiet --strict "$state/sums"); }
lost=$((RANDOM % 5))
also=$(((lost + 1 + RANDOM % 4) % 5))
lost=${sites[$lost]} also=${sites[$also]}
title "6. Losing two sites: $lost and $also"
unmount
mkdir "$state/lost"
mv "$state/sites/$lost" "$state/sites/$also" "$state/lost/"
drop_caches
mount_cloud
say "Both directories are moved away, all caches are dropped, the cloud is mounted again."
began=$(now_ms)
check_all || die "a file differs: see above"
read_ms=$(($(now_ms) - began))
say "All $files files have the SHA-256 they had: read at $(rate "$bytes" $read_ms)," \
  "rebuilt from the three sites that are left."
cloud status || true

title "7. The sites come back"
mv "$state/lost/$lost" "$state/lost/$also" "$state/sites/"
unmount
drop_caches
mount_cloud
began=$(now_ms)
check_all || die "a file differs: see above"
back_ms=$(($(now_ms) - began))
say "Read again with all five sites: exact, at $(rate "$bytes" $back_ms)."
cloud status || true

title "What happened"
say "$files files ($(megabytes "$bytes")) went into one directory, $mnt. Each was compressed, encrypted" \
  "and cut into five shards of which any three suffice, one per site. No site can read a byte of" \
  "it. Two sites vanished, and every file was still exact; then they came back."
echo
printf '  %-42s %s\n' "copying in, durable" "$(rate "$bytes" $write_ms)" \
  "reading, $lost and $also gone, cold" "$(rate "$bytes" $read_ms)" \
  "reading, all sites, cold" "$(rate "$bytes" $back_ms)"
if [ -n "$keep" ]; then
  title "It stays mounted"
  say "  ls $mnt/pictures" \
    && say "  $build/bin/datacloud --config $config status" \
    && say "  umount $mnt; kill $(running datacloudd)      ends it"
  say "Running tools/quickstart.sh again starts over."
else
  echo
  say "Everything is being removed again; --keep would leave it mounted to play with."
fi
