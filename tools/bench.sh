#!/bin/bash
# Measures the same work on the local disk, on gocryptfs and on a Data Cloud mount with five
# directory sites, all on this machine's disk, and prints a table.
#
#   tools/bench.sh                   three repetitions of everything: some minutes
#   tools/bench.sh --write           and puts the table into docs/benchmarks.md
#   tools/bench.sh --help            the other options
set -euo pipefail
cd "$(dirname "$0")/.."
pictures=/var/cache/datacloud/pictures
case " $* " in *" --help "* | *" -h "*) exec python3 -B tools/bench.py --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench: run as root: it mounts and drops caches" >&2; exit 1; }
tools/install-deps.sh --bench --demo "$pictures"
build=${DATACLOUD_BUILD:-$PWD/build}
export CCACHE_NOHASHDIR=1 DATACLOUD_BUILD=$build
mkdir -p "$build"
extra=
[ -e "$build/CMakeCache.txt" ] || extra=-DDATACLOUD_TESTS=OFF
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release $extra >/dev/null
ninja -C "$build" datacloud datacloudd mount.datacloud >&2
exec python3 -B tools/bench.py --pictures "$pictures" "$@"
