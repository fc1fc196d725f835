"""Counts what fsync of little data costs with and without `inline`:
tools/bench_fsync.py [--rounds N] [--far MS] [--write]

One cloud with a journal at directories of this machine; the same mount with `inline_flush_bytes_max=0` (every
fsync makes a stripe) and with the default, in turn. Values are medians of operations per second: files of
4 KiB created and fsynced, 4 KiB at random places of an 8 MiB file written and fsynced, and sqlite's commits
of one row, by 1 and by 16 threads, each with a file of its own (sqlite: a database of its own).

--far: instead, the sites are so many milliseconds away, there and back, behind relays; daemon and mount are on one
machine. Values are milliseconds of one fsync, and how many times there and back that is.
"""

import argparse
import os
import random
import sqlite3
import statistics
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import commit, machine, put_into_page  # noqa: E402
from cloud import Cloud  # noqa: E402
from far_sites import FarCloud  # noqa: E402

BEGIN, END = "<!-- measured fsync: begin -->", "<!-- measured fsync: end -->"
FAR_BEGIN, FAR_END = "<!-- measured far fsync: begin -->", "<!-- measured far fsync: end -->"
KINDS = (("stripes", "inline_flush_bytes_max=0"), ("inline", "inline_flush_bytes_max=16KiB"))
FILE_BYTES = 8 << 20
THREADS = (1, 16)


def creates(directory, me, until):
    done = 0
    while time.monotonic() < until:
        fd = os.open(directory / f"c{me}-{done}", os.O_WRONLY | os.O_CREAT)
        os.write(fd, os.urandom(4096))
        os.fsync(fd)
        os.close(fd)
        done += 1
    return done


def overwrites(directory, me, until):
    fd = os.open(directory.parent / f"large{me}", os.O_WRONLY)
    done, rng = 0, random.Random(me)
    while time.monotonic() < until:
        os.pwrite(fd, os.urandom(4096), rng.randrange(FILE_BYTES // 4096) * 4096)
        os.fsync(fd)
        done += 1
    os.close(fd)
    return done


def commits(mode):
    def work(directory, me, until):
        database = sqlite3.connect(directory / f"{mode}{me}.db", isolation_level=None)
        database.execute(f"pragma journal_mode={mode}")
        database.execute("pragma synchronous=full")
        database.execute("create table if not exists t(id integer primary key, v blob)")
        done = 0
        while time.monotonic() < until:
            database.execute("insert into t(v) values(?)", (os.urandom(100),))
            done += 1
        database.close()
        return done
    return work


WORK = {"create + fsync, 4 KiB": creates, "4 KiB random write + fsync": overwrites,
        "sqlite commit, rollback journal": commits("delete"), "sqlite commit, WAL": commits("wal")}


def rate(work, directory, threads, seconds):
    directory.mkdir()
    began = time.monotonic()
    counts = [0] * threads

    def run(me):
        counts[me] = work(directory, me, began + seconds)
    all_threads = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def prepare(mount, threads):
    for me in range(threads):
        with open(mount / f"large{me}", "wb") as file:
            for _ in range(FILE_BYTES >> 20):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())


def measure(rounds, seconds):
    found = {}
    with Cloud() as cloud:
        cloud.start_daemon()
        cloud.tool("journal", "enable")
        cloud.tool("feature", "enable", "inline")
        mount = cloud.mount()
        prepare(mount, max(THREADS))
        mount.unmount()
        for number in range(rounds):
            for kind, option in KINDS:
                mount = cloud.mount(option)
                for name, work in WORK.items():
                    for threads in THREADS:
                        directory = mount / f"{kind}{number}{list(WORK).index(name)}{threads}"
                        now = rate(work, directory, threads, seconds)
                        found.setdefault((name, threads, kind), []).append(now)
                        print(f"{name}, {threads}, {kind}: {now:.0f}/s", flush=True)
                mount.unmount()
    return found


def table(found):
    lines = ["| operation | threads | stripes, per second | inline, per second | ratio |", "|---|---|---|---|---|"]
    for name in WORK:
        for threads in THREADS:
            before, now = (statistics.median(found[name, threads, k]) for k in ("stripes", "inline"))
            lines.append(f"| {name} | {threads} | {before:.0f} | {now:.0f} | {now / before:.1f} |")
    return "\n".join(lines)


def timed_fsync(path, offset, length):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, os.urandom(length), offset)
    began = time.monotonic()
    os.fsync(fd)
    took = time.monotonic() - began
    os.close(fd)
    return 1000 * took


def measure_far(distance_ms, rounds):
    found = {}
    with FarCloud(distance_ms) as (_, node):
        for number in range(rounds):
            for kind, option in KINDS:
                mount = node.mount("-o", option)
                large = mount / f"{kind}{number}large"
                timed_fsync(large, 0, 1 << 20)
                for i in range(12):
                    new = timed_fsync(mount / f"{kind}{number}-{i}", 0, 4096)
                    over = timed_fsync(large, 70_000 * i, 4096)
                    # The first ones fetch ids, which are kept for the others.
                    if i >= 2:
                        found.setdefault(("a new file of 4 KiB", kind), []).append(new)
                        found.setdefault(("4 KiB inside a file of 1 MiB", kind), []).append(over)
                node.unmount()
    return found


def far_table(found, distance_ms):
    lines = ["| fsync of | as a stripe, ms | there and back | inline, ms | there and back |", "|---|---|---|---|---|"]
    for name in sorted({name for name, _ in found}):
        stripes, inline = (statistics.median(found[name, kind]) for kind, _ in KINDS)
        lines.append(f"| {name} | {stripes:.0f} | {stripes / distance_ms:.1f} | {inline:.0f} | "
                     f"{inline / distance_ms:.1f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--far", type=float, metavar="MS", help="milliseconds there and back between the sites")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    if options.far:
        text = far_table(measure_far(options.far, options.rounds), options.far)
        print(text)
        if options.write:
            put_into_page(f"{machine()} Version {commit()}; medians of {10 * options.rounds}; {options.far:g} ms there "
                          f"and back; load average {os.getloadavg()[0]:.0f}.\n\n{text}", FAR_BEGIN, FAR_END)
        return
    text = table(measure(options.rounds, options.seconds))
    print(text)
    if options.write:
        put_into_page(f"{machine()} Version {commit()}; medians of {options.rounds} rounds of "
                      f"{options.seconds:g} s; load average {os.getloadavg()[0]:.0f}.\n\n{text}", BEGIN, END)


main()
