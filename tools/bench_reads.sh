#!/bin/bash
# Counts what readers of public formats (GDAL, ecCodes, HDF5, netCDF, Zarr, sqlite, ffmpeg, ...) make a
# cold mount fetch from five directory sites, and prints a table.
#
#   tools/bench_reads.sh                 about five minutes
#   tools/bench_reads.sh --write         and puts the table into docs/benchmarks.md
#   tools/bench_reads.sh --record tests/fs/read/traces
#                                        and keeps the reads for tests/fs/read/read_ahead_test.cc
#   tools/bench_reads.sh --against BUILD instead: speed of streams, in turn with another build's mount
#   tools/bench_reads.sh --help          the other options
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec python3 -B tools/bench_reads.py --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench: run as root: it mounts and drops caches" >&2; exit 1; }
tools/install-deps.sh --test --bench
build=${DATACLOUD_BUILD:-$PWD/build}
export CCACHE_NOHASHDIR=1 DATACLOUD_BUILD=$build
mkdir -p "$build"
extra=
[ -e "$build/CMakeCache.txt" ] || extra=-DDATACLOUD_TESTS=OFF
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release $extra >/dev/null
ninja -C "$build" datacloud datacloudd mount.datacloud >&2
exec python3 -B tools/bench_reads.py "$@"
