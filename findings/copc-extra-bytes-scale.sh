#!/bin/bash
# copc 0.0.8 (npm; copc.js, which viewers of LAS and COPC point clouds read with): extra bytes with a scale
# or an offset come out as numbers around 10^-320 or 10^290, without an error.
#
# A descriptor of extra bytes (LAS 1.4, LASF_Spec 4) may say that values are multiplied by a scale and moved
# by an offset; amplitudes, pulse widths and heights above ground are usually stored so, as 16-bit integers.
# All of LAS is little-endian. copc takes the two doubles for big-endian; it reads all else rightly: other
# fields, the descriptors' types and limits, and extra bytes that have no scale.
#
# For an archive: the file is right, what is shown of it is not. A correction is in the sources since
# October 2025, in no release yet.
#
# Expected: value x scale + offset. Seen: other numbers.
# Exits with 0 while that is so. Needs node, npm and python3; unpacks the npm package into a temporary
# directory, and installs nothing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts copc@0.0.8 >/dev/null

# LAS 1.4, point format 6 with eight extra bytes, by hand.
cat >las.py <<'END'
import struct

POINTS = [(1, 2, 3, 7000, -6, 1.5), (4, 5, 6, 65535, 20, 2.5)]  # x, y, z and the extra bytes
WKT = b'LOCAL_CS["site",LOCAL_DATUM["site",32767],UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]\0'


def descriptor(kind, options, name, scale=0.0, offset=0.0):
    entry = bytearray(192)
    struct.pack_into("<BB32s", entry, 2, kind, options, name)
    struct.pack_into("<d", entry, 112, scale)
    struct.pack_into("<d", entry, 136, offset)
    return bytes(entry)


def record(user, number, data):
    return struct.pack("<H16sHH32s", 0, user, number, len(data), b"") + data


vlrs = record(b"LASF_Projection", 2112, WKT) + record(b"LASF_Spec", 4, b"".join((
    descriptor(3, 24, b"width", 0.001, -5.0),  # uint16 with scale and offset
    descriptor(4, 8, b"deviation", 0.25),      # int16 with a scale
    descriptor(9, 0, b"plain"))))              # float as it is
points = b"".join(struct.pack("<3iHBBBBhHd" + "Hhf", 100 * x, 100 * y, 100 * z, 500, 0x11, 0, 2, 0, 0, 1, 0.5, *extra)
                  for x, y, z, *extra in POINTS)
header = struct.pack("<4sHH16sBB32s32sHHHIIBHI5I12d", b"LASF", 0, 16, b"", 1, 4, b"", b"", 1, 2020, 375,
                     375 + len(vlrs), 2, 6, 38, 0, 0, 0, 0, 0, 0, .01, .01, .01, 0, 0, 0, 4, 1, 5, 2, 6, 3)
header += struct.pack("<QQIQ15Q", 0, 0, 0, len(POINTS), len(POINTS), *[0] * 14)
assert len(header) == 375 and len(points) == 38 * len(POINTS)
with open("extra.las", "wb") as out:
    out.write(header + vlrs + points)
END
python3 las.py

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const { Las } = require("copc");
console.log("copc", JSON.parse(readFileSync("node_modules/copc/package.json")).version, "node", process.version);
const file = readFileSync("extra.las");
const get = async (begin, end) => file.subarray(begin, end);

async function main() {
  const header = Las.Header.parse(file);
  const vlrs = await Las.Vlr.walk(get, header);
  const extra = Las.ExtraBytes.parse(await Las.Vlr.fetch(get, Las.Vlr.find(vlrs, "LASF_Spec", 4)));
  const view = Las.View.create(file.subarray(header.pointDataOffset), header, extra);
  let changed = header.pointCount !== 2;
  for (const [name, expected, isRight] of [
    ["X", [1, 4], true], ["Intensity", [500, 500], true], ["Classification", [2, 2], true],
    ["plain", [1.5, 2.5], true], ["deviation", [-1.5, 5], false], ["width", [2, 60.535], false],
  ]) {
    const seen = [0, 1].map(view.getter(name));
    const right = seen.every((value, i) => Math.abs(value - expected[i]) < 1e-9);
    console.log(`${name}: ${seen}${right ? "" : ` instead of ${expected}`}`);
    if (right !== isRight) changed = true;
  }
  // The same bytes in the order that LAS has.
  const at = file.indexOf("width") - 4;
  console.log(`scale and offset of width in the file: ${file.readDoubleLE(at + 112)}, ${file.readDoubleLE(at + 136)};`
    + ` by copc: ${extra[0].scale}, ${extra[0].offset}`);
  if (extra[0].scale !== file.readDoubleBE(at + 112) || extra[0].offset !== file.readDoubleBE(at + 136)) changed = true;
  process.exit(changed ? 1 : 0);
}
main();
END
node read.cjs
