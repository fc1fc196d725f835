#!/bin/bash
# ecCodes 2.28: grib_count and grib_ls read every byte of a GRIB file.
#
# A GRIB message tells its length in its first 16 bytes, so that a count, or an inventory of a few header
# keys, could seek from message to message: GDAL does (gdalinfo reads some 3 % of the same file).
# ecCodes reads each message whole, data section included.
#
# For a file system: `grib_ls` in a directory of forecasts is a full, sequential read of all of it, and
# no read-ahead rule can make it cheaper; at a site far away an inventory costs what a copy costs.
#
# Expected: a small part of the file. Seen: all of it.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(libeccodes-tools=2.28.0-1 strace=6.1-0.1)

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
export ECCODES_DEFINITION_PATH="$root/usr/share/eccodes/definitions"
export ECCODES_SAMPLES_PATH="$root/usr/share/eccodes/samples"
cd "$work"
# 40 messages of 27 KB each.
for _ in $(seq 40); do cat "$ECCODES_SAMPLES_PATH/gg_sfc_grib2.tmpl"; done >many.grib
size=$(stat -c %s many.grib)
ok=yes
for tool in grib_count grib_ls; do
  "$root/usr/bin/strace" -f -qq -y -e trace=read,pread64 -o log -E LD_LIBRARY_PATH="$libraries" \
    "$root/usr/bin/$tool" many.grib >/dev/null
  read_bytes=$(awk '/many\.grib>/ { sum += $NF } END { print sum + 0 }' log)
  echo "$tool: read $read_bytes of $size bytes"
  [ "$read_bytes" -ge "$size" ] || ok=no
done
[ $ok = yes ]
