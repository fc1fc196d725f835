#!/bin/bash
# wkx 0.5.0 (npm): points in metres become others when written to TWKB, and when read with millimetres.
#
# Tiny well-known binary (TWKB) stores coordinates as whole numbers in units of a power of ten, as varints
# of up to 64 bits. wkx always writes five digits after the point, for degrees enough; but its numbers have
# 32 bits, one of them for the sign, and end at 10737.4: of a northing of 5819000.5 m (UTM) it makes -680.2,
# and no error. It reads so as well: a right file with three digits has the northing at -623450.4. Heights are
# cut to whole metres, and lists of identifiers, which may come before the points of a multipoint, are read
# as points.
# SpatiaLite writes and reads all of these.
#
# For an archive of field surveys, which are mostly in metres: use WKB, which wkx keeps as it is.
#
# Expected: the coordinates that were written, within the digits kept. Seen: others.
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
set -euo pipefail
packages=(spatialite-bin=5.0.1-2)

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
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts wkx@0.5.0 >/dev/null
spatialite() { LD_LIBRARY_PATH=$libraries "$root/usr/bin/spatialite" -silent :memory: "$1" 2>/dev/null; }
spatialite "SELECT 'SpatiaLite ' || spatialite_version()"

# Degrees, and metres with two digits and with three, by SpatiaLite.
for point in "13.4 52.5,5" "391000.25 5819000.5,2" "391000.25 5819000.5,3"; do
  spatialite "SELECT hex(AsTWKB(GeomFromText('POINT(${point%,*})'), ${point#*,}))"
done >by-spatialite

cat >read.cjs <<'END'
const { readFileSync, writeFileSync } = require("node:fs");
const wkx = require("wkx");
let changed = false;
const expect = (what, { x, y }, X, Y, right) => {
  const near = Math.abs(x - X) < 1e-6 && Math.abs(y - Y) < 1e-6;
  console.log(`${what}: ${x} ${y}${near ? "" : ` instead of ${X} ${Y}`}`);
  if (near !== right) changed = true;
};
const read = (hex) => wkx.Geometry.parseTwkb(Buffer.from(hex, "hex"));
const [degrees, two, three] = readFileSync("by-spatialite", "utf8").trim().split("\n");
expect("degrees, 5 digits, of SpatiaLite", read(degrees), 13.4, 52.5, true);
expect("metres, 2 digits, of SpatiaLite", read(two), 391000.25, 5819000.5, true);
expect("metres, 3 digits, of SpatiaLite", read(three), 391000.25, 5819000.5, false);
const metres = new wkx.Point(391000.25, 5819000.5);
expect("metres, by WKB", wkx.Geometry.parse(metres.toWkb()), 391000.25, 5819000.5, true);
expect("metres, by wkx's TWKB", read(metres.toTwkb()), 391000.25, 5819000.5, false);
writeFileSync("by-wkx", metres.toTwkb().toString("hex"));
const { z } = read(new wkx.Point(1, 2, 812.75).toTwkb());
console.log(`height of 812.75: ${z}`);
// A multipoint with identifiers by hand: 7 and 9 for the points (10, 20) and (11, 21).
const { points } = read("0404020e1214280202");
expect("first point after two identifiers", points[0], 10, 20, false);
process.exit(changed || z !== 812 ? 1 : 0);
END
node --no-deprecation read.cjs
seen=$(spatialite "SELECT AsText(GeomFromTWKB(x'$(cat by-wkx)'))")
echo "wkx's TWKB of it, by SpatiaLite: $seen"
listed=$(spatialite "SELECT AsText(GeomFromTWKB(x'0404020e1214280202'))")
echo "the multipoint with identifiers, by SpatiaLite: $listed"
[ "$listed" = "MULTIPOINT(10 20, 11 21)" ] && [ "$seen" != "POINT(391000.25 5819000.5)" ]
