#!/bin/bash
# Measures whether a change has made anything slower: the programs of an earlier revision, built for
# it, and those of the build directory do the same work in turn, each on a cloud of its own.
#
#   tools/bench_versions.sh REVISION           ten rounds, about ten minutes after the build
#   tools/bench_versions.sh REVISION --write   and puts the table into docs/benchmarks.md
#   tools/bench_versions.sh REVISION --help    the other options
#
# $DATACLOUD_BUILD: the newer programs; else build. $DATACLOUD_EARLIER: an earlier build to use as it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] && [[ $1 != -* ]] || { sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
revision=$1
shift
export DATACLOUD_BUILD=${DATACLOUD_BUILD:-$root/build}
[ -x "$DATACLOUD_BUILD/bin/mount.datacloud" ] || {
  echo "bench_versions.sh: no programs in $DATACLOUD_BUILD: cmake -S . -B build && cmake --build build" >&2
  exit 1
}
earlier=${DATACLOUD_EARLIER:-}
if [ -z "$earlier" ]; then
  work=$(mktemp -d /var/tmp/dcversions-XXXXXX)
  trap 'rm -rf "$work"' EXIT
  git -C "$root" archive "$revision" | tar -x -C "$work"
  cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_TESTS=OFF >"$work/log" 2>&1 &&
    cmake --build "$work/build" >>"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  earlier=$work/build
fi
python3 -B "$root/tools/bench_versions.py" --earlier "$earlier" --revision "$revision" "$@"
