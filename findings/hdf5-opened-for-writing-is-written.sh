#!/bin/bash
# HDF5 1.10: opening a file read-write and closing it at once writes to it, without any change.
#
# h5py.File(path, "r+").close(), and a netCDF-4 file opened with "a": the superblock is written again,
# with the same bytes. Contents are equal, but the modification time is new. A classic netCDF file and a
# TIFF opened the same way are left alone.
#
# For a file system: the first block of a file that nobody changed is dirty, is encoded and stored anew,
# and tools that compare times (rsync, make, backups) take the whole file, which may be terabytes, for
# changed. Open with "r" unless something is to be written.
#
# Expected: no write where nothing changes. Seen: one write or more, equal contents, a new mtime.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(python3-h5py-serial=3.7.0-8 python3-netcdf4=1.6.2-1+b1 strace=6.1-0.1)

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
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null |
  grep -v python3 | sort -u | paste -sd:)
python() {
  "$root/usr/bin/strace" -f -qq -y -e trace=write,pwrite64,writev,pwritev -o "$work/log" \
    -E LD_LIBRARY_PATH="$libraries" -E PYTHONPATH="$root/usr/lib/python3/dist-packages" \
    -E PYTHONHOME="$root/usr" "$root/usr/bin/python3.11" -c "$1"
}
# Numeric libraries are alternatives that dpkg -x does not link.
for library in blas/libblas.so.3 lapack/liblapack.so.3; do
  target=$root/usr/lib/x86_64-linux-gnu/$library
  [ -e "$target" ] && ln -sf "$library" "$root/usr/lib/x86_64-linux-gnu/${library##*/}"
done
cd "$work"
python 'import h5py, netCDF4
print("HDF5", h5py.version.hdf5_version, "netCDF4", netCDF4.__version__)
with h5py.File("a.h5", "w") as f: f["x"] = range(1000)
for name, kind in (("b.nc", "NETCDF4"), ("c.nc", "NETCDF3_CLASSIC")):
    with netCDF4.Dataset(name, "w", format=kind) as f:
        f.createDimension("t", 10); f.createVariable("x", "f4", ("t",))[:] = 1'

ok=yes
check() {  # FILE CODE EXPECTED: what opening does to the file
  touch -d 2020-01-01 "$1"
  local before writes seen
  before=$(sha256sum <"$1")
  python "$2"
  writes=$(grep -c "/$1>" "$work/log" || true)
  [ "$(sha256sum <"$1")" = "$before" ] || { echo "$1: the contents changed"; ok=no; }
  seen=untouched
  [ "$(date -r "$1" +%Y)" = 2020 ] || seen=written
  echo "$1: $seen, $writes writes, contents equal"
  [ "$seen" = "$3" ] || ok=no
}
check a.h5 'import h5py; h5py.File("a.h5", "r+").close()' written
check b.nc 'import netCDF4; netCDF4.Dataset("b.nc", "a").close()' written
check c.nc 'import netCDF4; netCDF4.Dataset("c.nc", "a").close()' untouched
check a.h5 'import h5py; h5py.File("a.h5", "r").close()' untouched
[ $ok = yes ]
