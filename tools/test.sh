#!/bin/bash
# Installs what the tests need, builds everything once, runs every test and ends with ctest's own
# summary. CI runs exactly this.
#
#   tools/test.sh                  every test on one Release build
#   tools/test.sh --all            also the tests under sanitizers, fuzz runs and clang-tidy, which
#                                  need three more builds: an hour on two cores
#   tools/test.sh [...] ARGUMENTS  further arguments go to ctest (-R NAME, -L LABEL, ...)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
build=${DATACLOUD_BUILD:-$root/build}
jobs=${JOBS:-2}
all=OFF
if [ "${1:-}" = --all ]; then
  all=ON
  shift
fi

step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
clean() { python3 -B tests/support/cloud.py --clean || true; }
trap clean EXIT
trap 'exit 130' INT TERM HUP

tools/install-deps.sh --test
export CCACHE_BASEDIR=/ CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
clean

configure() {
  local directory=$1
  shift
  cmake -S . -B "$directory" -G Ninja "$@" >"$directory.configure.log" 2>&1 || {
    cat "$directory.configure.log" >&2
    exit 1
  }
  rm -f "$directory.configure.log"
}
build_quietly() { # shows the compiler's words only when it has some
  ninja -C "$@" -j "$jobs" >"$1.log" 2>&1 || {
    grep -v '^\[' "$1.log" | head -n 200 >&2
    echo "build failed: $1" >&2
    exit 1
  }
  tail -n 1 "$1.log"
  rm -f "$1.log"
}

step "build"
configure "$build" -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_ALL_CHECKS=$all
build_quietly "$build"
if [ "$all" = ON ]; then
  step "build with address and undefined-behaviour sanitizers"
  configure "$build-asan" -DCMAKE_BUILD_TYPE=Debug -DDATACLOUD_SANITIZE=address,undefined
  build_quietly "$build-asan"
  step "build with the thread sanitizer"
  configure "$build-tsan" -DCMAKE_BUILD_TYPE=Debug -DDATACLOUD_SANITIZE=thread
  build_quietly "$build-tsan"
  step "build the fuzz targets"
  configure "$build-fuzz" -DCMAKE_BUILD_TYPE=Debug -DDATACLOUD_FUZZ=ON -DDATACLOUD_PROGRAMS=OFF \
    -DCMAKE_CXX_COMPILER=clang++-14 -DCMAKE_C_COMPILER=clang-14
  build_quietly "$build-fuzz" fuzz
fi

step "tests"
status=0
ctest --test-dir "$build" --output-on-failure -j "$jobs" "$@" || status=$?
exit $status
