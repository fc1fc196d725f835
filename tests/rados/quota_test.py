"""All sites are pools whose quota is used up: programs get EDQUOT, soon, and never wait; what is
durable stays, deleting works, and with a larger quota writes go on by themselves."""

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, wait_for  # noqa: E402
from cloud_sites import CEPH_SITES, CephSites, RadosSite  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

SOON = 5 * SLOWNESS  # seconds; half of the shortest deadline



class QuotaCluster:
    """One cluster with a pool for each site. Monitors count with a manager only."""

    def __init__(self):
        self.ceph, self.pools = None, []

    def sites(self, names, root):
        where = root / "ceph"
        subprocess.run([CEPH_SITES, "up", "1", "--plain", "--mgr", "--dir", where, "--owner",
                        str(os.getpid())], check=True, timeout=120)
        self.ceph = CephSites(where)
        sites = []
        for i, name in enumerate(names):
            pool = "datacloud" if i == 0 else f"datacloud{i + 1}"
            if i > 0:
                self.ceph.run("pool", 1, pool)
            self.pools.append(pool)
            sites.append(RadosSite(name, self.ceph, 1, pool, f"quota-{os.getpid()}", True))
        return sites

    def set_quota(self, size):
        for pool in self.pools:
            self.ceph.run("monitor", 1, "osd pool set-quota", f"pool={pool}", "field=max_bytes",
                          f"val={size}")

    def take_down(self):
        subprocess.run([CEPH_SITES, "down", "--dir", self.ceph.dir], check=True, timeout=60)


def write(path, data):
    """(errno name or "ok", seconds)"""
    began = time.monotonic()
    outcome = "ok"
    try:
        with open(path, "xb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    return outcome, time.monotonic() - began


def test(options):
    rng = random.Random(options.seed)
    small = QuotaCluster()
    with Cloud(stores=small.sites) as cloud:
        small.set_quota("24M")
        cloud.start_daemon()
        mount = cloud.mount("cache_bytes_max=1MiB")
        kept, outcomes, number = {}, [], 0
        # Monitors notice a used up quota seconds later: more than that is written before.
        end = time.monotonic() + 60 * SLOWNESS
        while len(outcomes) < 8 and time.monotonic() < end:
            name, data = f"f{number}", rng.randbytes(3 << 20)
            number += 1
            outcome, seconds = write(mount / name, data)
            if outcome == "ok":
                kept[name] = data
                outcomes = []
            else:
                outcomes.append((outcome, seconds))
        check_equal({o for o, _ in outcomes}, {"EDQUOT"},
                    f"quotas used up after {len(kept)} files of 3 MiB")
        check(len(outcomes) == 8 and max(s for _, s in outcomes) < SOON,
              f"the slowest was told after {max(s for _, s in outcomes):.2f} s")
        for name, data in kept.items():
            if (mount / name).read_bytes() != data:
                raise harness.CheckFailed(f"{name} differs")
        note("ok: all that was synced can be read")
        os.unlink(mount / kept.popitem()[0])
        cloud.collect()
        note("ok: deleting works")
        small.set_quota("1G")
        began = time.monotonic()

        def written():
            nonlocal number
            number += 1
            data = rng.randbytes(3 << 20)
            if write(mount / f"f{number}", data)[0] != "ok":
                return False
            kept[f"f{number}"] = data
            return True
        wait_for(written, 60, "writes to go on")
        note(f"ok: with a larger quota writes go on after {time.monotonic() - began:.1f} s")
        mount.remount()
        for name, data in kept.items():
            if (mount / name).read_bytes() != data:
                raise harness.CheckFailed(f"{name} differs after a remount")
        note(f"ok: all {len(kept)} files are exact after a remount")
        mount.unmount()
        cloud.close()
        small.take_down()


if __name__ == "__main__":
    harness.main(test, 240)
