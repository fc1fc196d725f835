#!/bin/bash
# Measures what a journal costs: the same work on a cloud without and one with a journal at five
# directory sites of this machine's disk, in turn.
#
#   tools/bench_journal.sh             eight rounds, about three minutes
#   tools/bench_journal.sh --write     and puts the table into docs/benchmarks.md
#   tools/bench_journal.sh --help      the other options
#
# $DATACLOUD_BUILD: the programs; else build. $DATACLOUD_TEST_DIR: where the sites are; else /var/tmp.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec python3 -B tools/bench_journal.py --help ;; esac
[ "$(id -u)" = 0 ] || { echo "bench_journal: run as root: it mounts" >&2; exit 1; }
export DATACLOUD_BUILD=${DATACLOUD_BUILD:-$PWD/build}
[ -x "$DATACLOUD_BUILD/bin/mount.datacloud" ] || {
  echo "bench_journal.sh: no programs in $DATACLOUD_BUILD: cmake -S . -B build && cmake --build build" >&2
  exit 1
}
exec python3 -B tools/bench_journal.py "$@"
