"""Counts asynchronous O_DIRECT writes beside readers through the page cache: tools/bench_direct.py [--write]

fio (libaio, 16 writes of 4 KiB at a time, at random places of a file) writes past the cache, and each
write completes only when no page shows anything older. Beside it nobody reads, or one program reads
another file over and over, or the same one: what the third does to the second is what the pages cost.
Rounds take turns; values are medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import commit, machine, put_into_page, run  # noqa: E402
from cloud import Cloud  # noqa: E402

BEGIN, END = "<!-- measured direct: begin -->", "<!-- measured direct: end -->"
FILE_BYTES = 64 << 20
BESIDE = ("nobody reads", "another file is read", "the same file is read")
READER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(flush=True)
while True:
    at = 0
    while data := os.pread(fd, 65536, at):
        at += len(data)
"""


def durable_file(path):
    path.write_bytes(os.urandom(FILE_BYTES))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def writes_per_second(written, read, seconds):
    reader = None
    if read:
        reader = subprocess.Popen([sys.executable, "-c", READER, read], stdout=subprocess.PIPE)
        reader.stdout.readline()
    try:
        report = json.loads(run(
            "fio", "--name=direct", f"--filename={written}", "--rw=randwrite", "--bs=4k", "--direct=1",
            "--ioengine=libaio", "--iodepth=16", f"--size={FILE_BYTES}", "--time_based",
            f"--runtime={seconds}", "--ramp_time=1", "--overwrite=1", "--output-format=json"))
    finally:
        if reader:
            reader.kill()
            reader.wait()
    job = report["jobs"][0]["write"]
    return job["iops"], job["clat_ns"]["percentile"]["99.000000"] / 1e6


def measure(options):
    samples = {what: [] for what in BESIDE}
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        written, other = mount / "written", mount / "other"
        for path in (written, other):
            durable_file(path)
        reads = dict(zip(BESIDE, (None, other, written)))
        for repetition in range(options.repetitions):
            first = repetition % len(BESIDE)
            for what in BESIDE[first:] + BESIDE[:first]:
                samples[what].append(writes_per_second(written, reads[what], options.seconds))
                print(f"repetition {repetition + 1}: {what}: {samples[what][-1]}", file=sys.stderr)
    lines = ["| beside the writes | writes of 4 KiB per second | slowest of a hundred, ms | of the row above |",
             "|---|---:|---:|---:|"]
    above = None
    for what in BESIDE:
        rate = statistics.median(s[0] for s in samples[what])
        slow = statistics.median(s[1] for s in samples[what])
        lines.append(f"| {what} | {rate:.0f} | {slow:.1f} | {f'{rate / above:.2f}' if above else ''} |")
        above = rate
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    table = measure(options)
    print(table)
    if options.write:
        put_into_page(f"{machine()} Version {commit()}; medians of {options.repetitions} rounds.\n\n{table}",
                      BEGIN, END)


if __name__ == "__main__":
    main()
