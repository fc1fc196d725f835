#!/bin/bash
# jsfive 0.4.2 (npm): a netCDF-4 variable with many attributes has none, and one never written no fill values.
#
# HDF5 keeps up to eight attributes of a dataset in its header, and all of them elsewhere ("dense") when
# there are more. netCDF-4 adds one or two of its own, so that seven are enough: scale_factor, add_offset,
# _FillValue, valid_min, valid_max, units and long_name are quite usual. jsfive looks only into the header:
# the set of attributes is then empty, without an error or a warning, and packed samples pass for temperatures.
# Take one attribute away, and all the others are there.
# A variable that was never written consists of its fill value, which jsfive knows; its samples are undefined.
#
# Expected: the attributes and values that ncdump shows. Seen: none of either.
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
root=$work/root
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
netcdf() { LD_LIBRARY_PATH=$libraries "$root/usr/bin/$1" "${@:2}"; }
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts jsfive@0.4.2 >/dev/null

attributes() {
  printf '    %s:%s ;\n' "$1" 'scale_factor = 0.01' "$1" 'add_offset = 273.15' "$1" '_FillValue = -999s' \
    "$1" 'valid_min = -99s' "$1" 'valid_max = 99s' "$1" 'units = "K"'
}
{
  printf 'netcdf scene {\ndimensions:\n  x = 3 ;\nvariables:\n'
  printf '  short six(x) ;\n' && attributes six
  printf '  short seven(x) ;\n' && attributes seven && printf '    seven:long_name = "skin temperature" ;\n'
  printf '  short unwritten(x) ;\n    unwritten:_FillValue = -999s ;\n'
  printf 'data:\n  six = 1, 2, 3 ;\n  seven = 1, 2, 3 ;\n}\n'
} >scene.cdl
netcdf ncgen -k nc4 -o scene.nc scene.cdl
netcdf ncdump scene.nc >seen
grep -q 'seven:long_name = "skin temperature"' seen
[ "$(grep -c 'scale_factor = 0.01' seen)" -eq 2 ]
[ "$(sed -n 's/^ unwritten = //p' seen)" = "_, _, _ ;" ]

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const { File } = require("jsfive");
console.log("jsfive", JSON.parse(readFileSync("node_modules/jsfive/package.json")).version, "node", process.version);
const bytes = readFileSync("scene.nc");
const file = new File(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), "scene.nc");
let changed = false;
const expect = (what, seen, expected) => {
  console.log(`${what}: ${seen}`);
  if (String(seen) !== expected) changed = true;
};
const [six, seven] = [file.get("six"), file.get("seven")];
expect("scale and offset of six attributes", [six.attrs.scale_factor, six.attrs.add_offset], "0.01,273.15");
expect("attributes of seven", Object.keys(seven.attrs).length, "0");
expect("samples of both", [...six.value, ...seven.value], "1,2,3,1,2,3");
const never = file.get("unwritten");
expect("fill value of the variable never written", never.fillvalue, "-999");
expect("its samples", Array.from({ length: never.shape[0] }, (_, i) => `${never.value[i]}`), "undefined,undefined,undefined");
process.exit(changed ? 1 : 0);
END
node read.cjs
