#!/bin/bash
# Installs what the tests need, builds, runs every test and ends with ctest's own summary. CI runs
# exactly this.
#
#   tools/test.sh                  every test on a Release build, and short fuzz runs under ASan+UBSan
#   tools/test.sh --sanitizers     also what can run without a mount again under ASan, UBSan and TSan
#   tools/test.sh --all            also clang-tidy, which reads every file once more
#   tools/test.sh [...] ARGUMENTS  further arguments go to ctest (-R NAME, -L LABEL, ...)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
build=${DATACLOUD_BUILD:-$root/build}
jobs=${JOBS:-2}
checks=fuzz
tidy=OFF
case ${1:-} in
  --all) checks=all tidy=ON; shift ;;
  --sanitizers) checks=all; shift ;;
esac

# Each step's wall time, and the processor time of all it started.
steps=()
step_name=
cpu_seconds() { awk '{print int(($16 + $17) / 100)}' "/proc/$$/stat"; }
step() {
  local now=$SECONDS cpu
  cpu=$(cpu_seconds)
  if [ -n "$step_name" ]; then
    steps+=("$(printf '%5d s  %5d s of CPU  %s' $((now - step_start)) $((cpu - step_cpu)) "$step_name")")
  fi
  step_name=${1:-} step_start=$now step_cpu=$cpu
  [ -z "$step_name" ] || printf '\n== %s (%d s)\n' "$step_name" "$now"
}
clean() { python3 -B tests/support/cloud.py --clean || true; }
trap clean EXIT
trap 'exit 130' INT TERM HUP

step "packages"
tools/install-deps.sh --test
export CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
export CCACHE_SLOPPINESS=pch_defines,time_macros # for the precompiled header
clean

configure() {
  local directory=$1
  shift
  # What an earlier build of other options has left in the cache does not count.
  cmake -S . -B "$directory" -G Ninja -DDATACLOUD_TESTS=ON -DDATACLOUD_PROGRAMS=ON "$@" >"$directory.configure.log" 2>&1 || {
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
build_sanitized() { # NAME SANITIZERS TARGET
  configure "$build-$1" -DCMAKE_BUILD_TYPE=None -DDATACLOUD_SANITIZE="$2" \
    -DCMAKE_CXX_COMPILER=clang++-14
  build_quietly "$build-$1" "$3"
}

step "build"
configure "$build" -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_CHECKS=$checks -DDATACLOUD_TIDY=$tidy
build_quietly "$build"
if [ "$tidy" = ON ]; then
  # clang-tidy reads each file by itself, and needs what is generated.
  configure "$build-plain" -DCMAKE_BUILD_TYPE=Release -DDATACLOUD_GROUPS=OFF
  build_quietly "$build-plain" datacloud_proto
fi
if [ "$checks" = all ]; then
  step "build under the address and undefined-behaviour sanitizers, and for fuzzing"
  build_sanitized asan address,undefined sanitized_tests
  step "build under the thread sanitizer"
  build_sanitized tsan thread sanitized_tests
else
  step "build for fuzzing"
  build_sanitized asan address,undefined fuzz
fi

step "tests"
printf '%s\n' "${steps[@]}"
status=0
ctest --test-dir "$build" --no-tests=error --output-on-failure -j "$jobs" "$@" || status=$?
exit $status
