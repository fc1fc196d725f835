"""Compares the programs of two builds; see bench_versions.sh.

Both clouds are mounted at once, and every row is measured on one and at once on the other, in
changing order, so that a slow moment of the machine meets both. A round does each row several times in
turn and keeps the fastest of each side: what disturbs a run makes it slower, never faster. What counts is
the ratio of the two within a round: its geometric mean over the rounds, with the interval that holds the
true one with 95 % confidence (Student's t). Processor time of daemon and mount is told beside it, which
other programs disturb less. New clouds are made without features, as the earlier programs make them.
"""

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cloud as clouds  # noqa: E402
from bench import commit, machine, put_into_page  # noqa: E402

BEGIN, END = "<!-- measured versions: begin -->", "<!-- measured versions: end -->"
# 97.5 % quantiles of Student's t by degrees of freedom.
STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
           11: 2.201, 14: 2.145, 19: 2.093, 29: 2.045}
SMALL_FILES = 1000
OVERWRITES = 150
READS = 2000


class Side:
    """A cloud and its mount by the programs of one build."""

    def __init__(self, build, features):
        self.build = build
        self.use()
        self.cloud = clouds.Cloud(create=False)
        self.cloud.tool("create", *features)
        self.cloud.start_daemon()
        self.cloud.tool("background", "pause")  # else its moments would be part of the spread
        self.mount = self.cloud.mount()

    def use(self):
        clouds.BUILD = self.build

    def remount(self):
        self.use()
        self.mount.remount()

    def path(self, name):
        return Path(self.mount.point) / name

    def cpu_seconds(self):
        """Of the daemon and the mount so far."""
        ticks = 0
        for process in (self.cloud.daemon.pid, self.mount.process.pid):
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.use()
        self.cloud.close()


def takes_features(build):
    done = subprocess.run([build / "bin" / "datacloud", "create", "--help"], check=False,
                          capture_output=True, text=True, timeout=30)
    return "--features" in done.stdout


def timed(side, work):
    """Seconds that passed, and of processor time."""
    begin, used = time.perf_counter(), side.cpu_seconds()
    work()
    return time.perf_counter() - begin, side.cpu_seconds() - used


def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


# --- Rows: each returns what timed() does ------------------------------------------------------------------


def create_files(side, number, _):
    directory = side.path(f"small-{number}")
    data = os.urandom(4096)

    def work():
        directory.mkdir()
        for i in range(SMALL_FILES):
            with open(directory / f"f{i}", "wb") as file:
                file.write(data)
        for i in range(SMALL_FILES):
            fsync(directory / f"f{i}")

    return timed(side, work)


def list_files(side, number, _):
    side.remount()
    directory = side.path(f"small-{number}")

    def work():
        for name in os.listdir(directory):
            os.stat(directory / name)

    return timed(side, work)


def remove_files(side, number, _):
    directory = side.path(f"small-{number}")

    def work():
        for name in os.listdir(directory):
            os.unlink(directory / name)
        directory.rmdir()
        fsync(side.mount.point)

    return timed(side, work)


