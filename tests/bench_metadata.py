"""By hand: metadata requests of several mounts at one daemon: what one waits for another, and how many fit.

    DATACLOUD_BUILD=build python3 -B tests/bench_metadata.py [--rounds 4] [--files 1500] [--only turns|rates]

"turns": mount B looks up files it has never seen, one request each, while a tar file is unpacked: at a mount of
another cloud on this machine (equal load of the processors, none of its requests), and at mount A of the same
cloud. The two alternate, and the ratio of their 99th percentiles is what counts: both see the same machine.

"rates": 1, 2, 4 and 8 mounts do so at once; requests per second, and the daemon's processor time for each.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))
from cloud import Cloud  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
TAR_FILES = 400


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def make_files(directory, count):
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / f"f{number}").touch()


def look_up(directory, count, out):
    """Seconds of each request, in order."""
    for number in range(count):
        began = time.perf_counter()
        os.stat(directory / f"f{number}")
        out.append(time.perf_counter() - began)


def tar_file(path):
    with tarfile.open(path, "w") as tar:
        for number in range(TAR_FILES):
            info = tarfile.TarInfo(f"d{number // 50}/f{number}")
            info.size = 4096
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))


class Unpacking(threading.Thread):
    """Unpacks the file again and again, into a new directory each time, until told to stop."""

    def __init__(self, tar, target):
        super().__init__(daemon=True)
        self.tar, self.target, self.stopping, self.times = tar, target, False, 0

    def run(self):
        while not self.stopping:
            into = self.target / f"unpacked-{time.monotonic_ns()}"
            into.mkdir()
            subprocess.run(["tar", "-xf", self.tar, "-C", into], check=True)
            self.times += 1

    def stop(self):
        self.stopping = True
        self.join()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def turns(cloud, other, options):
    tar = cloud.root / "bench.tar"
    tar_file(tar)
    a, b = cloud.mount(name="a"), cloud.mount(name="b")
    elsewhere = other.mount(name="elsewhere")
    conditions = {"another cloud's mount unpacks": elsewhere, "mount A unpacks": a}
    for round_ in range(options.rounds):
        for number in range(len(conditions)):
            make_files(Path(a) / f"look-{round_}-{number}", options.files)
    seen = {name: [] for name in conditions}
    ratios = []
    for round_ in range(options.rounds):
        one = {}
        for number, (name, where) in enumerate(conditions.items()):
            unpacking = Unpacking(tar, Path(where))
            unpacking.start()
            times = []
            try:
                time.sleep(0.5)
                look_up(Path(b) / f"look-{round_}-{number}", options.files, times)
            finally:
                unpacking.stop()
            seen[name] += times
            one[name] = percentile(times, 0.99)
        base, contended = one.values()
        ratios.append(contended / base)
    print(f"\n{options.rounds} rounds of {options.files} lookups each, in turn:\n")
    print("| beside | median | p99 | most |\n|---|---:|---:|---:|")
    for name, times in seen.items():
        print(f"| {name} | {1000 * statistics.median(times):.2f} ms | "
              f"{1000 * percentile(times, 0.99):.2f} ms | {1000 * max(times):.1f} ms |")
    p99 = [percentile(times, 0.99) for times in seen.values()]
    print(f"\np99: {p99[1] / p99[0]:.2f} times; by round: "
          f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}", flush=True)
    for mount in (a, b, elsewhere):
        mount.unmount()


def rates(cloud, options):
    maker = cloud.mount(name="maker")
    for mounts in (1, 2, 4, 8):
        for number in range(mounts):
            make_files(Path(maker) / f"rate-{mounts}-{number}", options.files)
    maker.unmount()
    print("\n| mounts | lookups/s | daemon's processor time for one | mounts' |\n|---:|---:|---:|---:|")
    for count in (1, 2, 4, 8):
        mounts = [cloud.mount(name=f"m{number}") for number in range(count)]
        # A process each: threads of Python would wait for each other.
        script = ("import os,sys\nd,n=sys.argv[1],int(sys.argv[2])\nsys.stdin.readline()\n"
                  "for i in range(n): os.stat(f'{d}/f{i}')\n")
        loops = [subprocess.Popen([sys.executable, "-c", script, f"{mount.point}/rate-{count}-{number}",
                                   str(options.files)], stdin=subprocess.PIPE, text=True)
                 for number, mount in enumerate(mounts)]
        time.sleep(0.5)
        pids = [mount.process.pid for mount in mounts]
        daemon, own = cpu_seconds(cloud.daemon.pid), sum(map(cpu_seconds, pids))
        began = time.perf_counter()
        for loop in loops:
            loop.stdin.write("\n")
            loop.stdin.flush()
        for loop in loops:
            if loop.wait() != 0:
                sys.exit("a loop has failed")
        took = time.perf_counter() - began
        requests = count * options.files
        print(f"| {count} | {requests / took:.0f} | "
              f"{1e6 * (cpu_seconds(cloud.daemon.pid) - daemon) / requests:.0f} us | "
              f"{1e6 * (sum(map(cpu_seconds, pids)) - own) / requests:.0f} us |", flush=True)
        for mount in mounts:
            mount.unmount()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--files", type=int, default=1500)
    parser.add_argument("--only", choices=["turns", "rates"])
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors; load average {os.getloadavg()[0]:.1f} before the start")
    with Cloud(sites=3, code="rs-2-1") as cloud, Cloud(sites=3, code="rs-2-1") as other:
        cloud.start_daemon()
        if options.only != "rates":
            other.start_daemon()
            turns(cloud, other, options)
        if options.only != "turns":
            rates(cloud, options)
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
