#!/bin/bash
# fuzz.sh BUILD_DIR [SECONDS]: runs each fuzz target for a few seconds, from its corpus where it
# has one. A crash leaves its input in BUILD_DIR/fuzz-findings.
set -euo pipefail
build=${1:?build directory}
seconds=${2:-6}
cd "$(dirname "$0")/../.."
findings=$build/fuzz-findings
mkdir -p "$findings"
targets=$(find "$build" -type f -perm -u+x -name '*_fuzz' | sort)
[ -n "$targets" ] || { echo "no fuzz targets in $build" >&2; exit 1; }
for target in $targets; do
  name=$(basename "$target")
  echo "== $name"
  corpus=$build/fuzz-corpus/$name
  mkdir -p "$corpus"
  corpora=("$corpus")
  [ ! -d "tests/fuzz/corpus/${name%_fuzz}" ] || corpora+=("tests/fuzz/corpus/${name%_fuzz}")
  "$target" -max_total_time="$seconds" -rss_limit_mb=1500 -timeout=10 -max_len=65536 \
    -artifact_prefix="$findings/$name-" "${corpora[@]}" 2>&1 | tail -n 3
done
