"""Runs readers of public formats on a cold mount and counts what the sites were asked for.

For each workload of tests/support/read_workloads.py: the distinct bytes that the program asked for (its
system calls, by strace), the 64 KiB blocks these touch (a block is compressed and sealed as a whole, so
less cannot be fetched), what the kernel asked the mount for, and what the mount read from the sites.
`--record DIR` keeps calls and requests as the traces that tests/fs/file/read_ahead_test.cc replays.
"""

import argparse
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from bench import commit, machine, put_into_page  # noqa: E402
import cloud as cloud_module  # noqa: E402
from cloud import BASE, Cloud  # noqa: E402
from read_counts import fetched, free_port, settled  # noqa: E402
from read_workloads import PYTHON, WORKLOADS  # noqa: E402

BEGIN, END = "<!-- measured reads: begin -->", "<!-- measured reads: end -->"
BLOCK, PAGE = 64 << 10, 4096
FUSE_READ = 15


class Intervals:
    """Distinct bytes of files, however often they are read."""

    def __init__(self):
        self.pieces = {}

    def add(self, file, offset, size):
        if size > 0:
            self.pieces.setdefault(file, []).append((offset, offset + size))

    def bytes(self, grain=1, sizes=None):
        total = 0
        for file, pieces in self.pieces.items():
            limit = sizes[file] if sizes else None
            end = 0
            for first, last in sorted((a // grain * grain, -(-b // grain) * grain)
                                      for a, b in pieces):
                first = max(first, end)
                if last > first:
                    total += (min(last, limit) if limit else last) - first
                    end = last
        return total


# --- What the program asks for ----------------------------------------------------------------------

CALLS = "open,openat,creat,read,pread64,readv,preadv,preadv2,lseek,dup,dup2,dup3,fcntl,close,sendfile,copy_file_range"
CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*)>)?")


