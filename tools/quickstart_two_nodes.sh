#!/bin/bash
# A first look at a cloud of two machines, on one: the machines are network name spaces with a cable
# between them. In one run the daemon and three sites, each served over TLS; the other joins as a
# node by one line, mounts, writes, loses the cable in the middle of a write, and goes on.
#
#   tools/quickstart.sh --two-nodes           shows everything and cleans up behind itself
#   tools/quickstart.sh --two-nodes --built   the same with what is built already
#
# For a fresh Debian 12, run as root. Everything it makes is below /var/lib/datacloud/two-nodes, and
# gone at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${DATACLOUD_BUILD:-$PWD/build}
state=${DATACLOUD_TWO_NODES:-/var/lib/datacloud/two-nodes}
megabytes=${DATACLOUD_TWO_NODES_MB:-64}
server=dcq-server-$$ node=dcq-node-$$ cable=dcq$$
net=10.$((200 + $$ % 50)).$((($$ / 50) % 250))
sites=(tokyo osaka sapporo)
pids=()

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '%s\n' "$*" | fold -s -w 96; }
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
at() { local where=$1; shift; nsenter --net="/run/netns/$where" "$@"; }
cloud() { at "$server" "$build/bin/datacloud" --config "$state/server.toml" "$@"; }

case ${1:-} in
  "") built= ;;
  --built) built=yes ;;
  -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || die "run as root: network name spaces and mounts need it"
[ ! -e "$state" ] || die "$state exists: is another one running? If not, remove it and run this again."

clean_up() {
  local pid
  ! mountpoint -q "$state/mnt" || umount "$state/mnt" 2>/dev/null || umount -l "$state/mnt" || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do # the mount's as well, which writes what it holds
    for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
  ip link del "$cable" 2>/dev/null || true
  ip netns del "$server" 2>/dev/null || true
  ip netns del "$node" 2>/dev/null || true
  rm -rf "$state"
}
finish() {
  local status=$?
  trap - EXIT
  if [ $status -ne 0 ]; then
    printf '\nThe quickstart failed (status %s).\n' "$status" >&2
    tail -n 15 "$state"/log/* >&2 2>/dev/null || true
  fi
  clean_up
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$state/log" "$state/sites" "$state/mnt" "$state/node"
chmod 700 "$state"

if [ -z "$built" ]; then
  title "1. Installing what is needed, and building (the first time takes some minutes)"
  tools/install-deps.sh
  mkdir -p "$build"
  [ -e "$build/CMakeCache.txt" ] || extra=-DDATACLOUD_TESTS=OFF
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release ${extra:-} >"$state/log/build" 2>&1 &&
    ninja -C "$build" datacloud datacloudd mount.datacloud >>"$state/log/build" 2>&1 ||
    die "the build failed"
fi

title "2. Two machines with a cable between them"
ip netns add "$server"
ip netns add "$node"
ip link add "$cable" netns "$server" type veth peer name eth0 netns "$node"
ip -n "$server" addr add "$net.1/24" dev "$cable"
ip -n "$node" addr add "$net.2/24" dev eth0
ip -n "$server" link set lo up
ip -n "$node" link set lo up
ip -n "$server" link set "$cable" up
ip -n "$node" link set eth0 up
say "The server is $net.1, the node $net.2; neither sees another network."

title "3. The server: a cloud of three sites, all served over TLS"
{
  printf '[cloud]\nname = "two-nodes"\ncode = "rs-2-1"\n\n'
  printf '[daemon]\nstate = "%s"\nlisten = ["unix:%s", "tls://%s:7411"]\n\n' \
    "$state/daemon" "$state/daemon.sock" "$net.1"
  printf '[keys]\ndata = "%s"\nservice = "%s"\n' "$state/data.key" "$state/service.key"
  port=7421
  for site in "${sites[@]}"; do
    mkdir "$state/sites/$site"
    printf '\n[[site]]\nname = "%s"\nstore = "directory"\npath = "%s"\nserve = "tls://%s:%s"\naddress = "tls://%s:%s"\n' \
      "$site" "$state/sites/$site" "$net.1" "$port" "$net.1" "$port"
    port=$((port + 1))
  done
} >"$state/server.toml"
cloud create >/dev/null
start() { # WHERE LOG PROGRAM...: in the background, without our standard output
  local where=$1 name=$2
  shift 2
  nsenter --net="/run/netns/$where" "$@" >>"$state/log/$name" 2>&1 </dev/null &
  pids+=($!)
}
for site in "${sites[@]}"; do
  start "$server" "$site" "$build/bin/datacloudd" --site "$site" --config "$state/server.toml" --foreground
done
start "$server" daemon "$build/bin/datacloudd" --config "$state/server.toml" --foreground
for _ in $(seq 100); do
  ! cloud status >/dev/null 2>&1 || break
  sleep 0.1
done
cloud status >/dev/null || die "the daemon did not start"

title "4. The node joins, by one line, and mounts"
say "On the server:  datacloud node add laptop --role mount"
line=$(cloud node add laptop --role mount 2>/dev/null)
say "On the node:    datacloud join ${line:0:32}..."
printf '%s\n' "$line" | at "$node" "$build/bin/datacloud" join - --dir "$state/node"
start "$node" mount "$build/bin/mount.datacloud" "$state/node/two-nodes.toml" "$state/mnt" -f
for _ in $(seq 100); do
  ! mountpoint -q "$state/mnt" || break
  sleep 0.1
done
mountpoint -q "$state/mnt" || die "the mount failed"
cloud node list

title "5. Writing and reading, over TLS to the daemon and to each site"
head -c "$((megabytes << 20))" /dev/urandom >"$state/original"
cp "$state/original" "$state/mnt/first"
sync "$state/mnt/first"
cmp "$state/original" "$state/mnt/first" || die "what was read differs"
say "$megabytes MB are written, durable, and read back exactly."

title "6. The cable is cut in the middle of a write"
cp "$state/original" "$state/mnt/second" &
copy=$!
sleep 0.3
ip -n "$node" link set eth0 down
sleep 3
say "No network for three seconds: the copy waits, and so does whoever reads what is not in memory."
ip -n "$node" link set eth0 up
wait "$copy" || die "the copy failed"
sync "$state/mnt/second"
cmp "$state/original" "$state/mnt/second" || die "what was read differs"
say "The link is back: the copy went on by itself, and both files are exact."

title "7. A new mount, with nothing in memory, reads again"
umount "$state/mnt"
start "$node" mount "$build/bin/mount.datacloud" "$state/node/two-nodes.toml" "$state/mnt" -f
for _ in $(seq 100); do
  ! mountpoint -q "$state/mnt" || break
  sleep 0.1
done
cmp "$state/original" "$state/mnt/first" && cmp "$state/original" "$state/mnt/second" ||
  die "what was read differs"
cloud status
say "Both files are exact. The server's directories hold only sealed shards, and the daemon never" \
  "read the key that opens them. Everything is being removed again."
