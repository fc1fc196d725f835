"""The command on files as GDAL makes and sees them: metadata, overviews, samples, refusals, exit codes.

Usage: gdal_test.py DATACLOUD (the program). Prints its seed.
"""

import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from osgeo import gdal, osr

gdal.UseExceptions()
gdal.SetConfigOption("CPL_LOG", "/dev/null")  # a marked COG is one that was edited, and GDAL warns
PROGRAM = sys.argv[1]
SEED = int(os.environ.get("DATACLOUD_SEED", random.randrange(1 << 32)))
print(f"DATACLOUD_SEED={SEED}")
RANDOM = np.random.default_rng(SEED)
ICC = "AAAAJGljYw=="  # GDAL does not look into it


def run(*words, expect=0):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != expect:
        sys.exit(f"datacloud {' '.join(map(str, words))}: status {done.returncode}, not {expect}: "
                 f"{done.stdout}{done.stderr}")
    return done


def report(*words, expect=0):
    return json.loads(run("--json", *words, expect=expect).stdout)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def scene(width, height, bands, dtype):
    """Smooth ground with detail, as satellite pictures have."""
    y, x = np.mgrid[0:height, 0:width]
    top = np.iinfo(dtype).max
    planes = []
    for band in range(bands):
        ground = (np.sin(x / (17 + band)) + np.cos(y / 23) + 2) / 4
        noise = RANDOM.normal(0, 0.01, (height, width))
        planes.append(np.clip((ground + noise) * top, 0, top).astype(dtype))
    return np.stack(planes)


def make(path, driver, samples, options=(), finish=None):
    bands, height, width = samples.shape
    kind = gdal.GDT_Byte if samples.dtype == np.uint8 else gdal.GDT_UInt16
    memory = gdal.GetDriverByName("MEM").Create("", width, height, bands, kind)
    memory.SetGeoTransform((600000.0, 10.0, 0.0, 5700000.0, 0.0, -10.0))
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32632)
    memory.SetProjection(reference.ExportToWkt())
    memory.SetMetadata({"TIFFTAG_SOFTWARE": "a test", "OWN": "ours"})
    for i in range(bands):
        memory.GetRasterBand(i + 1).WriteArray(samples[i])
        if driver != "PNG":
            memory.GetRasterBand(i + 1).SetDescription(f"band {i}")
            memory.GetRasterBand(i + 1).SetNoDataValue(0)
    gdal.GetDriverByName(driver).CreateCopy(str(path), memory, options=list(options))
    if driver == "PNG":  # what GDAL writes beside it
        Path(f"{path}.aux.xml").unlink(missing_ok=True)
    if finish:
        finish(path)


def add_overviews(path):
    data = gdal.Open(str(path), gdal.GA_Update)
    data.BuildOverviews("AVERAGE", [2, 4])
    data = None  # noqa: F841


def view(path):
    """Everything GDAL tells of a file, and all samples of all levels."""
    facts = gdal.Info(str(path), format="json", listMDD=True, extraMDDomains=["all"])
    facts.pop("description")
    facts.pop("files")
    facts["metadata"].pop("DERIVED_SUBDATASETS", None)  # names the file
    facts["metadata"]["metadataDomains"].sort()
    levels = []
    data = gdal.Open(str(path))
    for i in range(data.RasterCount):
        band = data.GetRasterBand(i + 1)
        levels.append(band.ReadAsArray())
        levels += [band.GetOverview(o).ReadAsArray() for o in range(band.GetOverviewCount())]
        levels.append(band.GetMaskBand().ReadAsArray())
    return facts, levels


