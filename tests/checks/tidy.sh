#!/bin/bash
# tidy.sh BUILD_DIR: clang-tidy over our .cc files, with the few checks that find bugs.
# A file whose preprocessed text, flags and checks have passed before is not looked at again; the
# record is kept beside ccache's.
set -euo pipefail
build=${1:?build directory}
cd "$(dirname "$0")/../.."
checks='-*,bugprone-use-after-move,bugprone-dangling-handle,bugprone-infinite-loop,bugprone-sizeof-*,bugprone-string-*,bugprone-undefined-memory-manipulation,bugprone-unused-raii,bugprone-unused-return-value,bugprone-move-forwarding-reference,bugprone-fold-init-type,bugprone-integer-division,bugprone-suspicious-*,-bugprone-suspicious-include,bugprone-too-small-loop-variable,bugprone-exception-escape,performance-for-range-copy,performance-implicit-conversion-in-loop,performance-inefficient-algorithm,performance-inefficient-vector-operation,performance-move-const-arg,performance-unnecessary-copy-initialization,performance-no-automatic-move'
passed=${XDG_CACHE_HOME:-$HOME/.cache}/datacloud-tidy
mkdir -p "$passed"

one() {
  local file=$1 key
  key=$(python3 - "$build/compile_commands.json" "$file" <<'PY'
import hashlib, json, os, shlex, subprocess, sys
entry = next((e for e in json.load(open(sys.argv[1])) if e["file"] == os.path.abspath(sys.argv[2])), None)
if entry is None:
    sys.exit(0)
words = shlex.split(entry["command"])
words = [w for w in words if not w.endswith("ccache")]
out = words.index("-o")
words = words[:out] + ["-E", "-P"] + words[out + 2:]
text = subprocess.run(words, cwd=entry["directory"], capture_output=True, check=True).stdout
print(hashlib.sha256(text + " ".join(words).encode()).hexdigest())
PY
  )
  [ -n "$key" ] || return 0 # not part of this build
  key=$(printf '%s%s' "$key" "$checks" | sha256sum | cut -c1-40)
  [ ! -e "$passed/$key" ] || return 0
  if clang-tidy-14 -p "$build" --quiet --checks="$checks" --warnings-as-errors='*' \
      --extra-arg=-w "$file" 2>&1 | grep -v 'warnings generated'; then
    :
  fi
  [ "${PIPESTATUS[0]}" = 0 ] && touch "$passed/$key"
}
export -f one
export build checks passed
find common daemon fs tools watermark -name '*.cc' | sort | xargs -P 2 -I{} bash -c 'set -uo pipefail; one {}'
