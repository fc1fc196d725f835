#!/bin/bash
# Builds just what a test needs, and runs it.
#
#   tools/dev.sh test NAME [ARGUMENTS]  NAME is a test program or script (fsck_test, or mount.fsck_test
#                                       where two have that name), or any regular expression of ctest.
#                                       ARGUMENTS go to the test itself, if it is one:
#                                       --gtest_filter=Fsck.*, --seed 42
#   tools/dev.sh list [REGEX]           the names of tests
#
# The build directory is $DATACLOUD_BUILD, else build; it is configured (preset release) when new.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${DATACLOUD_BUILD:-$PWD/build}
jobs=${JOBS:-$(nproc)}

usage() { sed -n '4,10p' "$0" | sed 's/^# \{0,1\}//'; }
die() { printf 'dev.sh: %s\n' "$*" >&2; exit 2; }

configure() {
  [ -e "$build/build.ninja" ] || cmake --preset release -B "$build" >"$build.configure.log" 2>&1 || {
    tail -n 20 "$build.configure.log" >&2
    die "cmake failed: tools/install-deps.sh --test installs what is missing"
  }
  rm -f "$build.configure.log"
}

names() { ctest --test-dir "$build" -N -R "$1" | sed -n 's/^ *Test *#[0-9]*: //p'; }

# The tests that NAME means: those of exactly this name or folder, else those that match it.
find_tests() {
  local all exact
  grep -qE -- "$1" </dev/null 2>/dev/null || [ $? = 1 ] || die "\"$1\" is no name and no regular expression"
  all=$(names "$1") || die "ctest does not take \"$1\": give a name or a regular expression"
  exact=$(grep -xE "([a-z]+\.)?$1(_test)?|$1\..*" <<<"$all") || true
  printf '%s' "${exact:-$all}"
}

# The words of a test's command, one a line: of a program of its own, or of its folder's.
command_of() {
  ctest --test-dir "$build" --show-only=json-v1 -R "^${1//./\\.}\$" |
    python3 -c 'import json, sys; print(*json.load(sys.stdin)["tests"][0]["command"], sep="\n")'
}

# Ninja's targets for one test.
targets_of() {
  local test=$1 program
  program=$(command_of "$test" | head -n 1) program=${program##*/}
  if grep -qx "$program" "$build/.targets"; then
    echo "$program"
    return
  fi
  case $test in
    mount.*) echo mount.datacloud datacloudd datacloud damage_record datacloud-audit ;;
    rados.*) echo mount.datacloud datacloudd datacloud damage_record datacloud-audit site_relay cls_datacloud ;;
    docs.*) echo mount.datacloud datacloudd datacloud datacloud-audit man cpack ;;
    package.*) echo mount.datacloud datacloudd datacloud datacloud-audit cpack ;;
    source.* | unit.audit_golden*) ;;
    asan.* | tsan.* | fuzz.*) die "$test needs builds of its own: tools/test.sh --sanitizers -R $test" ;;
    *) die "what $test needs is not known: add it to targets_of in tools/dev.sh" ;;
  esac
}

run_tests() {
  local name=${1:-} tests targets test log words
  [ -n "$name" ] || { usage >&2; exit 2; }
  shift
  configure
  ninja -C "$build" build.ninja >/dev/null # finds tests that are new
  tests=$(find_tests "$name")
  [ -n "$tests" ] || die "no test is called or matches \"$name\": tools/dev.sh list shows their names"
  [ $# = 0 ] || [ "$(wc -w <<<"$tests")" = 1 ] || {
    die "arguments are for one test, and \"$name\" means: $(tr '\n' ' ' <<<"$tests")"
  }
  ninja -C "$build" -t targets all | sed 's/: .*//' >"$build/.targets"
  targets=$(for test in $tests; do targets_of "$test" || exit; done | tr ' ' '\n' | sort -u)
  log=$build/dev.log
  if [ -n "$targets" ]; then
    # shellcheck disable=SC2086
    ninja -C "$build" -j "$jobs" $targets >"$log" 2>&1 || {
      grep -v '^\[' "$log" | head -n 60 >&2
      die "does not build; all of it is in $log"
    }
  fi
  if [ $# = 0 ]; then
    exec ctest --test-dir "$build" --output-on-failure -R "^($(tr '\n' '|' <<<"$tests" | sed 's/|$//; s/\./\\./g'))\$"
  fi
  export DATACLOUD_BUILD=$build
  test=${tests#*.}
  mapfile -t words < <(command_of "$tests")
  if [[ ${words[0]} == "$build"/tests/* ]]; then exec "${words[@]}" "$@"; fi
  [ -e "tests/${tests%%.*}/$test.py" ] || die "$tests takes no arguments"
  exec python3 -B "tests/${tests%%.*}/$test.py" "$@"
}

case ${1:-} in
  test) shift; run_tests "$@" ;;
  list) configure; names "${2:-.}" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