def write_large(side, number, options):
    data = options.block

    def work():
        with open(side.path(f"large-{number}"), "wb", buffering=0) as file:
            for _ in range(options.megabytes // 4):
                file.write(data)
            os.fsync(file.fileno())

    return timed(side, work)


def read_large(side, number, _):
    side.remount()

    def work():
        with open(side.path(f"large-{number}"), "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    return timed(side, work)


def read_small(side, number, options):
    side.remount()
    rng = random.Random(number)
    places = [rng.randrange(options.megabytes * 256) * 4096 for _ in range(READS)]

    def work():
        with open(side.path(f"large-{number}"), "rb", buffering=0) as file:
            for place in places:
                os.pread(file.fileno(), 4096, place)

    return timed(side, work)


def overwrite_small(side, number, options):
    rng = random.Random(number)
    data = os.urandom(4096)

    def work():
        with open(side.path(f"large-{number}"), "r+b", buffering=0) as file:
            for _ in range(OVERWRITES):
                os.pwrite(file.fileno(), data, rng.randrange(options.megabytes * 256) * 4096)
                os.fsync(file.fileno())

    return timed(side, work)


def remove_large(side, number):
    os.unlink(side.path(f"large-{number}"))
    fsync(side.mount.point)


ROWS = [
    ("create 1,000 files of 4 KiB, until durable", create_files, SMALL_FILES),
    ("list and stat 1,000 files, cold", list_files, SMALL_FILES),
    ("remove 1,000 files", remove_files, SMALL_FILES),
    ("write sequentially, until durable", write_large, 0),
    ("read sequentially, cold", read_large, 0),
    ("read 4 KiB at random, cold", read_small, READS),
    ("overwrite 4 KiB at random, fsync each", overwrite_small, OVERWRITES),
]


def interval(ratios):
    """Geometric mean of the ratios, and the ends of its 95 % interval."""
    logs = [math.log(r) for r in ratios]
    mean = statistics.mean(logs)
    if len(logs) < 3:
        return math.exp(mean), 0.0, math.inf
    degrees = max(d for d in STUDENT if d <= len(logs) - 1)
    half = STUDENT[degrees] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def rate(seconds, count, megabytes):
    if count:
        return f"{count / seconds:.0f} /s"
    return f"{megabytes * 1.048576 / seconds:.0f} MB/s"


def report(samples, options):
    lines = [f"{machine(0)}", "",
             f"Revision {commit()} against {options.revision}, {time.strftime('%Y-%m-%d')}, "
             f"{options.rounds} rounds in turn, each the fastest of {options.repeat}; large files of {options.megabytes} MiB of random data; "
             "rs-3-2 over five directories of the same disk.", "",
             "| work | before | after | after / before | 95 % interval | processor time, before / after |",
             "|---|---:|---:|---:|---:|---:|"]
    for name, _, count in ROWS:
        if name not in samples:
            continue
        before, after = ([seconds for seconds, _ in side] for side in samples[name])
        ratio, low, high = interval([b / a for b, a in zip(before, after)])
        spent = [sum(cpu for _, cpu in side) for side in samples[name]]
        lines.append(f"| {name} | {rate(statistics.median(before), count, options.megabytes)} "
                     f"| {rate(statistics.median(after), count, options.megabytes)} "
                     f"| {ratio:.3f} | {low:.3f} to {high:.3f} | {spent[0] / spent[1]:.3f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="bench_versions.sh REVISION",
                                     description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--earlier", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--revision", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3, help="of each row in a round")
    parser.add_argument("--megabytes", type=int, default=192, help="of the large files")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    options.block = os.urandom(4 << 20)
    newer = clouds.BUILD
    samples = {name: ([], []) for name, _, _ in ROWS if options.only in name}
    sides = []
    try:
        for build in (options.earlier, newer):
            sides.append(Side(build, ["--features", "none"] if takes_features(build) else []))
        for number in range(options.rounds + 1):  # the first is not counted
            print(f"round {number} of {options.rounds}", file=sys.stderr)
            taken = {name: ([], []) for name, _, _ in ROWS}
            for index in range(number * options.repeat, (number + 1) * options.repeat):
                order = (0, 1) if index % 2 else (1, 0)
                for name, row, _ in ROWS:
                    for which in order:  # later rows need what it leaves
                        taken[name][which].append(row(sides[which], index, options))
                for which in order:
                    remove_large(sides[which], index)
            for name, both in taken.items():
                for which in (0, 1):
                    if number > 0 and name in samples:
                        samples[name][which].append((min(s for s, _ in both[which]),
                                                     sum(c for _, c in both[which])))
    finally:
        for side in sides:
            side.close()
    text = report(samples, options)
    print(text)
    if options.write:
        put_into_page(text, BEGIN, END)


if __name__ == "__main__":
    main()