def program_reads(log, directory):
    """(file, offset, size) of each read in an strace (-f -y); positions are followed by descriptor."""
    pending, position = {}, {}
    prefix = str(directory) + "/"
    for line in log.read_text(errors="replace").splitlines():
        unfinished = re.match(r"^(\d+) +(.*) <unfinished \.\.\.>$", line)
        if unfinished:
            pending[unfinished[1]] = unfinished[2]
            continue
        resumed = re.match(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$", line)
        if resumed:
            line = f"{resumed[1]} {pending.pop(resumed[1], '')}{resumed[2]}"
        call = CALL.match(line)
        if not call or call[4] in ("?",) or int(call[4]) < 0:
            continue
        pid, name, arguments, result = call[1], call[2], call[3], int(call[4])
        if name in ("open", "openat", "creat"):
            if (call[5] or "").startswith(prefix):
                position[result] = 0
            continue
        described = re.match(r"^(\d+)<(.*?)>(?:, (.*))?$", arguments)
        if not described or not described[2].startswith(prefix):
            continue
        fd, path, rest = int(described[1]), described[2][len(prefix):], described[3] or ""
        if name == "lseek":
            position[fd] = result
        elif name.startswith("pread"):
            yield path, int(rest.rsplit(", ", 1)[1].split(",")[0], 0), result
        elif name in ("read", "readv"):
            yield path, position.get(fd, 0), result
            position[fd] = position.get(fd, 0) + result
        elif name == "copy_file_range":
            yield path, position.get(fd, 0), result
            position[fd] = position.get(fd, 0) + result


# --- What the kernel asks for -----------------------------------------------------------------------


class RequestLog:
    """strace of the mount's reads of /dev/fuse: read requests, in the order in which they were taken."""

    def __init__(self, process, path):
        self.path = path
        self.strace = subprocess.Popen(
            ["strace", "-f", "-q", "-p", str(process), "-P", "/dev/fuse", "-e", "trace=read",
             "-e", "signal=none", "-xx", "-s", "96", "-o", path, "-ttt", "-T"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def close(self):
        self.strace.terminate()
        self.strace.wait()

    def reads(self):
        """(node, handle, offset, size)"""
        whole = re.compile(r'"((?:\\x[0-9a-f]{2})+)"\.*, \d+\) += (\d+)')
        for line in self.path.read_text(errors="replace").splitlines():
            found = whole.search(line)
            if not found or int(found[2]) < 80:
                continue
            data = bytes.fromhex(found[1].replace("\\x", ""))
            _, opcode, _, node = struct.unpack_from("<IIQQ", data)
            if opcode == FUSE_READ:
                handle, offset, size = struct.unpack_from("<QQI", data, 40)
                yield node, handle, offset, size


class Bench:
    def __init__(self, inputs, options):
        self.options = options
        self.port = free_port()
        self.cloud = Cloud()
        self.cloud.start_daemon()
        # A read that is raced by a decode would be counted twice.
        self.mount = self.cloud.mount("hedge_after_ms=20s", f"metrics=127.0.0.1:{self.port}")
        self.directory = self.mount / "in"
        self.directory.mkdir()
        self.cloud.tool("policy", "set", self.directory, "--compress", "none",
                        "--block", options.block)
        subprocess.run(["cp", "-r", f"{inputs}/.", self.directory], check=True)
        self.sizes, self.names = {}, {}
        for path in self.directory.rglob("*"):
            name = str(path.relative_to(self.directory))
            self.sizes[name] = path.stat().st_size
            self.names[path.stat().st_ino] = name
        subprocess.run(["sync", self.mount], check=True)

    def cold(self):
        self.mount.remount()
        time.sleep(0.2)  # the kernel's window is set by a thread of the mount
        if self.options.kernel_kib:
            device = os.stat(self.mount).st_dev
            Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").write_text(
                str(self.options.kernel_kib))

    def run(self, command):
        words = [word.replace("@", str(self.directory)) for word in command]
        calls, requests = self.cloud.root / "calls", self.cloud.root / "requests"
        self.cold()
        log = RequestLog(self.mount.process.pid, requests)
        before = fetched(self.port)
        done = subprocess.run(["strace", "-f", "-q", "-y", "-s", "0", "-e", f"trace={CALLS}",
                               "-e", "signal=none", "-o", calls, *words],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=300, check=False)
        if done.returncode != 0:
            raise SystemExit(f"bench_reads: {' '.join(words[:3])}: {done.stderr[-2000:]}")
        read = settled(self.port) - before
        log.close()
        asked = list(program_reads(calls, self.directory))
        wanted = [(self.names[node], handle, offset, size)
                  for node, handle, offset, size in log.reads() if node in self.names]
        return asked, wanted, read

    def close(self):
        self.mount.unmount()
        self.cloud.close()


# --- Traces -----------------------------------------------------------------------------------------


def compressed(lines):
    """Equal reads in a row that follow each other become one line."""
    out = []
    for kind, file, handle, offset, size in lines:
        if out:
            last = out[-1]
            if last[:3] == [kind, file, handle] and last[4] == size and \
                    offset == last[3] + size * last[5]:
                last[5] += 1
                continue
        out.append([kind, file, handle, offset, size, 1])
    return out


def write_trace(path, what, asked, wanted, sizes):
    files = sorted({file for file, *_ in asked} | {file for file, *_ in wanted})
    number = {file: i for i, file in enumerate(files)}
    handles = {}
    lines = [f"# {what}"]
    lines += [f"file {i} {sizes[file]}" for i, file in enumerate(files)]
    for _, file, _, offset, size, count in compressed(
            ("program", number[f], 0, o, s) for f, o, s in asked if s > 0):
        lines.append(f"program {file} {offset} {size}" + (f" x{count}" if count > 1 else ""))
    for _, file, handle, offset, size, count in compressed(
            ("kernel", number[f], handles.setdefault((f, h), len(handles)), o, s)
            for f, h, o, s in wanted):
        lines.append(f"kernel {file} {handle} {offset} {size}"
                     + (f" x{count}" if count > 1 else ""))
    path.write_text("\n".join(lines) + "\n")


# --- Speed ------------------------------------------------------------------------------------------

IMAGES = 1000
STREAMS = {
    "cat": ["cat", "@/stream"],
    "dd bs=4k": ["dd", "if=@/stream", "of=/dev/null", "bs=4k"],
    "dd bs=4M": ["dd", "if=@/stream", "of=/dev/null", "bs=4M"],
    "images": [PYTHON, "-c", "import os, random; n = sorted(os.listdir('@/images')); "
               "random.Random(7).shuffle(n); [open('@/images/' + x, 'rb').read() for x in n]"],
    "images in pieces": [PYTHON, "-c", "import os, random; n = sorted(os.listdir('@/images')); "
                         "random.Random(7).shuffle(n)\nfor x in n:\n  f = open('@/images/' + x, "
                         "'rb', 8192)\n  while f.read(8192): pass"],
}


def streams_in_turn(builds, rounds, mebibytes, only):
    """MB/s of cold sequential reads by the mounts of several build directories, in turn."""
    seconds = {}
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        with open(mount / "stream", "wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(1 << 20))
        (mount / "images").mkdir()
        for i in range(IMAGES):
            (mount / "images" / f"{i}.jpg").write_bytes(os.urandom(random.randrange(100, 200) << 10))
        subprocess.run(["sync", mount], check=True)
        for turn in range(rounds):
            for build in builds if turn % 2 else reversed(builds):
                cloud_module.BUILD = build
                for name, command in STREAMS.items():
                    if only and name not in only:
                        continue
                    mount.remount()
                    time.sleep(0.2)  # the kernel's window is set by a thread of the mount
                    begin = time.monotonic()
                    subprocess.run([word.replace("@", str(mount.point)) for word in command],
                                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    seconds.setdefault(name, {}).setdefault(build, []).append(
                        time.monotonic() - begin)
        mount.unmount()
    for name, by_build in seconds.items():
        for build, times in by_build.items():
            images = name.startswith("images")
            rates = [IMAGES / t if images else mebibytes * 1.048576 / t for t in times]
            unit = "/s" if images else "MB/s"
            print(f"{name:16} {build}: median {statistics.median(rates):.0f} {unit} of "
                  + ", ".join(f"{rate:.0f}" for rate in rates), flush=True)


# --- The table --------------------------------------------------------------------------------------


def of(part, whole):
    return f"{part / whole:.2f}" if whole else "-"


def mb(count):
    return f"{count / 1e6:.2f}" if count < 1e7 else f"{count / 1e6:.1f}"


def table(rows):
    out = ["| work | asked for, MB | in blocks | by the kernel | fetched | of asked for | of blocks |",
           "|---|---:|---:|---:|---:|---:|---:|"]
    for _, what, asked, blocks, kernel, read in rows:
        out.append(f"| {what} | {mb(asked)} | {mb(blocks)} | {mb(kernel)} | {mb(read)} | "
                   f"{of(read, asked)} | {of(read, blocks)} |")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--record", type=Path, help="keeps the traces there")
    parser.add_argument("--only", default="", help="names of workloads, with commas between")
    parser.add_argument("--inputs", type=Path, help="files made before; made there if it is not there")
    parser.add_argument("--block", default="64KiB", help="the policy's block size")
    parser.add_argument("--kernel-kib", type=int, help="the kernel's own read-ahead, for trials")
    parser.add_argument("--against", type=Path, help="instead: speed of streams, in turn with the "
                        "mount of this build directory")
    parser.add_argument("--rounds", type=int, default=5, help="of --against")
    parser.add_argument("--mib", type=int, default=512, help="of --against")
    options = parser.parse_args()
    only = set(options.only.split(",")) if options.only else None
    if options.against:
        return streams_in_turn([cloud_module.BUILD, options.against], options.rounds, options.mib,
                               only)
    inputs = options.inputs or BASE / f"dcreads-{os.getpid()}"
    if not inputs.exists():
        subprocess.run([PYTHON, ROOT / "tests/support/read_inputs.py", inputs], check=True,
                       stdout=subprocess.DEVNULL)
    bench = Bench(inputs, options)
    rows = []
    for name, what, command in WORKLOADS:
        if only and name not in only:
            continue
        asked, wanted, read = bench.run(command)
        by_program, by_kernel = Intervals(), Intervals()
        for file, offset, size in asked:
            by_program.add(file, offset, size)
        for file, _, offset, size in wanted:
            by_kernel.add(file, offset, min(size, bench.sizes[file] - offset))
        if not asked or not wanted:
            raise SystemExit(f"bench_reads: {name} read nothing")
        rows.append((name, what, by_program.bytes(), by_program.bytes(BLOCK, bench.sizes),
                     by_kernel.bytes(), read))
        if options.record:
            options.record.mkdir(parents=True, exist_ok=True)
            write_trace(options.record / f"{name}.txt", what, asked, wanted, bench.sizes)
        _, _, a, b, k, f = rows[-1]
        print(f"{name:18} asked {mb(a):>6} blocks {mb(b):>6} kernel {mb(k):>6} fetched {mb(f):>6}  "
              f"{of(f, a):>8} {of(f, b):>6}", flush=True)
    bench.close()
    if not options.inputs:
        shutil.rmtree(inputs)
    report = f"{machine()}\n\nRevision {commit()}.\n\n{table(rows)}"
    if options.write:
        put_into_page(report, BEGIN, END)
    return None


if __name__ == "__main__":
    main()
