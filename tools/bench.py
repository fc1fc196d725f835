"""Times the same work on three file systems of this machine; see bench.sh.

Every repetition runs all work on each file system, in changing order, so that a slow moment of the
machine meets them alike. "Cold" means: unmounted, the kernel's caches dropped, mounted again. All
writing is timed until it is durable (fsync). Values are medians; the spread is in the table.
"""

import argparse
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from cloud import BASE, Cloud, drop_caches, is_mounted  # noqa: E402

IMAGES = 1000
SMALL_FILES = 2000
SMALL_BYTES = 4096
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True,
                          timeout=900).stdout


# --- File systems -------------------------------------------------------------------------------


class Local:
    name = "local disk"

    def __init__(self, work):
        self.path = work / "local"
        self.path.mkdir()

    def cold(self):
        drop_caches()

    def close(self):
        pass


class Gocryptfs:
    name = "gocryptfs"

    def __init__(self, work):
        self.cipher, self.path = work / "gocryptfs-data", work / "gocryptfs"
        self.password = work / "gocryptfs-password"
        self.password.write_text("bench\n")
        for directory in (self.cipher, self.path):
            directory.mkdir()
        run("gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", self.password, self.cipher)
        self.mount()

    def mount(self):
        subprocess.run(["gocryptfs", "-q", "-allow_other", "-passfile", str(self.password),
                        str(self.cipher), str(self.path)], check=True, timeout=60,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def cold(self):
        run("umount", self.path)
        drop_caches()
        self.mount()

    def close(self):
        if is_mounted(self.path):
            subprocess.run(["umount", "-l", str(self.path)], check=False)


class DataCloud:
    name = "Data Cloud"

    def __init__(self, work):
        del work
        self.cloud = Cloud()
        self.cloud.start_daemon()
        self.mount = self.cloud.mount()
        self.path = self.mount.point

    def cold(self):
        self.mount.remount()

    def close(self):
        self.cloud.close()


# --- Data ---------------------------------------------------------------------------------------


def random_data(path, size):
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))


def large_pictures(pictures):
    found = [p for p in pictures.rglob("*") if p.suffix in (".jpg", ".png") and p.is_file()
             and p.stat().st_size > 300_000]
    return sorted(found)


def raw_pictures(path, size, pictures):
    """Photographs as uncompressed rasters, one after the other, as instruments deliver them."""
    with open(path, "wb") as file:
        while file.tell() < size:
            for picture in large_pictures(pictures):
                done = subprocess.run(["convert", f"{picture}[0]", "-depth", "8", "ppm:-"],
                                      check=False, capture_output=True, timeout=120)
                file.write(done.stdout[:size - file.tell()])
                if file.tell() >= size:
                    break
            if file.tell() == 0:
                sys.exit("bench: no picture could be converted")


def image_tiles(directory, pictures):
    """1,000 JPEG tiles of 100 to 200 KiB, cut from large photographs and maps."""
    directory.mkdir()
    kept = 0
    for edge, quality in ((512, 95), (640, 94), (448, 97), (768, 90), (384, 99), (1024, 88)):
        for picture in large_pictures(pictures):
            scratch = directory / "scratch"
            scratch.mkdir(exist_ok=True)
            subprocess.run(["convert", f"{picture}[0]", "-crop", f"{edge}x{edge}", "+repage",
                            "-quality", str(quality), str(scratch / "t_%04d.jpg")],
                           check=False, capture_output=True, timeout=300)
            for tile in sorted(scratch.iterdir()):
                if 100 << 10 <= tile.stat().st_size <= 200 << 10 and kept < IMAGES:
                    tile.rename(directory / f"tile-{kept:04d}.jpg")
                    kept += 1
            shutil.rmtree(scratch)
            if kept >= IMAGES:
                return
    sys.exit(f"bench: only {kept} tiles could be made")


def prepare(data, options):
    """Made once and kept: it takes longer than a repetition."""
    size = options.megabytes << 20
    made = [("random", random_data, (size,)), ("raster", raw_pictures, (size, options.pictures)),
            ("images", image_tiles, (options.pictures,))]
    data.mkdir(parents=True, exist_ok=True)
    for name, make, arguments in made:
        target = data / (name if name == "images" else f"{name}-{options.megabytes}")
        if not target.exists():
            print(f"preparing {name} data", file=sys.stderr)
            draft = data / f"{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.unlink(missing_ok=True)
            make(draft, *arguments)
            draft.rename(target)
        yield target


# --- Work: each returns {row: seconds} ----------------------------------------------------------


class Timer:
    def __enter__(self):
        self.began = time.monotonic()
        return self

    def __exit__(self, *unused):
        self.seconds = time.monotonic() - self.began


