#!/bin/bash
# Measures what programs do that overwrite small pieces, as databases do: fio and sqlite on this
# machine's disk, on gocryptfs and on Data Cloud with several block sizes; and, on three real Ceph
# clusters started for it, the bytes that one overwrite of 4 KiB moves between sites.
#
#   tools/bench_updates.sh           about six minutes
#   tools/bench_updates.sh --write   and puts the tables into docs/benchmarks.md
#   tools/bench_updates.sh --help    the other options
exec "$(dirname "$0")/bench_on_clusters.sh" bench_updates "$@"
