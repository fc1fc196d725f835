#!/bin/bash
# flatgeobuf 4.5.0 (npm): what it writes from GeoJSON has only the first feature's properties, and of their
# types; other properties are dropped, missing ones become false, "" or NaN. Nothing is reported.
#
# GeoJSON's features may differ in their properties (RFC 7946, 3.2: any object, or null), and often do: a
# sensor that has nothing to say leaves the field away. FlatGeobuf holds that too: a feature's properties are
# pairs of a column's number and a value, and what is missing has no pair. serialize() makes the columns from
# the first feature alone; where that has null, the column is of strings. A value that is not there (other
# than null) is written as if it were one: 'not measured' reads as false, or as an empty remark.
#
# For an archive: compare what was converted before the GeoJSON is deleted; null in each feature for what is
# missing, and a first feature that has everything, avoid it.
#
# Expected: what GDAL writes from the same GeoJSON, read by the same package: the properties as they were.
# Seen: properties lost, values made up, numbers as strings.
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
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
    "$root/usr/bin/$1" "${@:2}"
}
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts flatgeobuf@4.5.0 >/dev/null
gdal ogrinfo --version

cat >run.mjs <<'END'
import { readFileSync, writeFileSync } from "node:fs";
import { geojson } from "flatgeobuf";
const collections = {
  optional: [
    { station: "A", depth: 2.5, calm: true, remark: "new battery" },
    { station: "B", depth: 3.5, temperature: 11.5 },
    { station: "C", temperature: 12.5 },
  ],
  null: [{ station: "A", depth: null }, { station: "B", depth: 3.5 }],
  alike: [{ station: "A", depth: 2.5, calm: true }, { station: "B", depth: null, calm: false }],
};
const point = (properties, i) => ({ type: "Feature", properties, geometry: { type: "Point", coordinates: [i, i] } });
const show = (features) => features.map((properties) => "{" + Object.entries(properties)
  .map(([name, value]) => `${name}: ${typeof value === "string" ? JSON.stringify(value) : value}`).join(", ") + "}");
// What is null may be left away: FlatGeobuf does not tell these apart.
const plain = (features) => show(features.map((properties) =>
  Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== null).sort())));

if (process.argv[2] === "write") {
  for (const [name, features] of Object.entries(collections)) {
    const collection = { type: "FeatureCollection", features: features.map(point) };
    writeFileSync(`${name}.geojson`, JSON.stringify(collection));
    writeFileSync(`${name}-npm.fgb`, geojson.serialize(collection));
  }
} else {
  console.log("flatgeobuf", JSON.parse(readFileSync("node_modules/flatgeobuf/package.json")).version);
  const wrong = {
    optional: [
      { station: "A", depth: 2.5, calm: true, remark: "new battery" },
      { station: "B", depth: 3.5, calm: false, remark: "" },
      { station: "C", depth: NaN, calm: false, remark: "" },
    ],
    null: [{ station: "A" }, { station: "B", depth: "3.5" }],
  };
  let changed = false;
  for (const [name, features] of Object.entries(collections)) {
    console.log(`${name}: ${show(features).join(" ")}`);
    for (const writer of ["gdal", "npm"]) {
      const seen = [];
      for await (const { properties } of geojson.deserialize(new Uint8Array(readFileSync(`${name}-${writer}.fgb`))))
        seen.push(properties);
      console.log(`  by ${writer}: ${show(seen).join(" ")}`);
      const expected = (writer === "npm" && wrong[name]) || features;
      if (String(plain(seen)) !== String(plain(expected))) changed = true;
    }
  }
  process.exit(changed ? 1 : 0);
}
END
node run.mjs write
for name in optional null alike; do  # the index sorts features: without, they stay in order
  gdal ogr2ogr -f FlatGeobuf -lco SPATIAL_INDEX=NO $name-gdal.fgb $name.geojson
done
# GDAL reads in the other file what the package does: it was lost when writing.
gdal ogrinfo -q -al -geom=NO optional-npm.fgb
node run.mjs read
