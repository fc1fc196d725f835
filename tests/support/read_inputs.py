#!/usr/bin/python3
"""Makes the files that tools/bench_reads.py reads: public formats, by the programs that define them.

Run by Debian's own python3, whose modules (GDAL, netCDF4, h5py, zarr) those of Debian are:
read_inputs.py DIR. Contents are pseudo-random and the same each time. Noise does not compress, so that
sizes and offsets in the files are those of real data of low redundancy.
"""

import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import zarr
from osgeo import gdal

gdal.UseExceptions()
SAMPLES = Path("/usr/share/eccodes/samples")


def picture(rng, side, bands=3):
    """A smooth field with noise: compresses a little, as satellite images do."""
    y, x = np.mgrid[0:side, 0:side]
    layers = [128 + 60 * np.sin(x / (90 + 17 * b)) * np.cos(y / (70 + 13 * b)) for b in range(bands)]
    noise = rng.normal(0, 8, (bands, side, side))
    return np.clip(np.stack(layers) + noise, 0, 255).astype(np.uint8)


def raster(pixels):
    bands, height, width = pixels.shape
    dataset = gdal.GetDriverByName("MEM").Create("", width, height, bands, gdal.GDT_Byte)
    dataset.WriteArray(pixels)
    dataset.SetGeoTransform([600000, 10, 0, 5200000, 0, -10])
    return dataset


def images(directory, rng):
    source = raster(picture(rng, 4096))
    gdal.Translate(str(directory / "scene.tif"), source, format="COG",
                   creationOptions=["COMPRESS=DEFLATE", "OVERVIEWS=AUTO"])
    gdal.Translate(str(directory / "strips.tif"), source, format="GTiff")
    gdal.Translate(str(directory / "scene.jp2"), source, format="JP2OpenJPEG",
                   creationOptions=["QUALITY=40", "BLOCKXSIZE=512", "BLOCKYSIZE=512"])
    loader = directory / "images"
    loader.mkdir()
    for i in range(150):
        (loader / f"{i:03}.jpg").write_bytes(rng.bytes(int(rng.integers(100 << 10, 200 << 10))))


def grib(directory, rng):
    """240 messages of two grids, as one forecast: levels and steps in one file."""
    parts = []
    for i in range(240):
        values = rng.normal(280, 10, (721, 360 + 40 * (i % 2))).astype(np.float32)
        dataset = gdal.GetDriverByName("MEM").Create("", values.shape[1], values.shape[0], 1,
                                                     gdal.GDT_Float32)
        dataset.SetGeoTransform([0, 0.5, 0, 90, 0, -0.25])
        dataset.SetProjection('GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.25]],'
                              'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]')
        dataset.GetRasterBand(1).WriteArray(values)
        gdal.Translate("/vsimem/one.grb2", dataset, format="GRIB",
                       creationOptions=["DATA_ENCODING=SIMPLE_PACKING", "NBITS=12"])
        file = gdal.VSIFOpenL("/vsimem/one.grb2", "rb")
        parts.append(bytes(gdal.VSIFReadL(1, gdal.VSIStatL("/vsimem/one.grb2").size, file)))
        gdal.VSIFCloseL(file)
    (directory / "forecast.grib2").write_bytes(b"".join(parts))


def stacks(directory, rng):
    cube = rng.integers(0, 4096, (64, 1024, 1024), dtype=np.uint16)
    with h5py.File(directory / "stack.h5", "w") as file:
        file.create_dataset("scene", data=cube, chunks=(1, 256, 256))
        file.create_dataset("wide", data=cube[:16], chunks=(1, 1024, 1024))
    group = zarr.open(str(directory / "stack.zarr"), mode="w", shape=(16, 1024, 1024),
                      chunks=(1, 256, 256), dtype="u2", compressor=None)
    group[:] = cube[:16]
    with netCDF4.Dataset(directory / "model.nc", "w") as file:
        for name, size in (("time", None), ("y", 512), ("x", 512)):
            file.createDimension(name, size)
        for name in ("t2m", "u10", "v10"):
            variable = file.createVariable(name, "f4", ("time", "y", "x"), zlib=True, complevel=1,
                                           chunksizes=(1, 256, 256))
            variable[0:24] = rng.normal(0, 1, (24, 512, 512))
    with netCDF4.Dataset(directory / "records.nc", "w", format="NETCDF3_64BIT_OFFSET") as file:
        for name, size in (("time", None), ("y", 360), ("x", 360)):
            file.createDimension(name, size)
        for name in ("t2m", "u10", "v10", "q"):
            file.createVariable(name, "f4", ("time", "y", "x"))
        for step in range(40):
            for name in ("t2m", "u10", "v10", "q"):
                file[name][step] = rng.normal(0, 1, (360, 360))


def tables(directory, rng):
    base = sqlite3.connect(directory / "samples.sqlite")
    base.execute("create table sample (id integer primary key, station integer, body blob)")
    base.executemany("insert into sample values (?, ?, ?)",
                     ((i, int(rng.integers(0, 1 << 30)), rng.bytes(400)) for i in range(100_000)))
    base.execute("create index by_station on sample (station)")
    base.commit()
    base.close()
    with zipfile.ZipFile(directory / "archive.zip", "w", zipfile.ZIP_STORED) as archive:
        for i in range(40):
            archive.writestr(zipfile.ZipInfo(f"tile-{i}.bin"), rng.bytes(1 << 20))
    (directory / "plain.bin").write_bytes(rng.bytes(192 << 20))


def video(directory):
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
                    "mandelbrot=size=1280x720:rate=25,noise=alls=30:allf=t", "-t", "40", "-c:v",
                    "mpeg4", "-b:v", "8M", "-g", "50", directory / "clip.mp4"], check=True)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for make in (images, grib, stacks, tables):
        make(directory, np.random.default_rng(1))
    video(directory)
    for entry in sorted(directory.iterdir()):
        print(f"{os.path.getsize(entry):>12} {entry.name}")


if __name__ == "__main__":
    main()