def same(one, two):
    return one[0] == two[0] and all(np.array_equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def difference(one, two):
    return [(key, one.get(key), two.get(key)) for key in {*one, *two} if one.get(key) != two.get(key)]


def without_edition(facts):
    """GDAL tells a COG's layout only while nobody has edited it."""
    facts = json.loads(json.dumps(facts))
    facts.get("metadata", {}).get("IMAGE_STRUCTURE", {}).pop("LAYOUT", None)
    return facts


def round_trips(work, mark, key):
    deflate = ("TILED=YES", "COMPRESS=DEFLATE", "PREDICTOR=2")
    cases = [
        ("strips.tif", "GTiff", (3, np.uint8), ("PHOTOMETRIC=RGB",), None),
        ("tiles.tif", "GTiff", (3, np.uint8), deflate, add_overviews),
        ("cog.tif", "COG", (3, np.uint8), ("BLOCKSIZE=128", "COMPRESS=LZW"), None),
        ("big.tif", "GTiff", (1, np.uint16), ("BIGTIFF=YES", "COMPRESS=ZSTD"), add_overviews),
        ("bands.tif", "GTiff", (9, np.uint16), ("TILED=YES", "INTERLEAVE=BAND", "COMPRESS=LZW"), None),
        ("msb.tif", "GTiff", (4, np.uint16), ("ENDIANNESS=BIG", "ALPHA=YES", "PHOTOMETRIC=RGB"), None),
        ("icc.tif", "GTiff", (3, np.uint8), ("COMPRESS=DEFLATE", "ZLEVEL=9", f"SOURCE_ICC_PROFILE={ICC}"), None),
        ("sparse.tif", "GTiff", (1, np.uint8), ("SPARSE_OK=TRUE", "TILED=YES", "COMPRESS=LZW"), None),
        ("grey.png", "PNG", (1, np.uint8), (), None),
        ("rgba.png", "PNG", (4, np.uint16), ("ZLEVEL=9",), None),
    ]
    for name, driver, (bands, dtype), options, finish in cases:
        original, marked, restored = work / name, work / f"marked-{name}", work / f"restored-{name}"
        samples = scene(413, 531, bands, dtype)
        if "sparse" in name:
            samples[:, 100:500, :] = 0
        make(original, driver, samples, options, finish)
        before = view(original)
        for profile in ("notice", "conceal"):
            facts = report("watermark", "apply", original, marked, "--mark", mark, "--key", key, "--tile",
                           "--profile", profile, "--force")
            check(facts["profile"] == profile and facts["format"] != "", f"{name}: the report")
            under = view(marked)
            check(without_edition(under[0]) == without_edition(before[0]),
                  f"{name}: metadata of the marked file: {difference(under[0], before[0])}")
            levels = [i for i in range(len(before[1])) if "mask" not in name]
            changed = [np.mean(before[1][i] != under[1][i]) for i in levels]
            has_alpha = bands == 4 or "sparse" in name
            check(max(changed) > 0.5, f"{name}: the mark is not there: {changed}")
            if not has_alpha:  # every level but masks
                per_band = len(before[1]) // bands
                check(all(c > 0.3 for i, c in enumerate(changed) if (i + 1) % per_band),
                      f"{name}: an overview is not marked: {changed}")
            report("watermark", "verify", marked, "--key", key)
            facts = report("watermark", "remove", marked, restored, "--key", key, "--force")
            check(facts["samples_identical"], name)
            check(same(view(restored), before), f"{name}: restored samples or metadata")
            check(facts["file_identical"] == (sha256(original) == sha256(restored)),
                  f"{name}: what is said of the file's bytes")
            check(facts["file_identical"], f"{name}: the bytes are not the original's")
        print(f"{name}: exact, and the file's bytes too")


def other_encoders(work, mark, key):
    """Files whose compression is not reproduced are restored in samples and metadata, and that is said."""
    original, marked, restored = work / "o.tif", work / "om.tif", work / "or.tif"
    make(original, "GTiff", scene(300, 200, 1, np.uint8), ("COMPRESS=DEFLATE", "ZLEVEL=6"))
    data = bytearray(original.read_bytes())
    opened = gdal.Open(str(original))
    info = opened.GetRasterBand(1)
    offset = int(info.GetMetadataItem("BLOCK_OFFSET_0_0", "TIFF"))
    size = int(info.GetMetadataItem("BLOCK_SIZE_0_0", "TIFF"))
    import zlib
    rows = zlib.decompress(bytes(data[offset:offset + size]))
    compressor = zlib.compressobj(1, zlib.DEFLATED, 15, 1, zlib.Z_HUFFMAN_ONLY)
    other = compressor.compress(rows) + compressor.flush()
    if len(other) <= size:
        data[offset:offset + len(other)] = other
    else:  # an encoder nobody else is: a stored block, behind the file
        compressor = zlib.compressobj(0)
        other = compressor.compress(rows) + compressor.flush()
        where = data.find(int(offset).to_bytes(4, "little"))
        counts = data.find(int(size).to_bytes(4, "little"))
        check(where > 0 and counts > 0, "the first strip's numbers were not found")
        data[where:where + 4] = len(data).to_bytes(4, "little")
        data[counts:counts + 4] = len(other).to_bytes(4, "little")
        data += other
    original.write_bytes(data)
    before = view(original)
    report("watermark", "apply", original, marked, "--mark", mark, "--key", key, "--tile")
    facts = report("watermark", "remove", marked, restored, "--key", key)
    check(not facts["file_identical"] and sha256(original) != sha256(restored), "foreign bytes were reproduced")
    check(same(view(restored), before), "foreign encoder: samples or metadata")
    text = run("watermark", "remove", marked, work / "or2.tif", "--key", key).stdout
    check("The file's bytes are not" in text, "the command does not say that bytes differ")
    print("foreign encoder: samples and metadata exact, and said so")


def refusals(work, mark, key):
    def refused(path, *words):
        done = run("watermark", "apply", path, work / "none.tif", "--mark", mark, "--key", key, expect=1)
        text = done.stderr
        check(str(path) in text and all(word in text for word in words), f"{path.name}: {text}")
        check(len(text.strip().splitlines()) <= 2 and not (work / "none.tif").exists(), f"{path.name}: {text}")

    memory = gdal.GetDriverByName("MEM").Create("", 64, 64, 1, gdal.GDT_Float32)
    for kind, word in ((gdal.GDT_Float32, "floating point"), (gdal.GDT_Int16, "signed"), (gdal.GDT_CInt16, "complex"),
                       (gdal.GDT_UInt32, "32 bits")):
        path = work / f"kind{kind}.tif"
        gdal.GetDriverByName("GTiff").Create(str(path), 64, 64, 1, kind).FlushCache()
        refused(path, word)
    memory = gdal.GetDriverByName("MEM").Create("", 64, 64, 1, gdal.GDT_Byte)
    colours = gdal.ColorTable()
    colours.SetColorEntry(1, (10, 20, 30, 255))
    memory.GetRasterBand(1).SetColorTable(colours)
    for name, driver in (("palette.tif", "GTiff"), ("palette.png", "PNG")):
        gdal.GetDriverByName(driver).CreateCopy(str(work / name), memory)
        refused(work / name, "palette")
    path = work / "jpeg.tif"
    make(path, "GTiff", scene(64, 64, 3, np.uint8), ("COMPRESS=JPEG",))
    refused(path, "JPEG")
    make(work / "bits.tif", "GTiff", scene(64, 64, 1, np.uint8) // 255, ("NBITS=1",))
    refused(work / "bits.tif", "1 bit")
    make(work / "good.tif", "GTiff", scene(64, 64, 1, np.uint8))
    done = run("watermark", "apply", work / "good.tif", work / "o.jpg", "--mark", mark, "--key", key, expect=1)
    check("lossy" in done.stderr, done.stderr)
    run("watermark", "apply", work / "absent.tif", work / "none.tif", "--mark", mark, "--key", key, expect=1)
    print("refusals: by name")


def command_line(work, mark):
    good, marked, fresh = work / "good.tif", work / "cm.tif", work / "fresh.key"
    base = ("watermark", "apply", good, marked, "--mark", mark)
    run(*base, expect=2)  # no key
    run(*base, "--key-out", fresh, "--position", "nowhere", expect=2)
    run(*base, "--key-out", fresh, "--tile", "--position", "centre", expect=2)
    check(not fresh.exists(), "a key was made for nothing")
    run("watermark", "apply", work / "palette.tif", marked, "--mark", mark, "--key-out", fresh, expect=1)
    check(not fresh.exists() and not marked.exists(), "a failure left something behind")
    run(*base, "--key-out", fresh, "--position", "5,6")
    check(stat.S_IMODE(fresh.stat().st_mode) == 0o600, "the key's mode")
    before = sha256(marked)
    run(*base, "--key", fresh, expect=1)
    check(sha256(marked) == before, "overwritten without --force")
    run(*base, "--key-out", fresh, "--force", expect=1)  # a key is never overwritten
    run(*base, "--key", fresh, "--force")
    check(sha256(marked) != before, "each marking is another")
    text = run("watermark", "inspect", marked).stdout
    check("notice" in text and str(report("watermark", "inspect", marked)["picture"]) in text, text)
    run("watermark", "inspect", good, expect=1)
    other = work / "other.key"
    run("watermark", "apply", good, work / "x.tif", "--mark", mark, "--key-out", other)
    done = run("watermark", "remove", marked, work / "never.tif", "--key", other, expect=1)
    check("key is not the one" in done.stderr and not (work / "never.tif").exists(), done.stderr)
    fresh.chmod(0o644)
    done = run("watermark", "verify", marked, "--key", fresh, expect=1)
    check("chmod 600" in done.stderr, done.stderr)
    (work / "good.tif.ovr").write_bytes(b"overviews")
    fresh.chmod(0o600)
    done = run(*base, "--key", fresh, "--force")
    check("good.tif.ovr is not marked" in done.stderr, done.stderr)
    left = [p.name for p in work.iterdir() if p.name.startswith(".")]
    check(not left, f"temporary files are left: {left}")
    print("command line: as documented")


def main():
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        mark, key = work / "logo.png", work / "k"
        logo = np.zeros((4, 40, 120), np.uint8)
        logo[0], logo[1], logo[3] = 230, 60, 255
        logo[3, :8, :8] = 0  # a transparent corner
        logo[3][:, ::16] = 0
        make(mark, "PNG", logo)
        make(work / "first.tif", "GTiff", scene(64, 64, 1, np.uint8))
        run("watermark", "apply", work / "first.tif", work / "f.tif", "--mark", mark, "--key-out", key)
        round_trips(work, mark, key)
        other_encoders(work, mark, key)
        refusals(work, mark, key)
        command_line(work, mark)


if __name__ == "__main__":
    main()
