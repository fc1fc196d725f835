"""Compares a cloud with a journal and one without; see bench_journal.sh.

Both are mounted at once, and every row is measured on one and at once on the other, in changing order.
Values are medians over the rounds: time of an operation and processor time of the daemon for it, by one
thread. "create", "rename" and "unlink" end with one fsync; the other rows wait for each operation. "fsync
of an empty change" sets the times of a file and waits until that is durable: nothing is written at a site
but the journal's entry.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import commit, machine, put_into_page  # noqa: E402
from cloud import Cloud  # noqa: E402

BEGIN, END = "<!-- measured journal: begin -->", "<!-- measured journal: end -->"
KINDS = ("without", "with")


def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class Side:
    def __init__(self, kind):
        self.cloud = Cloud(create=False)
        self.cloud.tool("create", *(["--journal"] if kind == "with" else []))
        self.cloud.start_daemon()
        self.cloud.tool("background", "pause")  # else its moments would be part of the spread
        self.mount = self.cloud.mount()

    def path(self, *names):
        return Path(self.mount.point).joinpath(*names)

    def cpu_seconds(self):
        """Of the daemon's threads that live."""
        tasks = Path(f"/proc/{self.cloud.daemon.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def journal_bytes(self):
        return json.loads(self.cloud.tool("status", "--json"))["journal"].get("bytes", 0)


# --- Rows: each works on the directory of its round and returns how many operations it made ----------------


def create(side, number, options):
    side.path(number).mkdir()
    for i in range(options.files):
        os.close(os.open(side.path(number, f"f{i}"), os.O_CREAT | os.O_WRONLY))
    fsync(side.path(number))
    return options.files


def rename(side, number, options):
    for i in range(options.files):
        os.rename(side.path(number, f"f{i}"), side.path(number, f"g{i}"))
    fsync(side.path(number))
    return options.files


def unlink(side, number, options):
    for i in range(options.files):
        os.unlink(side.path(number, f"g{i}"))
    fsync(side.path(number))
    return options.files


def create_durably(side, number, options):
    for i in range(options.waits):
        descriptor = os.open(side.path(number, f"h{i}"), os.O_CREAT | os.O_WRONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return options.waits


def fsync_times(side, number, options):
    descriptor = os.open(side.path(number, "h0"), os.O_WRONLY)
    for i in range(options.waits):
        os.utime(descriptor, ns=(i, i))
        os.fsync(descriptor)
    os.close(descriptor)
    return options.waits


ROWS = {"create": create, "rename": rename, "unlink": unlink, "create + fsync": create_durably,
        "fsync of an empty change": fsync_times}


def measure(options):
    found = {(name, kind): [] for name in ROWS for kind in KINDS}
    entry_bytes = []
    sides = {}
    try:
        for kind in KINDS:
            sides[kind] = Side(kind)
        for number in range(options.rounds + 1):  # the first is not counted
            print(f"round {number} of {options.rounds}", file=sys.stderr)
            order = KINDS if number % 2 else KINDS[::-1]
            for name, row in ROWS.items():
                for kind in order:
                    side = sides[kind]
                    before = side.journal_bytes() if row is create and kind == "with" else 0
                    used, began = side.cpu_seconds(), time.perf_counter()
                    count = row(side, str(number), options)
                    passed, used = time.perf_counter() - began, side.cpu_seconds() - used
                    if number == 0:
                        continue
                    found[name, kind].append((passed / count, used / count))
                    if row is create and kind == "with":
                        entry_bytes.append((side.journal_bytes() - before) / count)
    finally:
        for side in sides.values():
            side.cloud.close()
    return found, statistics.median(entry_bytes)


def report(found, entry_bytes, options):
    lines = [f"{machine()} Version {commit()}, {time.strftime('%Y-%m-%d')}; medians of {options.rounds} rounds of "
             f"{options.files} and {options.waits} operations; load average {os.getloadavg()[0]:.0f}.", "",
             "| operation | without: time | daemon | with a journal: time | daemon | time, without / with |",
             "|---|---:|---:|---:|---:|---:|"]
    for name in ROWS:
        cells, medians = [], []
        for kind in KINDS:
            passed, used = (statistics.median(column) for column in zip(*found[name, kind]))
            cells += [f"{passed * 1e3:.3f} ms", f"{used * 1e3:.3f} ms"]
            medians.append(passed)
        lines.append(f"| {name} | {' | '.join(cells)} | {medians[0] / medians[1]:.2f} |")
    lines += ["", f"A create is {entry_bytes:.0f} bytes of journal at each site."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="bench_journal.sh", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--files", type=int, default=2000, help="created, renamed and removed in a round")
    parser.add_argument("--waits", type=int, default=200, help="operations in a round that are waited for")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    text = report(*measure(options), options)
    print(text)
    if options.write:
        put_into_page(text, BEGIN, END)


if __name__ == "__main__":
    main()
