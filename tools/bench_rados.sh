#!/bin/bash
# Measures on three real Ceph clusters of this machine, started for it: our mount against ceph-fuse on
# one of them, our mount with 35 ms round trip to every site, and what hedged reads are worth.
#
#   tools/bench_rados.sh             three repetitions: about eight minutes
#   tools/bench_rados.sh --write     and puts the tables into docs/benchmarks.md
#   tools/bench_rados.sh --help      the other options
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec python3 -B tools/bench_rados.py --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench: run as root: it mounts and drops caches" >&2; exit 1; }
tools/install-deps.sh --test --bench
build=${DATACLOUD_BUILD:-$PWD/build}
export CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1 DATACLOUD_BUILD=$build
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_TESTS=ON >/dev/null
ninja -C "$build" datacloud datacloudd mount.datacloud site_relay cls_datacloud >&2
exec tests/support/with-ceph-sites.sh 3 -- python3 -B tools/bench_rados.py "$@"
