"""Counts what fsync of little data costs with and without `inline`: tools/bench_fsync.py [--rounds N] [--write]

One cloud with a journal at directories of this machine; the same mount with `inline_flush_bytes_max=0` (every
fsync makes a stripe) and with the default, in turn. Values are medians of operations per second: files of
4 KiB created and fsynced, 4 KiB at random places of an 8 MiB file written and fsynced, and sqlite's commits
of one row, by 1 and by 16 threads, each with a file of its own (sqlite: a database of its own).
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

BEGIN, END = "<!-- measured fsync: begin -->", "<!-- measured fsync: end -->"
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
            for kind, option in (("stripes", "inline_flush_bytes_max=0"), ("inline", "inline_flush_bytes_max=16KiB")):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    text = table(measure(options.rounds, options.seconds))
    print(text)
    if options.write:
        put_into_page(f"{machine()} Version {commit()}; medians of {options.rounds} rounds of "
                      f"{options.seconds:g} s; load average {os.getloadavg()[0]:.0f}.\n\n{text}", BEGIN, END)


main()
