#!/bin/bash
# fuzz.sh BUILD_DIR [SECONDS]: runs each fuzz target for a few seconds, two at a time, from its
# corpus where it has one. A crash leaves its input in BUILD_DIR/fuzz-findings.
set -euo pipefail
build=${1:?build directory}
export seconds=${2:-4} build
cd "$(dirname "$0")/../.."
mkdir -p "$build/fuzz-findings"
targets=$(find "$build/fuzz" -name '*_fuzz' -printf '%f\n' | sort)
[ -n "$targets" ] || { echo "no fuzz targets in $build/fuzz" >&2; exit 1; }

one() {
  local name=$1 corpus=$build/fuzz-corpus/$1 log=$build/fuzz-findings/$1.log
  mkdir -p "$corpus"
  local corpora=("$corpus")
  [ ! -d "tests/fuzz/corpus/${name%_fuzz}" ] || corpora+=("tests/fuzz/corpus/${name%_fuzz}")
  if "$build/fuzz/$name" -max_total_time="$seconds" -rss_limit_mb=1500 -timeout=10 \
      -max_len=65536 -artifact_prefix="$build/fuzz-findings/$name-" "${corpora[@]}" \
      >"$log" 2>&1; then
    echo "$name: $(tail -n 1 "$log")"
  else
    echo "$name FAILED:"
    tail -n 60 "$log"
    return 1
  fi
}
export -f one
# xargs ends with an error when one of them did.
xargs -P 2 -I{} bash -c 'set -euo pipefail; one {}' <<<"$targets"
