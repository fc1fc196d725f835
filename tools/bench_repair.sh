#!/bin/bash
# Measures repair: the same files healed by us and by a GlusterFS disperse volume; what groups and
# codes save between sites; a lost site rebuilt over links of limited rate, on three real Ceph clusters
# started for it; and a site of 20,000 small stripes.
#
#   tools/bench_repair.sh            under ten minutes
#   tools/bench_repair.sh --write    and puts the tables into docs/benchmarks.md
#   tools/bench_repair.sh --help     the other options
export DATACLOUD_BENCH_TARGETS="bench_repair bench_codes site_rebuild_test"
exec "$(dirname "$0")/bench_on_clusters.sh" bench_repair "$@"
