#!/bin/bash
# tiff 7.1.3 (npm; image-js reads TIFF with it): tiled pictures with more than one sample per pixel come
# out as other pixels, without an error.
#
# The same RGB picture in strips is right, and so is a grey one in tiles. Of an RGB picture in tiles each
# pixel gets one value of the tile and zeros for its other samples, as if tiles held one sample per pixel.
# Cloud-optimised GeoTIFFs are tiled, so this is the layout of most pictures in archives.
#
# Expected: what the same picture in strips gives. Seen: other samples, two of three of them zero.
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
set -euo pipefail
packages=(libtiff-tools=4.5.0-6+deb12u4)

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
run() {
  LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu" \
    "$work/root/usr/bin/$1" "${@:2}"
}
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts tiff@7.1.3 >/dev/null

for kind in "P6 rgb 3" "P5 grey 1"; do
  read -r magic name samples <<<"$kind"
  python3 -c "
import sys
sys.stdout.buffer.write(b'$magic\\n64 32\\n255\\n' + bytes(1 + i % 250 for i in range(64 * 32 * $samples)))" >"$name.ppm"
  run ppm2tiff -c none "$name.ppm" "$name-strips.tif"
  run tiffcp -c none -t -w 16 -l 16 "$name-strips.tif" "$name-tiles.tif"
  # Back in strips the tiles hold what they should.
  run tiffcp -c none -s -r 32 "$name-tiles.tif" "$name-back.tif"
done

cat >read.mjs <<'END'
import { readFileSync } from "node:fs";
import { decode } from "tiff";
console.log("tiff 7.1.3, node", process.version);
let changed = false;
for (const [name, samples] of [["rgb", 3], ["grey", 1]]) {
  const right = Array.from({ length: 64 * 32 * samples }, (_, i) => 1 + (i % 250));
  for (const layout of ["strips", "tiles", "back"]) {
    let seen;
    try {
      const data = Array.from(decode(readFileSync(`${name}-${layout}.tif`))[0].data);
      seen = JSON.stringify(data) === JSON.stringify(right) ? "right"
        : `other pixels: ${data.slice(0, 6)} instead of ${right.slice(0, 6)}`;
    } catch (error) {
      seen = `exception: ${error.message}`;
    }
    console.log(`${name}, ${layout}: ${seen}`);
    if (seen.startsWith("other") !== (name === "rgb" && layout === "tiles")) changed = true;
  }
}
process.exit(changed ? 1 : 0);
END
node read.mjs
