#!/bin/bash
# GDAL 3.6 and zarr-python 2.13: a Zarr array that GDAL has compressed with LZMA cannot be opened by zarr.
#
# Zarr V2 names a compressor by its numcodecs configuration. GDAL's COMPRESS=LZMA writes a member 'delta' that
# the codec of numcodecs does not have: zarr-python ends with a TypeError before it reads a sample, also
# for a single array of a group and for xarray. All other compressors of GDAL's driver are read. The other
# direction works: GDAL reads LZMA arrays of zarr-python.
#
# For an archive that others are to read: do not choose LZMA in GDAL's Zarr driver, or take 'delta' out of
# .zarray (and .zmetadata) afterwards: the chunks themselves are right.
#
# Expected: the samples. Seen: TypeError; without the member, the samples.
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
import numcodecs
print("GDAL", gdal.__version__, "zarr-python", zarr.__version__, "numcodecs", numcodecs.__version__)
samples = np.arange(64, dtype="u2").reshape(8, 8)
failed = False


def read_by_zarr(store):
    try:
        return "right" if (zarr.open_group(store, "r")["a"][...] == samples).all() else "wrong"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def edit(path, change):
    with open(path) as file:
        content = json.load(file)
    change(content)
    with open(path, "w") as file:
        json.dump(content, file)


for compressor in ("NONE", "BLOSC", "ZLIB", "GZIP", "LZMA", "ZSTD", "LZ4"):
    store = f"{compressor}.zarr"
    dataset = gdal.GetDriverByName("Zarr").CreateMultiDimensional(store)
    group = dataset.GetRootGroup()
    dimensions = [group.CreateDimension(name, None, None, 8) for name in "yx"]
    array = group.CreateMDArray("a", dimensions, gdal.ExtendedDataType.Create(gdal.GDT_UInt16),
                                ["COMPRESS=" + compressor, "BLOCKSIZE=4,4"])
    array.Write(samples)
    del array, dimensions, group, dataset
    seen = read_by_zarr(store)
    print(f"COMPRESS={compressor}, read by zarr-python: {seen}")
    failed |= seen.startswith("TypeError") != (compressor == "LZMA") or seen == "wrong"

with open("LZMA.zarr/a/.zarray") as file:
    print("compressor that GDAL wrote:", json.load(file)["compressor"])
edit("LZMA.zarr/a/.zarray", lambda array: array["compressor"].pop("delta"))
seen = read_by_zarr("LZMA.zarr")
print(f"the same without delta: {seen}")
failed |= seen != "right"

zarr.open_group("python.zarr", "w").create_dataset(
    "a", data=samples, chunks=(4, 4), compressor=numcodecs.LZMA())
back = gdal.OpenEx("python.zarr", gdal.OF_MULTIDIM_RASTER).GetRootGroup().OpenMDArray("a").ReadAsArray()
print("LZMA of zarr-python, read by GDAL:", "right" if (back == samples).all() else "wrong")
failed |= not (back == samples).all()
sys.exit(failed)
END