def sequential(system, source, label):
    target = system.path / "large"
    warm_up(source)
    with Timer() as write:
        run("dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
    system.cold()
    with Timer() as read:
        run("dd", f"if={target}", "of=/dev/null", "bs=1M", "status=none")
    os.unlink(target)
    return {f"sequential write, {label}": write.seconds, f"sequential read cold, {label}":
            read.seconds}


def warm_up(path):
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def small_files(system):
    directory = system.path / "small"
    directory.mkdir()
    data = os.urandom(SMALL_BYTES)
    with Timer() as create:
        for i in range(SMALL_FILES):
            fd = os.open(directory / f"f{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.close(fd)
    with Timer() as sync:
        for i in range(SMALL_FILES):
            fd = os.open(directory / f"f{i}", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    with Timer() as remove:
        shutil.rmtree(directory)
    return {"create 2,000 files of 4 KiB": create.seconds,
            "create 2,000 files of 4 KiB, until durable": create.seconds + sync.seconds,
            "remove 2,000 files": remove.seconds}


def read_images(system, source, rng):
    directory = system.path / "images"
    shutil.copytree(source, directory)
    for entry in os.scandir(directory):
        fd = os.open(entry.path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    system.cold()
    names = sorted(os.listdir(source))
    rng.shuffle(names)

    def read_all():
        with Timer() as timer:
            for name in names:
                with open(directory / name, "rb", buffering=0) as file:
                    while file.read(1 << 20):
                        pass
        return timer.seconds

    seconds = {"read 1,000 images cold": read_all(), "read 1,000 images warm": read_all()}
    shutil.rmtree(directory)
    return seconds


# --- Report -------------------------------------------------------------------------------------


def machine(disk_rate=None):
    cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo")
                if l.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = run("stat", "-f", "-c", "%T", BASE).strip()
    disk = f"; the disk takes {disk_rate:.0f} MB/s sequentially" if disk_rate else ""
    return (f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB memory, Linux {platform.release()}, "
            f"{kind}{disk}.")


def commit():
    try:
        return run("git", "-C", ROOT, "describe", "--always", "--dirty").strip()
    except (subprocess.CalledProcessError, OSError):
        return "unknown"


def amount(row, megabytes):
    """What a row counts, and in which unit."""
    if row.startswith("sequential"):
        return megabytes * 1.048576, "MB/s"
    return (IMAGES if "images" in row else SMALL_FILES), "/s"


def table(samples, systems, megabytes):
    lines = ["| work | " + " | ".join(s.name for s in systems)
             + " | of gocryptfs | of local | spread |", "|---|" + "---:|" * (len(systems) + 3)]
    for row, seconds in samples.items():
        count, unit = amount(row, megabytes)
        rates = {s.name: count / statistics.median(seconds[s.name]) for s in systems}
        ours = rates.get("Data Cloud", 0)
        mine = seconds.get("Data Cloud", [1])
        cells = [f"{rates[s.name]:.0f} {unit}" for s in systems]
        ratios = [f"{ours / rates[n]:.2f}" if n in rates else "" for n in ("gocryptfs",
                                                                          "local disk")]
        spread = (max(mine) - min(mine)) / statistics.median(mine)
        lines.append(f"| {row} | " + " | ".join(cells + ratios) + f" | {spread:.0%} |")
    return "\n".join(lines)


def put_into_page(report, begin, end):
    """Replaces what stands between the marks in docs/benchmarks.md."""
    page = ROOT / "docs" / "benchmarks.md"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{report}\n{end}{after}")


def main():
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1024, help="of the large files")
    parser.add_argument("--pictures", type=Path, default=Path("/var/cache/datacloud/pictures"))
    parser.add_argument("--data", type=Path, default=Path("/var/cache/datacloud/bench"))
    parser.add_argument("--only", default="", help="of: sequential, small, images (commas between)")
    parser.add_argument("--systems", default="local,gocryptfs,datacloud")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    random_file, raster_file, images = prepare(options.data, options)
    only = options.only.split(",") if options.only else ["sequential", "small", "images"]
    rng = random.Random(7)
    work = BASE / f"dcbench-{os.getpid()}"
    work.mkdir()
    kinds = {"local": Local, "gocryptfs": Gocryptfs, "datacloud": DataCloud}
    systems = []
    samples = {}
    try:
        for name in options.systems.split(","):
            systems.append(kinds[name](work))
        for repetition in range(options.repetitions):
            order = systems[repetition % len(systems):] + systems[:repetition % len(systems)]
            for system in order:
                print(f"repetition {repetition + 1}: {system.name}", file=sys.stderr)
                seconds = {}
                if "sequential" in only:
                    seconds |= sequential(system, random_file, "random data")
                    seconds |= sequential(system, raster_file, "raw photographs")
                if "small" in only:
                    seconds |= small_files(system)
                if "images" in only:
                    seconds |= read_images(system, images, rng)
                for row, value in seconds.items():
                    samples.setdefault(row, {}).setdefault(system.name, []).append(value)
    finally:
        for system in systems:
            system.close()
        shutil.rmtree(work, ignore_errors=True)
    local = samples.get("sequential write, random data", {}).get("local disk")
    disk_rate = options.megabytes * 1.048576 / statistics.median(local) if local else 0
    report = (f"{machine(disk_rate)}\n\nRevision {commit()}, {time.strftime('%Y-%m-%d')}, "
              f"{options.repetitions} repetitions, medians; large files of {options.megabytes} MiB; "
              f"rs-3-2 over five directories of the same disk.\n\n"
              + table(samples, systems, options.megabytes))
    print(report)
    if options.write:
        put_into_page(report, BEGIN, END)


if __name__ == "__main__":
    main()
