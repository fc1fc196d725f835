#!/bin/bash
# @cogeotiff/core 9.5.0 (npm): asked for the picture of a resolution in a COG that has a mask, it gives the
# mask, without an error.
#
# A COG may hold a mask of valid pixels, as an image of its own for the picture and for each overview (TIFF's
# NewSubfileType 4, 5 for an overview's; GDAL writes them with `-mask`, and by itself for JPEG with
# transparency). Tiff.getImageByResolution() goes through all images from the last one, and takes the first
# that is fine enough. The masks of overviews come last, the mask of the picture just after the picture: the
# picture itself, and an overview, are never chosen. What a viewer or a statistic then reads are bits of the mask.
#
# Expected: the image that GDAL reads at that resolution; the masks do not change which one. Seen: its mask,
# for every resolution, also the full one. Without a mask in the file it is right.
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
npm install --silent --no-audit --no-fund --ignore-scripts @cogeotiff/core@9.5.0 >/dev/null
gdal gdalinfo --version

# Two bands of 2048 x 2048: the picture is 100 to 149, the mask leaves out the columns on the right.
python3 -c "
import sys
out = sys.stdout.buffer
out.write(b'P6\n2048 2048\n255\n')
for y in range(2048):
    value = 100 + y % 50
    out.write(bytes((value, value, 255)) * 1500 + bytes((value, value, 0)) * 548)" >bands.ppm
cog=(-q -of COG -co COMPRESS=NONE -a_srs EPSG:32633 -a_ullr 500000 5020480 520480 5000000 -b 1)
gdal gdal_translate "${cog[@]}" bands.ppm plain.tif
gdal gdal_translate "${cog[@]}" -mask 3 bands.ppm masked.tif
gdal gdalinfo masked.tif | sed -n '/^Band 1/,$p'
for level in full 0 1; do  # what is right: GDAL reads the picture on all levels of both (0 where the mask is)
  choice=()
  [ $level = full ] || choice=(-oo "OVERVIEW_LEVEL=$level")
  for file in plain masked; do
    gdal gdalinfo -mm "${choice[@]}" $file.tif | sed -n "s/.*Computed Min\/Max=/GDAL, $file, overview $level: /p"
  done
done | tee by-gdal
[ "$(grep -cE ',14[0-9]\.000$' by-gdal)" = 6 ]

cat >read.mjs <<'END'
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { Tiff } from "@cogeotiff/core";
console.log("@cogeotiff/core", JSON.parse(readFileSync("node_modules/@cogeotiff/core/package.json")).version);
let changed = false;
for (const [name, expected] of [["plain", "picture"], ["masked", "mask"]]) {
  const bytes = readFileSync(`${name}.tif`);
  const tiff = await Tiff.create({
    url: new URL(`file:///${name}.tif`),
    metadata: { size: bytes.length },
    fetch: async (at, length) => Uint8Array.from(bytes.subarray(at, length && at + length)).buffer,
  });
  for (const [resolution, width] of [[10, 2048], [20, 1024], [40, 512], [80, 512]]) {
    const image = tiff.getImageByResolution(resolution);
    const subfile = (await image.fetch(254)) ?? 0;
    const bits = await image.fetch(258);
    const tile = await image.getTile(0, 0);
    let samples = new Uint8Array(tile.bytes);  // GDAL packs masks, whatever is asked for
    if (tile.mimeType === "application/deflate") samples = inflateSync(samples);
    let seen = "other";
    if (!(subfile & 4) && samples.every((s) => s >= 100 && s < 150)) seen = "picture";
    if (subfile & 4 && Number(bits) === 1 && samples[0] === 255) seen = "mask";
    console.log(`${name}, ${resolution} m: image ${tiff.images.indexOf(image)}, ${image.size.width} pixels wide, `
      + `NewSubfileType ${subfile}, ${bits} bits per sample, first byte ${samples[0]}: ${seen}`);
    if (seen !== expected || image.size.width !== width) changed = true;
  }
}
process.exit(changed ? 1 : 0);
END
node read.mjs
