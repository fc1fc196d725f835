#!/bin/bash
# Measures what programs do that overwrite small pieces, as databases do: fio and sqlite on this
# machine's disk, on gocryptfs and on Data Cloud with several block sizes; and, on three real Ceph
# clusters started for it, the bytes that one overwrite of 4 KiB moves between sites.
#
#   tools/bench_updates.sh           about six minutes
#   tools/bench_updates.sh --write   and puts the tables into docs/benchmarks.md
#   tools/bench_updates.sh --help    the other options
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec python3 -B tools/bench_updates.py --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench: run as root: it mounts and drops caches" >&2; exit 1; }
tools/install-deps.sh --test --bench
build=${DATACLOUD_BUILD:-$PWD/build}
export CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1 DATACLOUD_BUILD=$build
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_TESTS=ON >/dev/null
ninja -C "$build" datacloud datacloudd mount.datacloud site_relay cls_datacloud >&2
exec tests/support/with-ceph-sites.sh 3 -- python3 -B tools/bench_updates.py "$@"
