#!/bin/bash
# netcdfjs 4.0.0: variables whose bytes are not a multiple of four come out in another shape, or as other values.
#
# In classic netCDF each variable, or its part of a record, is padded to four bytes, and its size in the
# header counts the padding. netcdfjs takes the padded size for the number of values: 3 shorts are read as
# 4, the last of which is padding. Only where a file has exactly one record variable, the format does not
# pad records; there netcdfjs runs ahead of the records, and returns values in the wrong rows or reads past
# the end of the file. Types of 4 and 8 bytes are right.
#
# Shorts with a scale_factor along an unlimited time are what most packed climate and satellite series are:
# what a browser shows of them may be wrong without a message.
#
# Expected: what ncdump prints. Seen: rows that are too long; shifted values; in one case an error.
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
set -euo pipefail
packages=(netcdf-bin=1:4.9.0-3+b1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unpack() {
  : >"$work/status"  # as if nothing were installed: everything they need is told
  local needs
  needs=$(apt-get -s -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
    --no-install-recommends install "$@" | awk '/^Inst /{gsub(/[()]/, ""); print $2 "=" $3}')
  mkdir "$work/packages" "$work/root"
  # shellcheck disable=SC2086
  (cd "$work/packages" && apt-get -q -o APT::Sandbox::User=root download $needs >/dev/null)
  rm -f "$work"/packages/libc6_*  # the loader that is here needs its own
  for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/root"; done
}
unpack "${packages[@]}"
libraries=$(find "$work/root/usr/lib" "$work/root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null |
  sort -u | paste -sd:)
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts netcdfjs@4.0.0 >/dev/null
echo "netcdfjs $(node -p 'require("./node_modules/netcdfjs/package.json").version'), node $(node --version)"

make() {  # NAME DECLARATIONS DATA
  printf 'netcdf %s { dimensions: t = UNLIMITED ; x = 3 ; variables: %s data: %s }\n' "$1" "$2" "$3" |
    LD_LIBRARY_PATH=$libraries root/usr/bin/ncgen -k classic -o "$1.nc" -
}
rows='1,2,3, 4,5,6, 7,8,9, 10,11,12, 13,14,15'
make two 'short a(t,x); byte b(t,x); int c(t,x);' "a=$rows; b=$rows; c=$rows;"
make fixed 'short a(x); int c(t,x);' "a=1,2,3; c=$rows;"
make onebyte 'byte a(t,x);' "a=$rows;"
make oneshort 'short a(t,x);' "a=$rows;"
LD_LIBRARY_PATH=$libraries root/usr/bin/ncdump -v a two.nc | sed -n '/^data/,$p' | tr -d '\n'
echo

cat >read.mjs <<'END'
import { readFileSync } from "node:fs";
import { NetCDFReader } from "netcdfjs";
const right = "[[1,2,3],[4,5,6],[7,8,9],[10,11,12],[13,14,15]]";
let changed = false;
function check(file, name, expected, isRight) {
  let seen;
  try {
    seen = JSON.stringify(new NetCDFReader(readFileSync(file)).getDataVariable(name));
  } catch (error) {
    seen = `${error.name}: ${error.message}`;
  }
  console.log(`${file} ${name}: ${seen}`);
  if (isRight ? seen !== expected : seen === expected) changed = true;
}
check("two.nc", "c", right, true);
check("fixed.nc", "a", "[1,2,3]", false);
check("fixed.nc", "c", right, true);
check("two.nc", "a", right, false);
check("two.nc", "b", right, false);
check("onebyte.nc", "a", right, false);
check("oneshort.nc", "a", right, false);
process.exit(changed ? 1 : 0);
END
node read.mjs
