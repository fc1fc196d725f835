"""Times small overwrites, as databases make them, on three file systems of this machine, and counts
what they move between sites; see bench_updates.sh, which starts the clusters for the latter.

fio overwrites at random places of a file that is there, each piece durable (fsync) before the thread
that wrote it goes on. Every repetition runs all work on each place, in changing order; values are
medians. Bytes between sites are what `datacloud traffic` counts.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import DataCloud, Gocryptfs, Local, Timer, commit, machine, put_into_page, run  # noqa: E402
from cloud import BASE, Cloud  # noqa: E402

BEGIN, END = "<!-- measured updates: begin -->", "<!-- measured updates: end -->"
BLOCKS = ("4KiB", "16KiB", "64KiB")
SHARDS = ("4MiB", "512KiB", "128KiB")
FILE_BYTES = 64 << 20
ROWS, ROW_BYTES, TRANSACTIONS = 20_000, 200, 200
OVERWRITES, OVERWRITTEN_BYTES = 200, 64 << 20


class Place:
    """A directory to work in: of a whole file system, or one with a policy of its own."""

    def __init__(self, name, path):
        self.name, self.path = name, path


def directory_with_blocks(cloud, mount, block, shard="4MiB"):
    path = mount / f"blocks-{block}-{shard}"
    path.mkdir()
    cloud.tool("policy", "set", path, "--block", block, "--shard", shard, "--compress", "none")
    return path


def make_places(work, opened):
    opened += [Local(work), Gocryptfs(work), DataCloud(work)]
    places = [Place(system.name, system.path) for system in opened[:2]]
    ours = opened[2]
    places += [Place(f"Data Cloud, {b[:-3]} KiB blocks",
                     directory_with_blocks(ours.cloud, ours.mount, b)) for b in BLOCKS]
    small = directory_with_blocks(ours.cloud, ours.mount, BLOCKS[0], SHARDS[-1])
    return places + [Place(f"Data Cloud, {BLOCKS[0][:-3]} KiB blocks, {SHARDS[-1][:-3]} KiB shards",
                           small)]


# --- Work: each returns {row: per second} -----------------------------------------------------------


def durable_file(path, size):
    path.write_bytes(os.urandom(size))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def fio(place, seconds):
    """Overwrites at random, each followed by fsync, of files that are durable at the beginning."""
    rates = {}
    for size in (4, 64):
        for what, threads, files in (("1 thread", 1, 1), ("16 threads, one file", 16, 1),
                                     ("16 threads, a file each", 16, 16)):
            paths = [place.path / f"fio-{files}-{i}" for i in range(files)]
            for path in paths:
                if not path.exists():
                    durable_file(path, FILE_BYTES // files)
            command = ["fio", "--rw=randwrite", f"--bs={size}k", "--fsync=1", "--ioengine=psync",
                       "--thread", "--group_reporting", "--time_based", f"--runtime={seconds}",
                       "--refill_buffers", "--overwrite=1", "--output-format=json",
                       f"--size={FILE_BYTES // files}", f"--numjobs={threads // files}"]
            for path in paths:
                command += [f"--name={path.name}", f"--filename={path}"]
            report = json.loads(run(*command))
            rates[f"fio: overwrite {size} KiB at random, fsync each, {what}"] = \
                sum(job["write"]["iops"] for job in report["jobs"])
    return rates


def sqlite(place, rng):
    """Transactions of one updated row, each durable, in a database of 4 KiB pages."""
    rates = {}
    for mode in ("wal", "delete"):
        path = place.path / f"{mode}.db"
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("pragma page_size = 4096")
        db.execute(f"pragma journal_mode = {mode}")
        db.execute("pragma synchronous = full")
        db.execute("create table t (id integer primary key, value blob)")
        db.execute("begin")
        for i in range(ROWS):
            db.execute("insert into t values (?, ?)", (i, rng.randbytes(ROW_BYTES)))
        db.execute("commit")
        with Timer() as timer:
            for _ in range(TRANSACTIONS):
                db.execute("update t set value = ? where id = ?",
                           (rng.randbytes(ROW_BYTES), rng.randrange(ROWS)))
        db.close()
        for file in place.path.glob(f"{mode}.db*"):
            file.unlink()
        rates[f"sqlite: transactions of one row, journal_mode {mode}"] = \
            TRANSACTIONS / timer.seconds
    return rates


def rates_table(places, samples):
    lines = ["| work, per second | " + " | ".join(p.name for p in places)
             + " | of gocryptfs, best | spread |", "|---|" + "---:|" * (len(places) + 2)]
    for row, seen in samples.items():
        middle = {name: statistics.median(values) for name, values in seen.items()}
        ours = max((n for n in middle if n.startswith("Data Cloud")), key=middle.get)
        spread = (max(seen[ours]) - min(seen[ours])) / middle[ours]
        lines.append(f"| {row} | " + " | ".join(f"{middle[p.name]:.0f}" for p in places)
                     + f" | {middle[ours] / middle['gocryptfs']:.2f} | {spread:.0%} |")
    return "\n".join(lines)


def measure_rates(options):
    rng = random.Random(7)
    work = BASE / f"dcbench-{os.getpid()}"
    work.mkdir()
    opened, samples = [], {}
    clusters = os.environ.pop("DATACLOUD_CEPH_SITES", None)  # these are directories
    try:
        places = make_places(work, opened)
        for repetition in range(options.repetitions):
            first = repetition % len(places)
            for place in places[first:] + places[:first]:
                print(f"repetition {repetition + 1}: {place.name}", file=sys.stderr)
                for row, rate in (fio(place, options.seconds) | sqlite(place, rng)).items():
                    samples.setdefault(row, {}).setdefault(place.name, []).append(rate)
    finally:
        for system in opened:
            system.close()
        shutil.rmtree(work, ignore_errors=True)
        if clusters:
            os.environ["DATACLOUD_CEPH_SITES"] = clusters
    return rates_table(places, samples)


# --- Bytes between sites ------------------------------------------------------------------------------


def moved(cloud):
    """{purpose: bytes read, bytes written} at all sites since the last call."""
    sums = {}
    for row in json.loads(cloud.tool("traffic", "--json"))["sites"]:
        for purpose, cell in row["purposes"].items():
            read, written = sums.get(purpose, (0, 0))
            sums[purpose] = (read + cell["read"], written + cell["written"])
    cloud.tool("traffic", "--reset")
    return sums


def all_moved(cloud):
    """The same, waiting until mounts, which report now and then, have nothing more to report."""
    sums, quiet = moved(cloud), 0
    while quiet < 3:
        time.sleep(1)
        more = moved(cloud)
        quiet = 0 if any(sum(cell) for cell in more.values()) else quiet + 1
        for purpose, (read, written) in more.items():
            before = sums.get(purpose, (0, 0))
            sums[purpose] = (before[0] + read, before[1] + written)
    return sums


def bytes_of_overwrites(cloud, mount, block, shard, rng):
    """Bytes that one overwrite of 4 KiB moves, of which kinds: written, read, folded; and what `fold`
    says of all."""
    path = directory_with_blocks(cloud, mount, block, shard) / "database"
    path.write_bytes(os.urandom(OVERWRITTEN_BYTES))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    all_moved(cloud)
    # Each in a 64 KiB of its own: nothing is overwritten twice.
    for at in rng.sample(range(OVERWRITTEN_BYTES >> 16), OVERWRITES):
        os.pwrite(fd, os.urandom(4096), (at << 16) + rng.randrange(16) * 4096)
        os.fsync(fd)
    mounts = all_moved(cloud)["client"]
    done = json.loads(cloud.tool("fold", "--wait", "--json", seconds=300))
    folds = moved(cloud)["fold"]
    os.close(fd)
    each = [mounts[1], mounts[0], sum(folds)]
    return [b / OVERWRITES / 1024 for b in each], done


def measure_bytes(options):
    del options
    rng = random.Random(7)
    lines = ["| blocks | shards | written at once | read for it | by its fold | in all "
             "| folded, not merged | copied inside sites, a stripe |",
             "|---:|---:|---:|---:|---:|---:|---:|---:|"]
    with Cloud(sites=3, code="rs-2-1", stores="pools", daemon={"fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        for block, shard in [(b, SHARDS[0]) for b in BLOCKS] + [(BLOCKS[0], s) for s in SHARDS[1:]]:
            print(f"bytes with blocks of {block}, shards of {shard}", file=sys.stderr)
            each, done = bytes_of_overwrites(cloud, mount, block, shard, rng)
            copied = done["bytes_copied_at_sites"] / max(1, done["stripes_folded"]) / 1024
            lines.append(f"| {block[:-3]} KiB | {shard[:-3]} {shard[-3:]} | "
                         + " | ".join(f"{b:.1f} KiB" for b in each)
                         + f" | {sum(each):.1f} KiB | {done['blocks_folded'] / OVERWRITES:.0%}"
                         + f" | {copied:.0f} KiB |")
        mount.unmount()
    return "\n".join(lines)


# --- Report -----------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(prog="bench_updates.sh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each run of fio")
    parser.add_argument("--only", default="rates,bytes", help="of: rates, bytes")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    kinds = {"rates": measure_rates, "bytes": measure_bytes}
    tables = [kinds[kind](options) for kind in options.only.split(",")]
    times = "one repetition" if options.repetitions == 1 else f"{options.repetitions} repetitions"
    report = (f"{machine()} Load average at the start: {load:.1f}.\n\nRevision {commit()}, "
              f"{time.strftime('%Y-%m-%d')}, {times} of {options.seconds} s each.\n\n"
              + "\n\n".join(tables))
    print(report)
    if options.write:
        put_into_page(report, BEGIN, END)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: {error}: {error.stderr}")
