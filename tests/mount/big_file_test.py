"""A file much larger than the mount's memory limits streams through; its memory stays bounded.

Also what large files cost at the sites: at most 1.70 bytes per byte for random data with rs-3-2,
less than one for text.
"""

import hashlib
import os
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import SLOWNESS, Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

GIB = 1 << 30
CHUNK = 4 << 20


def chunks(seed, size):
    """Random-looking bytes made quickly: one random chunk, numbered in every 4 KiB."""
    base = bytearray(random.Random(seed).randbytes(CHUNK))
    for number in range(size // CHUNK):
        for at in range(0, CHUNK, 4096):
            base[at:at + 16] = hashlib.md5(b"%d %d" % (number, at)).digest()
        yield bytes(base)


def usage(cloud):
    status = cloud.status()
    return status["capacity"]["stored_bytes"], status["capacity"]["logical_bytes"]


def test(options):
    size = (GIB // 4 if SLOWNESS > 1 else 3 * GIB)
    if shutil.disk_usage("/var/tmp").free < 4 * size:
        size = GIB
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        began = time.monotonic()
        digest = hashlib.sha256()
        with open(mount / "large", "wb", buffering=0) as file:
            for chunk in chunks(options.seed, size):
                digest.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view):]
            os.fsync(file.fileno())
        seconds = time.monotonic() - began
        note(f"written at {size / seconds / 1e6:.0f} MB/s")
        stored, logical = usage(cloud)
        check(logical >= size, "status counts the file's bytes", (stored, logical))
        check(stored / logical <= 1.70,
              f"random data: {stored / logical:.3f} bytes stored per byte", (stored, logical))

        def read_back(what):
            began = time.monotonic()
            seen = hashlib.sha256()
            with open(mount / "large", "rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    seen.update(chunk)
            seconds = time.monotonic() - began
            check_equal(seen.hexdigest(), digest.hexdigest(), f"{what}: exact")
            note(f"read at {size / seconds / 1e6:.0f} MB/s")

        read_back("right after writing")
        peak = mount.peak_memory()
        check(peak < GIB, f"peak memory of the mount: {peak / 1e6:.0f} MB")
        mount.remount()
        cloud.take_away("site2")
        read_back("after a remount, with a site away")
        cloud.put_back_and_wait("site2")
        peak = mount.peak_memory()
        check(peak < GIB, f"peak memory of the mount: {peak / 1e6:.0f} MB")

        os.unlink(mount / "large")
        cloud.wait_until_empty()
        text = trees.text_like(random.Random(options.seed), 64 << 20)
        trees.write_file(mount / "text", text, sync=True)
        stored, logical = usage(cloud)
        check(stored < logical, f"text: {stored / logical:.3f} bytes stored per byte")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
