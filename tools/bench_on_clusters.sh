#!/bin/bash
# Runs a benchmark of this directory beside three real Ceph clusters that are started for it:
# bench_rados.sh, bench_updates.sh and bench_repair.sh. DATACLOUD_BENCH_TARGETS: what else to build.
set -euo pipefail
cd "$(dirname "$0")/.."
script=tools/$1.py
shift
case " $* " in *" --help "* | *" -h "*) exec python3 -B "$script" --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench: run as root: it mounts and drops caches" >&2; exit 1; }
tools/install-deps.sh --test --bench
build=${DATACLOUD_BUILD:-$PWD/build}
export CCACHE_NOHASHDIR=1 DATACLOUD_BUILD=$build
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_TESTS=ON >/dev/null
ninja -C "$build" datacloud datacloudd mount.datacloud site_relay cls_datacloud \
  ${DATACLOUD_BENCH_TARGETS:-} >&2
exec tests/support/with-ceph-sites.sh 3 -- python3 -B "$script" "$@"
