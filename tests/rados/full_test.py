"""One of five sites is a cluster that fills up until Ceph takes no more: writes go on at the others,
nothing hangs, status names it, all is exact; and with room again it is used again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, sha256_tree, wait_for  # noqa: E402
from cloud_sites import CEPH_SITES, CephSites, RadosSite, make_sites  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from programs_at_work import AtWork  # noqa: E402

OPERATION_S_MAX = 15 * SLOWNESS
FULL = "site5"


class SmallCluster:
    """A cluster of its own with a small OSD that others fill."""

    def __init__(self):
        self.ceph = None
        self.blocks = 0

    def sites(self, names, root):
        where = root / "small"
        subprocess.run([CEPH_SITES, "up", "1", "--plain", "--mgr", "--osd-bytes", "1200M", "--dir", where,
                        "--owner", str(os.getpid())], check=True, timeout=120)
        self.ceph = CephSites(where)
        # Well before the OSD itself runs out of space, which it does not survive.
        for kind, ratio in (("nearfull", 0.3), ("backfillfull", 0.35), ("full", 0.4)):
            self.ceph.run("monitor", 1, f"osd set-{kind}-ratio", f"ratio={ratio}")
        full = RadosSite(names[-1], self.ceph, 1, "datacloud", f"full-{os.getpid()}", False)
        return make_sites(names[:-1], root, "rados") + [full]

    def others(self, *words, seconds=60):
        """rados as another user of the pool."""
        subprocess.run(["rados", "-c", self.ceph.dir / "site1/ceph.conf", "-n", "client.admin", "-p",
                        "datacloud", "-N", "others", *words], timeout=seconds, check=True)

    def is_full(self):
        pool = json.loads(self.ceph.run("monitor", 1, "osd dump"))["pools"][0]
        return "full" in pool["flags_names"].split(",")

    def fill(self):
        """Returns the number of blocks it took until Ceph blocked a writer."""
        block = self.ceph.dir / "block"
        block.write_bytes(os.urandom(8 << 20))
        for i in range(150):
            try:
                self.others("put", f"f{i}", block, seconds=4)
            except subprocess.TimeoutExpired:
                break
        wait_for(self.is_full, 20, "the OSD to be full")
        self.blocks = i
        return i

    def make_room(self):
        self.others("rm", "--force-full", *[f"f{i}" for i in range(self.blocks)])

    def take_down(self):
        subprocess.run([CEPH_SITES, "down", "--dir", self.ceph.dir], check=True, timeout=60)


def objects_at(cloud):
    return len(cloud.sites[FULL].locations())


def test(options):
    del options.rounds
    small = SmallCluster()
    with Cloud(stores=small.sites, mount={"put_deadline_ms": 4000}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount("cache_bytes_max=1MiB")
        with AtWork(mount / "work", options.seed) as work:
            time.sleep(1)
            note(f"the cluster of {FULL} is full after {small.fill()} blocks of others")
            began = time.monotonic()
            before = objects_at(cloud)
            time.sleep(8)
            during = work.since(began)
            errors = [o for o in during if o[3]]
            check(not errors, "no program sees an error while one site is full", errors[:3])
            slowest = max(o[2] for o in during)
            check(slowest < OPERATION_S_MAX, f"the slowest operation took {slowest:.1f} s")
            writes = len(work.since(began, "write"))
            check(writes > 3, f"{writes} files were written meanwhile")
            check_equal(objects_at(cloud) - before <= 2, True, "none of it at the full site")
            wait_for(lambda: any(FULL in problem for problem in cloud.status()["problems"]), 20,
                     "status to name the full site")
            note("ok: " + next(p for p in cloud.status()["problems"] if FULL in p))
            small.make_room()
            wait_for(lambda: objects_at(cloud) > before + 3, 60, "the site to be used again")
            note("ok: with room again it is used again")
        check(not work.hanging(), "all programs end")
        mount.remount()
        check_equal({n: d for n, d in sha256_tree(mount / "work").items() if n in work.digests},
                    work.digests, f"all {len(work.digests)} files are exact after a remount")
        mount.unmount()
        cloud.close()
        small.take_down()


if __name__ == "__main__":
    harness.main(test, 240)
