#!/usr/bin/python3
"""Writes and reads the public data formats of the field, by the libraries that define them.

formats.py write DIR; formats.py read DIR prints what was read, as JSON. Run by Debian's own python3,
whose modules (GDAL, netCDF4, h5py, zarr) those of Debian are. What is written is the same each time, so
that a mount can be compared with a local disk byte for byte.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import zarr
from osgeo import gdal, ogr, osr

gdal.UseExceptions()
ogr.UseExceptions()
osr.UseExceptions()
SAMPLES = Path("/usr/share/eccodes/samples")
SIDE = 1500


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


# --- Writing ----------------------------------------------------------------------------------------


def pixels(rng):
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    layers = [128 + 60 * np.sin(x / (90 + 17 * b)) * np.cos(y / (70 + 13 * b)) for b in range(3)]
    return np.clip(np.stack(layers) + rng.normal(0, 8, (3, SIDE, SIDE)), 0, 255).astype(np.uint8)


def rasters(where, rng):
    source = gdal.GetDriverByName("MEM").Create("", SIDE, SIDE, 3, gdal.GDT_Byte)
    source.WriteArray(pixels(rng))
    source.SetGeoTransform([600000, 10, 0, 5200000, 0, -10])
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32632)
    source.SetProjection(reference.ExportToWkt())
    for name, driver, options in (
            ("strips.tif", "GTiff", []),
            ("tiles.tif", "GTiff", ["TILED=YES", "COMPRESS=DEFLATE", "BIGTIFF=YES"]),
            ("scene.tif", "COG", ["COMPRESS=LZW", "PREDICTOR=YES"]),
            ("scene.jp2", "JP2OpenJPEG", ["BLOCKXSIZE=512", "BLOCKYSIZE=512", "QUALITY=50"]),
            ("scene.png", "PNG", []), ("scene.jpg", "JPEG", []),
            ("scene.grb2", "GRIB", ["DATA_ENCODING=SIMPLE_PACKING"]),
            ("scene.img", "HFA", []), ("scene.vrt", "VRT", [])):
        gdal.Translate(str(where / name), str(where / "strips.tif") if driver == "VRT" else source,
                       format=driver, creationOptions=options)
    # Changed in place: a window, then overviews within the file and beside it.
    changed = gdal.Open(str(where / "tiles.tif"), gdal.GA_Update)
    changed.GetRasterBand(2).WriteArray(np.full((200, 300), 7, np.uint8), 333, 444)
    changed.BuildOverviews("AVERAGE", [2, 4, 8])
    changed = None
    gdal.Open(str(where / "strips.tif")).BuildOverviews("NEAREST", [2, 4])


def vectors(where, rng):
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(4326)
    for name, driver in (("fields.gpkg", "GPKG"), ("fields.shp", "ESRI Shapefile"),
                         ("fields.geojson", "GeoJSON"), ("fields.fgb", "FlatGeobuf")):
        source = ogr.GetDriverByName(driver).CreateDataSource(str(where / name))
        layer = source.CreateLayer("fields", reference, ogr.wkbPolygon)
        layer.CreateField(ogr.FieldDefn("crop", ogr.OFTString))
        layer.CreateField(ogr.FieldDefn("yield", ogr.OFTReal))
        layer.StartTransaction()
        for i in range(2000):
            x, y = rng.uniform(5, 15), rng.uniform(45, 55)
            feature = ogr.Feature(layer.GetLayerDefn())
            feature["crop"] = ("wheat", "maize", "rye")[i % 3]
            feature["yield"] = round(rng.uniform(1, 9), 3)
            feature.SetGeometry(ogr.CreateGeometryFromWkt(
                f"POLYGON(({x} {y},{x + .01} {y},{x + .01} {y + .01},{x} {y + .01},{x} {y}))"))
            layer.CreateFeature(feature)
        layer.CommitTransaction()
        layer = source = None
    run("ogrinfo", "-q", where / "fields.shp", "-sql", "CREATE SPATIAL INDEX ON fields")
    run("ogr2ogr", "-where", "crop = 'rye'", where / "rye.gpkg", where / "fields.gpkg")
    # Changed in place, as an editor of maps does.
    source = ogr.Open(str(where / "fields.gpkg"), 1)
    source.ExecuteSQL("UPDATE fields SET yield = 0 WHERE crop = 'maize'")
    source.ExecuteSQL("DELETE FROM fields WHERE fid % 7 = 0")
    source = None


def grids(where, rng):
    for name, kind in (("model.nc", "NETCDF4"), ("records.nc", "NETCDF3_CLASSIC"),
                       ("records64.nc", "NETCDF3_64BIT_OFFSET")):
        for part in range(2):  # written, closed, opened again and made longer
            with netCDF4.Dataset(where / name, "a" if part else "w", format=kind) as file:
                if not part:
                    for dimension, size in (("time", None), ("y", 181), ("x", 360)):
                        file.createDimension(dimension, size)
                    for variable in ("t2m", "u10"):
                        more = {"zlib": True, "chunksizes": (1, 91, 180)} if kind == "NETCDF4" else {}
                        file.createVariable(variable, "f4", ("time", "y", "x"), **more)
                for step in range(6 * part, 6 * part + 6):
                    for variable in ("t2m", "u10"):
                        file[variable][step] = rng.normal(0, 1, (181, 360))
    cube = rng.integers(0, 4096, (40, 256, 512), dtype=np.uint16)
    with h5py.File(where / "stack.h5", "w") as file:
        file.create_dataset("scene", data=cube, chunks=(1, 256, 256))
        file.create_dataset("packed", data=cube[:8], chunks=(1, 128, 128), compression="gzip",
                            shuffle=True, maxshape=(None, 256, 512))
        file.create_group("notes").attrs["station"] = "field 7"
    with h5py.File(where / "stack.h5", "r+") as file:
        file["packed"].resize(12, axis=0)
        file["packed"][8:] = cube[8:12]
        file["scene"][3, 10:20, 10:20] = 0
        del file["notes"]
    group = zarr.open_group(str(where / "stack.zarr"), mode="w")
    group.create_dataset("scene", data=cube[:10], chunks=(1, 128, 256))
    group["scene"][2] = 9
    group["scene"].append(cube[10:12])
    zarr.consolidate_metadata(str(where / "stack.zarr"))


def messages(where):
    parts = []
    for i, sample in enumerate(("regular_ll_sfc_grib2", "reduced_gg_pl_32_grib2", "GRIB1",
                                "regular_ll_pl_grib1")):
        for level in (0, 500, 850):
            part = where / f"part-{i}-{level}.grib"
            run("grib_set", "-s", f"level={level},dataDate=20240{i + 1}01", "-d", 270 + i,
                SAMPLES / f"{sample}.tmpl", part)
            parts.append(part)
    run("grib_copy", *parts, where / "all.grib")
    run("grib_copy", "-B", "level:i desc", where / "all.grib", where / "sorted.grib")


def write(where):
    where.mkdir(parents=True, exist_ok=True)
    for make in (rasters, vectors, grids):
        make(where, np.random.default_rng(1))
    messages(where)


# --- Reading ----------------------------------------------------------------------------------------


def read(where):
    seen = {}
    for path in sorted(where.glob("scene.*")) + [where / "tiles.tif", where / "strips.tif"]:
        if path.suffix == ".xml":
            continue
        data = gdal.Open(str(path))
        band = data.GetRasterBand(1)
        seen[path.name] = [data.RasterXSize, data.RasterCount, band.GetOverviewCount(),
                           band.Checksum(700, 600, 100, 100), band.Checksum(),
                           digest(data.ReadAsArray(10, 20, 400, 300).tobytes())]
    for path in sorted(where.glob("*.gpkg")) + [where / f"fields.{x}" for x in
                                                ("shp", "geojson", "fgb")]:
        layer = (source := ogr.Open(str(path))).GetLayer(0)
        layer.SetSpatialFilterRect(8, 48, 9, 49)
        found = sorted((f.GetFID(), f["crop"], f["yield"], f.geometry().ExportToWkt())
                       for f in layer)
        seen[path.name] = [source.GetLayerCount(), len(found), digest(repr(found).encode())]
    for name in ("model.nc", "records.nc", "records64.nc"):
        with netCDF4.Dataset(where / name) as file:
            seen[name] = [len(file.dimensions["time"]), digest(file["u10"][:, 90, 90].tobytes()),
                          digest(file["t2m"][7].tobytes())]
    with h5py.File(where / "stack.h5") as file:
        seen["stack.h5"] = [sorted(file), digest(file["scene"][:, 17, 300].tobytes()),
                            digest(file["packed"][:].tobytes())]
    group = zarr.open_consolidated(str(where / "stack.zarr"))
    seen["stack.zarr"] = [group["scene"].shape, digest(group["scene"][:, 5, 5].tobytes()),
                          digest(group["scene"][:].tobytes())]
    for name in ("all.grib", "sorted.grib"):
        listed = run("grib_ls", "-p", "edition,level,dataDate,max", where / name)
        listed = listed.replace(os.fsencode(where), b"")
        seen[name] = [digest(listed),
                      int(run("grib_count", where / name)),
                      digest(run("grib_get_data", "-w", "count=2", where / name))]
    return seen


def main():
    what, where = sys.argv[1], Path(sys.argv[2])
    # GeoPackage keeps the time of writing.
    os.environ["OGR_CURRENT_DATE"] = "2024-01-01T00:00:00.000Z"
    gdal.SetConfigOption("OGR_CURRENT_DATE", os.environ["OGR_CURRENT_DATE"])
    if what == "write":
        write(where)
    else:
        json.dump(read(where), sys.stdout)


if __name__ == "__main__":
    main()
