#!/bin/bash
# shpjs 6.2.0 (npm): the height of a multipoint of one point is read four bytes too late, and is another number.
#
# In a shapefile's MultiPointZ the heights follow the points and the range of the heights: at byte 72 of the
# shape for one point (its type at byte 0 counted). shpjs cuts the type off, and yet takes byte 72 when
# there is one point; with more it counts rightly. The eight bytes it takes are the upper half of the
# height and the lower half of the least measure (M): with a round measure a number like 5e-315, which a map
# shows as 0. (Shapes without measures, which are optional, end there, and give an exception.) A selection
# or a clip of a layer of multipoints leaves such shapes.
#
# Expected: the height that GDAL reads. Seen: another one, without an error.
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
npm install --silent --no-audit --no-fund --ignore-scripts shpjs@6.2.0 >/dev/null
gdal ogrinfo --version

cat >points.csv <<'END'
id,wkt
1,"MULTIPOINT ZM (1 2 3.5 4)"
2,"MULTIPOINT ZM (1 2 812.25 0)"
3,"MULTIPOINT ZM (1 2 812.25 0.1)"
4,"MULTIPOINT ZM (1 2 3.5 4,5 6 7.5 8)"
END
gdal ogr2ogr -oo GEOM_POSSIBLE_NAMES=wkt -nlt MULTIPOINTZM points.shp points.csv
gdal ogrinfo -q -al points.shp | sed -n 's/^ *\(MULTIPOINT.*\)/GDAL: \1/p' | tee by-gdal
sed 's/(\([-0-9. ]*\))/\1/g; s/^GDAL: //' by-gdal >seen
sed '1d; s/^.,//; s/"//g' points.csv >expected
diff expected seen

cat >read.mjs <<'END'
import { readFileSync } from "node:fs";
import { parseShp } from "shpjs";
console.log("shpjs", JSON.parse(readFileSync("node_modules/shpjs/package.json")).version, "node", process.version);
const file = readFileSync("points.shp");
const shapes = parseShp(file);
let changed = shapes.length !== 4;
let at = 100;
shapes.forEach(({ type, coordinates }, i) => {
  const shape = at + 8;  // where the type of the shape is
  at = shape + 2 * file.readInt32BE(at + 4);
  const count = file.readInt32LE(shape + 36);
  const right = file.readDoubleLE(shape + 40 + 16 * count + 16);  // the first height
  const seen = type === "Point" ? coordinates[2] : coordinates[0][2];
  const note = seen === right ? "" : ` instead of ${right}`;
  console.log(`shape ${i + 1}, ${count} point${count > 1 ? "s" : ""}: height ${seen}${note}`);
  if (seen !== (count > 1 ? right : file.readDoubleLE(shape + 76))) changed = true;
});
process.exit(changed ? 1 : 0);
END
node read.mjs
