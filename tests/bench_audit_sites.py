"""By hand: a full audit of a cloud on three Ceph sites, against downloading and hashing the same, and
against Ceph's own deep scrub (which trusts the OSD).

    tests/support/with-ceph-sites.sh 3 --rtt 35ms -- /usr/bin/python3 tests/bench_audit_sites.py [--gib 2]

Prints rows for docs/benchmarks.md. Bytes between sites are what the relay counted.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))
import cloud_sites  # noqa: E402
from cloud import Cloud  # noqa: E402

MIB = 1 << 20


def timed(work):
    started = time.monotonic()
    value = work()
    return time.monotonic() - started, value


class Wire:
    """Bytes that crossed the relay, both ways, since the last question."""

    def __init__(self, ceph):
        self.ceph, self.last = ceph, 0
        self.since()

    def since(self):
        total = 0
        for row in self.ceph.counters().values():
            total += row["to_site"]["tcp_bytes"] + row["from_site"]["tcp_bytes"]
        passed, self.last = total - self.last, total
        return passed


def fill(mount, megabytes, file_bytes):
    data = os.urandom(64 * MIB)
    done = number = 0
    while done < megabytes * MIB:
        with open(mount / f"file{number}-{file_bytes}", "wb") as file:
            for at in range(0, file_bytes, len(data)):
                file.write(data[at % 997:][:min(len(data), file_bytes - at)])
        done += file_bytes
        number += 1
    descriptor = os.open(mount, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def audit(cloud, *options):
    return json.loads(cloud.tool("audit", "--json", *options, seconds=7200))


def download(site):
    """What an auditor without tags must do: read every object and hash it."""
    import rados
    cluster = rados.Rados(conffile=str(site.dir / "ceph.conf"), name="client.admin",
                          conf={"keyring": str(site.dir / "ceph.client.admin.keyring")})
    cluster.connect()
    with cluster.open_ioctx(site.pool) as pool:
        pool.set_namespace(site.namespace)
        names = [o.key for o in pool.list_objects()]
        total, window = 0, []
        for name in names + [None] * 16:
            if name is not None:
                box = {}
                event = threading.Event()

                def arrived(_, data, box=box, event=event):
                    box["data"] = data
                    event.set()

                pool.aio_read(name, 5 * MIB, 0, arrived)
                window.append((box, event))
            if len(window) > 15 or name is None:
                if not window:
                    break
                box, event = window.pop(0)
                event.wait()
                hashlib.sha256(box["data"]).digest()
                total += len(box["data"])
    cluster.shutdown()
    return total


def download_all(sites):
    totals = [0] * len(sites)

    def one(i):
        totals[i] = download(sites[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(sites))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(totals)


def ceph(site, *words):
    at = site.dir
    done = subprocess.run(["ceph", "-c", at / "ceph.conf", "-n", "client.admin", "--keyring",
                           at / "ceph.client.admin.keyring", *words],
                          capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def deep_scrub(site):
    """Of every placement group of the pool, as fast as the OSD can."""
    for option, value in (("osd_max_scrubs", 4), ("osd_scrub_load_threshold", 1000),
                          ("osd_scrub_backoff_ratio", 0), ("osd_scrub_sleep", 0)):
        ceph(site, "tell", "osd.0", "config", "set", option, str(value))
    pool = next(p for p in json.loads(ceph(site, "osd", "dump", "-f", "json"))["pools"]
                if p["pool_name"] == site.pool)
    groups = {f"{pool['pool']}.{n:x}" for n in range(pool["pg_num"])}
    log = site.dir / "osd.log"
    before = log.stat().st_size
    started = time.monotonic()
    for group in groups:
        ceph(site, "tell", group, "deep_scrub")  # due deep,
        ceph(site, "tell", group, "scrub")       # and now
    while True:
        with open(log, errors="replace") as lines:
            lines.seek(before)
            done = {w for line in lines if "deep-scrub ok" in line for w in line.split()}
        if groups <= done:
            return time.monotonic() - started
        if time.monotonic() - started > 3600:
            raise RuntimeError(f"no deep scrub of {groups - done}")
        time.sleep(0.2)


def deep_scrub_all(sites):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return max(pool.map(deep_scrub, sites))


def row(what, seconds, covered, moved):
    print(f"| {what} | {seconds:.1f} s | {covered / MIB:.0f} MiB | {moved / MIB:.2f} MiB | "
          f"{100 * moved / covered:.3f} % |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--small-mib", type=int, default=64)
    options = parser.parse_args()
    with Cloud(sites=3, code="rs-2-1", stores="rados",
               cloud={"compress": "none"}, daemon={"audit_cycle_ms": 0, "fold": "manual"}) as cloud:
        sites = [cloud.sites[name] for name in cloud.names]
        wire = Wire(sites[0].ceph)
        cloud.start_daemon()
        mount = cloud.mount()
        seconds, _ = timed(lambda: fill(mount.point, options.gib * 1024, 256 * MIB))
        print(f"{options.gib} GiB written in {seconds:.0f} s", flush=True)
        print("| what | time | of | between sites | of what is stored |\n|---|---:|---:|---:|---:|")
        wire.since()
        seconds, report = timed(lambda: audit(cloud))
        assert not report["bad"] and report["read_remotely"] == 0, report
        row("full audit", seconds, report["bytes_covered"], wire.since())
        covered, shards = report["bytes_covered"], report["shards_checked"]
        seconds, report = timed(lambda: audit(cloud, "--confidence", "0.9999", "--damage", "0.04"))
        row(f"sample of {report['shards_checked']} of {shards} shards", seconds, covered,
            wire.since())
        wire.since()
        seconds, total = timed(lambda: download_all(sites))
        row("download and SHA-256", seconds, total, wire.since())
        wire.since()
        row("Ceph's deep scrub", deep_scrub_all(sites), total, wire.since())
        fill(mount.point, options.small_mib, 20_000)
        wire.since()
        seconds, both = timed(lambda: audit(cloud))
        stored = both["bytes_covered"] - covered
        row(f"full audit, {options.small_mib} MiB of files of 20 kB more", seconds,
            both["bytes_covered"], wire.since())
        print(f"of that, small files: {stored / MIB:.0f} MiB in "
              f"{both['shards_checked'] - shards} further shards")
        mount.unmount()


if __name__ == "__main__":
    main()
