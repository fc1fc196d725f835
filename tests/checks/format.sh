#!/bin/bash
# Every C++ file of ours must be as clang-format leaves it. `format.sh --fix` mends them.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(--dry-run -Werror)
[ "${1:-}" = --fix ] && mode=(-i)
find common daemon fs tools tests -name '*.cc' -o -name '*.h' | sort | xargs clang-format-14 "${mode[@]}"
