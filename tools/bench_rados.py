"""Times the same work on our mount over three real Ceph clusters and on ceph-fuse on one of them, and
random reads while one site is slow; see bench_rados.sh, which starts the clusters.

All traffic passes the relay of ceph-sites.sh. Every repetition runs all work on each file system, in
changing order. Values are medians, and so are the ratios, each formed within one repetition. "Cold"
means: unmounted, the kernel's caches dropped, mounted again. All writing is timed until fsync.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import Timer, commit, machine, put_into_page, random_data, run, sequential  # noqa: E402
from cloud import BASE, Cloud, drop_caches, is_mounted  # noqa: E402
from cloud_sites import CephSites  # noqa: E402

BEGIN, END = "<!-- measured on clusters: begin -->", "<!-- measured on clusters: end -->"
SMALL_FILES, SMALL_BYTES = 300, 4096
OVERWRITES, OVERWRITTEN_BYTES = 200, 64 << 20
READS, READ_BYTES, READ_FILE_BYTES = 300, 64 << 10, 128 << 20
SLOW_RTT = "300ms"


# --- File systems -------------------------------------------------------------------------------


class DataCloud:
    """rs-2-1 on a pool of each cluster. Two of these may share a cloud: they differ in the links."""

    def __init__(self, name, ceph, cloud, rtt):
        self.name, self.ceph, self.cloud, self.rtt = name, ceph, cloud, rtt
        self.mount = None

    def begin(self):
        for number in range(1, self.ceph.count + 1):
            self.ceph.run("link", number, "--rtt", self.rtt)
        self.mount = self.cloud.mount()
        self.path = self.mount.point

    def cold(self):
        self.mount.remount()

    def end(self):
        self.mount.unmount()
        for number in range(1, self.ceph.count + 1):
            self.ceph.run("link", number, "--rtt", "0ms")


class CephFuse:
    """On the first cluster; `pool` is the data pool."""

    def __init__(self, name, ceph, point, pool):
        self.name, self.site, self.point, self.pool = name, ceph.dir / "site1", point, pool
        self.path = point / pool
        point.mkdir(exist_ok=True)

    def begin(self):
        run("ceph-fuse", "-c", self.site / "ceph.conf", "-n", "client.admin", "--admin-socket=",
            "--log-file=/dev/null", self.point)
        self.path.mkdir(exist_ok=True)
        os.setxattr(self.path, "ceph.dir.layout.pool", self.pool.encode())

    def cold(self):
        self.end()
        drop_caches()
        self.begin()

    def end(self):
        run("umount", self.point)


# --- Work: each returns {row: (count, unit, seconds)} --------------------------------------------


def large_file(system, source, megabytes):
    rows = sequential(system, source, "random data")
    return {row: (megabytes * 1.048576, "MB/s", seconds) for row, seconds in rows.items()}


def small_files(system):
    directory = system.path / "small"
    directory.mkdir()
    data = os.urandom(SMALL_BYTES)
    with Timer() as create:
        for i in range(SMALL_FILES):
            (directory / f"f{i}").write_bytes(data)
    with Timer() as sync:
        for i in range(SMALL_FILES):
            fd = os.open(directory / f"f{i}", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    system.cold()
    with Timer() as read:
        for i in range(SMALL_FILES):
            (directory / f"f{i}").read_bytes()
    for i in range(SMALL_FILES):
        (directory / f"f{i}").unlink()
    directory.rmdir()
    return {f"create {SMALL_FILES} files of 4 KiB": (SMALL_FILES, "/s", create.seconds),
            f"create {SMALL_FILES} files of 4 KiB, until durable":
                (SMALL_FILES, "/s", create.seconds + sync.seconds),
            f"read {SMALL_FILES} files of 4 KiB cold": (SMALL_FILES, "/s", read.seconds)}


def overwrites(system, rng):
    path = system.path / "database"
    random_data(path, OVERWRITTEN_BYTES)
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    piece = os.urandom(4096)
    with Timer() as timer:
        for _ in range(OVERWRITES):
            os.pwrite(fd, piece, rng.randrange(OVERWRITTEN_BYTES // 4096) * 4096)
            os.fsync(fd)
    os.close(fd)
    path.unlink()
    return {"overwrite 4 KiB at random, fsync each": (OVERWRITES, "/s", timer.seconds)}


def against_ceph_fuse(systems, source, options, rng):
    """{row: {system: [rate of each repetition]}}, {row: unit}"""
    rates, units = {}, {}
    for repetition in range(options.repetitions):
        for system in systems[repetition % len(systems):] + systems[:repetition % len(systems)]:
            print(f"repetition {repetition + 1}: {system.name}", file=sys.stderr)
            system.begin()
            rows = (large_file(system, source, options.megabytes) | small_files(system)
                    | overwrites(system, rng))
            system.end()
            for row, (count, unit, seconds) in rows.items():
                units[row] = unit
                rates.setdefault(row, {}).setdefault(system.name, []).append(count / seconds)
    return rates, units


def ratio(mine, theirs):
    return statistics.median(a / b for a, b in zip(mine, theirs))


def comparison_table(rates, units, systems):
    ours, far, theirs, coded = (s.name for s in systems)
    lines = [f"| work | {ours} | {theirs} | {coded} | of {theirs} | of {coded} | {far} | of {ours} "
             "| spread |", "|---|" + "---:|" * 8]
    for row, seen in rates.items():
        value = {name: f"{statistics.median(seen[name]):.{0 if units[row] == 'MB/s' else 1}f} "
                       f"{units[row]}" for name in seen}
        spread = (max(seen[ours]) - min(seen[ours])) / statistics.median(seen[ours])
        lines.append(f"| {row} | {value[ours]} | {value[theirs]} | {value[coded]} "
                     f"| {ratio(seen[ours], seen[theirs]):.2f} | {ratio(seen[ours], seen[coded]):.2f} "
                     f"| {value[far]} | {ratio(seen[far], seen[ours]):.2f} | {spread:.0%} |")
    return "\n".join(lines)


# --- Hedged reads -------------------------------------------------------------------------------


def read_times(ceph, cloud, rng, rtt, *options):
    """Seconds of random reads of a file nobody has cached, at `rtt` from the first site."""
    mount = cloud.mount("readahead_bytes_max=0", *options)
    time.sleep(3)  # until it has connected to all sites: one that is away is not slow
    ceph.run("link", 1, "--rtt", rtt)
    seconds = []
    with open(mount / "random", "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for block in rng.sample(range(READ_FILE_BYTES // READ_BYTES), READS):
            with Timer() as timer:
                os.pread(file.fileno(), READ_BYTES, block * READ_BYTES)
            seconds.append(timer.seconds)
    ceph.run("link", 1, "--rtt", "0ms")
    mount.unmount()
    drop_caches()
    return seconds


def percentile(seconds, share):
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] * 1000


def hedged_reads(ceph, cloud, options, rng):
    mount = cloud.mount()
    random_data(mount / "random", READ_FILE_BYTES)
    fd = os.open(mount / "random", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    mount.unmount()
    off = "hedge_after_ms=5s"  # not below read_deadline_ms: never
    kinds = {"all sites near": ("0ms", ()), f"one site at {SLOW_RTT}": (SLOW_RTT, ()),
             f"one site at {SLOW_RTT}, not hedged": (SLOW_RTT, (off,))}
    found = {kind: [] for kind in kinds}
    for repetition in range(options.repetitions):
        names = list(kinds)
        for kind in names[repetition % 3:] + names[:repetition % 3]:
            print(f"repetition {repetition + 1}: random reads, {kind}", file=sys.stderr)
            rtt, mount_options = kinds[kind]
            found[kind].append(read_times(ceph, cloud, rng, rtt, *mount_options))
    lines = [f"| {READS} random reads of 64 KiB | p50 | p99 | slowest |", "|---|---:|---:|---:|"]
    for kind, runs in found.items():
        cells = [statistics.median(percentile(r, share) for r in runs) for share in (0.5, 0.99, 1)]
        lines.append(f"| {kind} | " + " | ".join(f"{c:.1f} ms" for c in cells) + " |")
    return "\n".join(lines)


# --- Report -------------------------------------------------------------------------------------


def new_cloud():
    cloud = Cloud(sites=3, code="rs-2-1", stores="pools")
    cloud.start_daemon()
    return cloud


def measure(options, work):
    ceph = CephSites(os.environ["DATACLOUD_CEPH_SITES"])
    rng = random.Random(7)
    tables = []
    cloud = new_cloud()
    point = work / "cephfs"
    try:
        if "ceph" in options.only:
            source = work / "random"
            random_data(source, options.megabytes << 20)
            ceph.run("cephfs", 1)
            systems = [DataCloud("Data Cloud", ceph, cloud, "0ms"),
                       DataCloud("Data Cloud, 35 ms", ceph, cloud, "35ms"),
                       CephFuse("ceph-fuse", ceph, point, "cephfs-data"),
                       CephFuse("ceph-fuse, coded", ceph, point, "cephfs-coded")]
            rates, units = against_ceph_fuse(systems, source, options, rng)
            tables.append(comparison_table(rates, units, systems))
        if "hedge" in options.only:
            tables.append(hedged_reads(ceph, cloud, options, rng))
    finally:
        if is_mounted(point):
            subprocess.run(["umount", "-l", str(point)], check=False)
        cloud.close()
    return "\n\n".join(tables)


def main():
    parser = argparse.ArgumentParser(prog="bench_rados.sh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=256, help="of the large file")
    parser.add_argument("--only", default="ceph,hedge", help="of: ceph, hedge")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    work = BASE / f"dcbench-{os.getpid()}"
    work.mkdir()
    load = os.getloadavg()[0]
    try:
        tables = measure(options, work)
    finally:
        for file in work.iterdir():
            file.rmdir() if file.is_dir() else file.unlink()
        work.rmdir()
    report = (f"{machine()} Load average at the start: {load:.1f}.\n\nRevision {commit()}, "
              f"{time.strftime('%Y-%m-%d')}, {options.repetitions} repetitions, medians; large file "
              f"of {options.megabytes} MiB.\n\n{tables}")
    print(report)
    if options.write:
        put_into_page(report, BEGIN, END)


if __name__ == "__main__":
    main()
