#!/bin/bash
# grib-js 1.0.0 (npm): a field of GRIB2 becomes one number everywhere, or Infinity, when a scale factor is negative.
#
# GRIB keeps the sign of a number in its first bit, and the size in the others: -7 is 0x8007. grib-js reads
# the binary and the decimal scale factor of a packed field as two's complement, -32761, so that all
# samples become the reference value (the least of the field), or R / 10^-32767 = Infinity. Nothing is said.
# Encoders that are asked for a number of bits choose the binary factor, mostly a negative one; with a
# decimal factor alone grib-js is right, so that it depends on where a file comes from. It also returns no
# samples at all where the message has a section for local use, which GDAL writes (an empty one).
#
# Expected: the samples that GDAL reads. Seen: others.
# Exits with 0 while that is so. Needs node, npm and python3; unpacks Debian's packages and the npm package into
# a temporary directory, and installs nothing.
set -euo pipefail
packages=(gdal-bin=3.6.2+dfsg-1+b2)

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
# Numeric libraries are alternatives that dpkg -x does not link.
for library in blas/libblas.so.3 lapack/liblapack.so.3; do
  target=$root/usr/lib/x86_64-linux-gnu/$library
  [ -e "$target" ] && ln -sf "$library" "$root/usr/lib/x86_64-linux-gnu/${library##*/}"
done
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
gdal() {
  LD_LIBRARY_PATH=$libraries GDAL_DATA=$root/usr/share/gdal PROJ_LIB=$root/usr/share/proj \
    GDAL_PAM_ENABLED=NO "$root/usr/bin/$1" "${@:2}"
}
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts grib-js@1.0.0 >/dev/null
gdal gdalinfo --version

# A field of temperatures, and a GRIB message without its section for local use, as most centres send it.
cat >field.py <<'END'
import math, random, struct, sys

if sys.argv[1] == "field":
    random.seed(3)
    print("ncols 16\nnrows 8\nxllcorner 0\nyllcorner 50\ncellsize 1")
    for i in range(8):
        print(*(f"{280 + 8 * math.sin(i / 3) + 6 * math.cos(j / 2) + 3 * random.random():.2f}" for j in range(16)))
else:
    with open(sys.argv[1], "rb") as file:
        message = file.read()
    at, kept = 16, []
    while message[at:at + 4] != b"7777":
        length, section = struct.unpack_from(">IB", message, at)
        if section != 2:
            kept.append(message[at:at + length])
        at += length
    body = b"".join(kept) + b"7777"
    with open(sys.argv[1], "wb") as file:
        file.write(message[:8] + struct.pack(">Q", 16 + len(body)) + body)
END
python3 field.py field >field.asc
make() {
  gdal gdal_translate -q -of GRIB -a_srs EPSG:4326 -ot Float32 -co DATA_ENCODING=COMPLEX_PACKING \
    -co SPATIAL_DIFFERENCING_ORDER=2 "${@:2}" field.asc "$1.grib2"
}
make local -co DECIMAL_SCALE_FACTOR=2
make decimal -co DECIMAL_SCALE_FACTOR=2
make bits -co NBITS=12
make tens -co DECIMAL_SCALE_FACTOR=-1 -co NBITS=8
for name in decimal bits tens; do python3 field.py $name.grib2; done
for name in local decimal bits tens; do
  gdal gdal_translate -q -of XYZ $name.grib2 $name.xyz 2>/dev/null
done

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const { readData } = require("grib-js");
const original = readFileSync("field.asc", "utf8").trim().split("\n").slice(5).join(" ").split(" ").map(Number);
let changed = false;
for (const [name, expected] of [["local", "none"], ["decimal", "right"], ["bits", "one"], ["tens", "infinite"]]) {
  const byGdal = readFileSync(`${name}.xyz`, "utf8").trim().split("\n").map((line) => Number(line.split(" ")[2]));
  const off = Math.max(...byGdal.map((value, i) => Math.abs(value - original[i])));
  readData(readFileSync(`${name}.grib2`), (error, [message]) => {
    const { data, representation: { details } } = message.fields[0];
    const rows = Array.from({ length: 8 }, (_, i) => (data ?? []).slice(112 - 16 * i, 128 - 16 * i)).flat();  // from the north
    let seen = "others";
    if (!data) seen = "none";
    else if (rows.every((value, i) => Math.abs(value - byGdal[i]) < 1e-3)) seen = "right";
    else if (rows.every((value) => value === details.referenceValue)) seen = "one";
    else if (rows.every((value) => value === Infinity)) seen = "infinite";
    console.log(`${name}: scale factors ${details.binaryScaleFactor} and ${details.decimalScaleFactor}, samples ${seen}: `
      + `${rows.slice(0, 3)}; by GDAL ${byGdal.slice(0, 3)}`);
    if (error || off > 0.2 || seen !== expected) changed = true;
  });
}
process.exit(changed ? 1 : 0);
END
node read.cjs
