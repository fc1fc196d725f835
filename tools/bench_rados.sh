#!/bin/bash
# Measures on three real Ceph clusters of this machine, started for it: our mount against ceph-fuse on
# one of them, our mount with 35 ms round trip to every site, and what hedged reads are worth.
#
#   tools/bench_rados.sh             three repetitions: about eight minutes
#   tools/bench_rados.sh --write     and puts the tables into docs/benchmarks.md
#   tools/bench_rados.sh --help      the other options
exec "$(dirname "$0")/bench_on_clusters.sh" bench_rados "$@"
