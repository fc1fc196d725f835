#!/bin/bash
# GDAL 3.6: a new GeoPackage is never fsynced, though it is an SQLite database.
#
# Who knows SQLite expects that a committed transaction survives the loss of power. GDAL's GeoPackage
# driver creates files with PRAGMA synchronous=OFF: ogr2ogr ends with success and has called neither
# fsync nor fdatasync. Its SQLite driver, writing the same layer, syncs; so does the GeoPackage driver
# once it appends to a file that is there.
#
# For a file system: the close of a new .gpkg must be enough to get it written soon, nobody waits for it,
# and a crash in the seconds after ogr2ogr's success may lose all of it. Run `sync FILE` after ogr2ogr.
#
# Expected: at least one sync per new database. Seen: 0 for a new .gpkg, some for .sqlite and -append.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(gdal-bin=3.6.2+dfsg-1+b2 strace=6.1-0.1)

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

export PATH="$work/root/usr/bin:$PATH" GDAL_DATA="$work/root/usr/share/gdal"
export PROJ_LIB="$work/root/usr/share/proj"
libraries=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
# Traces only the program: how often it asks for its data to be durable.
syncs() {
  local log="$work/log"
  strace -f -qq -e trace=fsync,fdatasync,sync_file_range,sync,syncfs,msync -o "$log" \
    -E LD_LIBRARY_PATH="$libraries" ogr2ogr "$@" >/dev/null
  grep -cE 'sync' "$log" || true
}
cd "$work"
printf 'id,WKT\n1,POINT(7 50)\n2,POINT(8 51)\n' >in.csv
gpkg=$(syncs new.gpkg in.csv -oo GEOM_POSSIBLE_NAMES=WKT)
sqlite=$(syncs -f SQLite new.sqlite in.csv)
append=$(syncs -append new.gpkg in.csv)
LD_LIBRARY_PATH=$libraries ogr2ogr --version
echo "syncs: new GeoPackage $gpkg, new SQLite $sqlite, appended GeoPackage $append"
[ "$gpkg" = 0 ] && [ "$sqlite" -gt 0 ] && [ "$append" -gt 0 ]
