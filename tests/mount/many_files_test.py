"""100,000 small files: created by four programs at once, listed, read back after a remount."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

PROGRAMS = 4
FILES = 100_000 if SLOWNESS == 1 else 10_000
FILES_PER_DIRECTORY = 1000


def content(number):
    return (b"file %08d: " % number) * (1 + number % 60)


def place(number):
    return f"d{number // FILES_PER_DIRECTORY:04d}/f{number:08d}"


def create(arguments):
    root, numbers = arguments
    for number in numbers:
        if number % FILES_PER_DIRECTORY == 0:
            os.mkdir(f"{root}/{os.path.dirname(place(number))}")
        with open(f"{root}/{place(number)}", "wb", buffering=0) as file:
            file.write(content(number))


def wrong_files(arguments):
    root, numbers = arguments
    wrong = []
    for number in numbers:
        with open(f"{root}/{place(number)}", "rb", buffering=0) as file:
            if file.read(4096) != content(number):
                wrong.append(number)
    return wrong


def timed(what, call, *arguments):
    began = time.monotonic()
    value = call(*arguments)
    seconds = time.monotonic() - began
    note(f"{what}: {seconds:.1f} s, {FILES / seconds:.0f} files/s")
    return value


def listing(root):
    return {e.name for d in os.scandir(root) for e in os.scandir(d.path)}


def test(options):
    del options
    directories = FILES // FILES_PER_DIRECTORY
    parts = [range(p * directories // PROGRAMS * FILES_PER_DIRECTORY,
                   (p + 1) * directories // PROGRAMS * FILES_PER_DIRECTORY)
             for p in range(PROGRAMS)]
    expected = {os.path.basename(place(n)) for n in range(FILES)}
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        work = [(str(mount.point), part) for part in parts]
        with multiprocessing.Pool(PROGRAMS) as pool:
            timed("created", pool.map, create, work)
            timed("sync", os.sync)
            check_equal(timed("listed", listing, mount), expected, f"{FILES} names are listed")
            mount.remount()
            check_equal(timed("listed cold", listing, mount), expected, "also after a remount")
            wrong = sum(timed("read cold", pool.map, wrong_files, work), [])
            check_equal(wrong, [], "all contents are exact")
        peak = mount.peak_memory()
        check(peak < 1 << 30, f"peak memory of the mount: {peak / 1e6:.0f} MB")
        stripes = cloud.status()["stripes"]["total"]
        check(stripes < FILES / 10, f"small files share stripes: {stripes} stripes")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
