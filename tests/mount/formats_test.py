"""Public data formats of the field: what their libraries write and read on a mount is what they write
and read on a local disk, byte for byte; and reading little of a large file fetches little of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))
import harness  # noqa: E402
from cloud import Cloud, sha256_tree  # noqa: E402
from harness import check, check_equal  # noqa: E402
from read_counts import free_port, settled  # noqa: E402

PYTHON = "/usr/bin/python3"  # Debian's, whose modules are there
BLOCK, MIB = 64 << 10, 1 << 20


def python(*words):
    done = subprocess.run([PYTHON, *map(str, words)], capture_output=True, text=True, timeout=100,
                          check=False)
    if done.returncode != 0:
        raise harness.CheckFailed(f"python {' '.join(map(str, words))}: {done.stderr[-3000:]}")
    return done.stdout


def formats(what, where):
    return python(SUPPORT / "formats.py", what, where)


def files_are_equal(cloud, mount):
    local = cloud.root / "local"
    formats("write", local)
    formats("write", mount / "formats")
    expected = sha256_tree(local)
    check(len(expected) > 60, f"{len(expected)} files and directories are written")
    check_equal(sha256_tree(mount / "formats"), expected, "on the mount they are the same")
    read = json.loads(formats("read", local))
    check_equal(json.loads(formats("read", mount / "formats")), read, "and read as the same")
    mount.remount()
    check_equal(json.loads(formats("read", mount / "formats")), read, "and from a cold mount")
    check_equal(sha256_tree(mount / "formats"), expected, "every byte")
    # What was written here is read there, and the other way round.
    shutil.copytree(mount / "formats", cloud.root / "back")
    check_equal(json.loads(formats("read", cloud.root / "back")), read, "copied to a local disk")


def little_is_fetched(cloud, mount, port):
    """Each of these used to fetch what lies between, or the whole file."""
    where = mount / "large"
    where.mkdir()
    cloud.tool("policy", "set", where, "--compress", "none")
    with open(where / "plain.bin", "wb") as file:
        for _ in range(80):
            file.write(os.urandom(MIB))
    python("-c", "import h5py, numpy; r = numpy.random.default_rng(1); "
           f"h5py.File({str(where / 'stack.h5')!r}, 'w').create_dataset('scene', chunks=(1, 256, 256), "
           "data=r.integers(0, 4096, (40, 512, 512), dtype='u2'))")
    python("-c", "import numpy; from osgeo import gdal; gdal.UseExceptions(); "
           "s = gdal.GetDriverByName('MEM').Create('', 3000, 3000, 3); "
           "s.WriteArray(numpy.random.default_rng(1).integers(0, 255, (3, 3000, 3000), dtype='u1')); "
           f"gdal.Translate({str(where / 'scene.jp2')!r}, s, format='JP2OpenJPEG', "
           "creationOptions=['QUALITY=60', 'BLOCKXSIZE=512', 'BLOCKYSIZE=512']); "
           f"gdal.Translate({str(where / 'scene.tif')!r}, s, format='COG')")
    subprocess.run(["sync", mount], check=True, timeout=60)

    def fetches(what, code, bytes_max):
        mount.remount()
        before = settled(port)
        python("-c", code)
        read = settled(port) - before
        check(0 < read <= bytes_max, f"{what}: {read / 1e6:.2f} MB are fetched, "
              f"at most {bytes_max / 1e6:.2f}")

    plain = f"import os; fd = os.open({str(where / 'plain.bin')!r}, os.O_RDONLY); "
    near = 1.3 * 1.01  # seals and shards' padding
    fetches("16 reads of 4 KiB, 4 MiB apart",
            plain + "[os.pread(fd, 4096, i << 22) for i in range(16)]", 16 * BLOCK * near)
    fetches("the same with POSIX_FADV_RANDOM",
            plain + "os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM); "
            "[os.pread(fd, 4096, i << 22) for i in range(16)]", 16 * BLOCK * near)
    fetches("64 reads of 64 KiB, backward, 1 MiB apart",
            plain + "[os.pread(fd, 65536, (79 - i) << 20) for i in range(64)]", 64 * BLOCK * near)
    fetches("4 MiB from the middle",
            plain + "[os.pread(fd, 65536, (30 << 20) + (i << 16)) for i in range(64)]",
            4 * MIB * near)
    # A chunk of 128 KiB lies in three blocks; h5py reads the file's tables besides.
    fetches("a pixel through 40 chunks of an HDF5 stack",
            f"import h5py; h5py.File({str(where / 'stack.h5')!r})['scene'][:, 300, 300]",
            (40 * 3 + 8) * BLOCK * near)
    window = ("from osgeo import gdal; "
              "gdal.Open({!r}).ReadAsArray(1700, 2100, 100, 100)")
    size = os.stat(where / "scene.jp2").st_size
    fetches(f"100 x 100 pixels of a JPEG2000 of {size / 1e6:.1f} MB",
            window.format(str(where / "scene.jp2")), size / 3)
    fetches("the same of a COG", window.format(str(where / "scene.tif")), 2.5 * MIB)
    fetches("all of it", plain + "[os.pread(fd, 1 << 20, i << 20) for i in range(80)]",
            80 * MIB * 1.01)


def test(options):
    port = free_port()
    with Cloud() as cloud:
        cloud.start_daemon()
        # A read that is raced by a decode would be counted twice.
        mount = cloud.mount("hedge_after_ms=20s", f"metrics=127.0.0.1:{port}")
        files_are_equal(cloud, mount)
        little_is_fetched(cloud, mount, port)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, seconds=200)
