#!/bin/bash
# GDAL 3.6: the fill value of a uint64 Zarr array is read as 2^63 - 1 when it is larger than that.
#
# In Zarr a chunk that was never written, or is missing, consists of the fill value. 2^64 - 1 is the usual
# 'no data' of uint64 (identifiers, packed times); netCDF's default is one less. zarr-python writes it as
# the number it is. GDAL then tells 9223372036854775807 for the no-data value, and returns that for every
# sample of a missing chunk, without an error. Samples that were written are right, so that 'no data' and the
# value that stands for it no longer agree: masks find nothing. GDAL itself writes such a value as a
# string, which both read.
#
# Expected: the fill value that the array's metadata hold. Seen: the largest int64.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(python3-gdal=3.6.2+dfsg-1+b2 python3-zarr=2.13.6+ds-1)

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
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null |
  grep -v python3 | sort -u | paste -sd:)
cd "$work"
LD_LIBRARY_PATH=$libraries PYTHONHOME=$root/usr PYTHONPATH=$root/usr/lib/python3/dist-packages \
  GDAL_DATA=$root/usr/share/gdal PROJ_LIB=$root/usr/share/proj \
  "$root/usr/bin/python3.11" -W ignore - <<'END'
import json, sys
import numpy as np
import zarr
from osgeo import gdal

gdal.UseExceptions()
print("GDAL", gdal.__version__, "zarr-python", zarr.__version__)
failed = False


def by_gdal(store, name):
    array = gdal.OpenEx(store, gdal.OF_MULTIDIM_RASTER).GetRootGroup().OpenMDArray(name)
    return array.ReadAsArray(), array.GetNoDataValueAsUInt64()


def expect(what, seen, expected):
    global failed
    print(f"{what}: {seen}")
    failed |= seen != expected


INT64_MAX = 2**63 - 1
for fill in (7, INT64_MAX, INT64_MAX + 1, 2**64 - 2, 2**64 - 1):
    store = f"python-{fill}.zarr"
    array = zarr.open_group(store, "w").create_dataset(
        "ids", shape=(4,), chunks=(2,), dtype="u8", fill_value=fill)
    array[:2] = np.array([1, fill], "u8")  # the second chunk stays away
    samples, nodata = by_gdal(store, "ids")
    assert array[:].tolist() == [1, fill, fill, fill]
    seen = min(fill, INT64_MAX)
    expect(f"fill value {fill}, no-data value by GDAL", nodata, seen)
    expect(f"fill value {fill}, samples by GDAL", samples.tolist(), [1, fill, seen, seen])

# What GDAL wrote itself.
dataset = gdal.GetDriverByName("Zarr").CreateMultiDimensional("gdal.zarr")
group = dataset.GetRootGroup()
dimension = group.CreateDimension("x", None, None, 4)
array = group.CreateMDArray("ids", [dimension], gdal.ExtendedDataType.Create(gdal.GDT_UInt64))
array.SetNoDataValueUInt64(2**64 - 1)
del array, dimension, group, dataset
with open("gdal.zarr/ids/.zarray") as file:
    expect("fill_value that GDAL wrote", repr(json.load(file)["fill_value"]), repr(str(2**64 - 1)))
expect("by GDAL again", by_gdal("gdal.zarr", "ids")[1], 2**64 - 1)
expect("by zarr-python", int(zarr.open_group("gdal.zarr", "r")["ids"][0]), 2**64 - 1)
sys.exit(failed)
END
