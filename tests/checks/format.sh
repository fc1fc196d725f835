#!/bin/bash
# Every C++ file of ours must be as clang-format leaves it. `format.sh --fix` mends them.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(--dry-run -Werror)
[ "${1:-}" = --fix ] && mode=(-i)
find . \( -name 'build*' -o -name '.*' -not -name . \) -prune -o \( -name '*.cc' -o -name '*.h' \) -print0 |
  sort -z | xargs -0 clang-format-14 "${mode[@]}"
