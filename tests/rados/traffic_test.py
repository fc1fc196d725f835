"""`datacloud traffic` agrees with what the relay saw, per site and way, within 5 %.

Accounting counts the bytes of objects and attributes; the relay counts what TCP carries, which is
the same plus the messenger's frames. With shards of 4 MiB the difference must stay below 5 %."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, drop_caches  # noqa: E402
from cloud_sites import CephSites  # noqa: E402
from harness import check, note  # noqa: E402

BYTES = 192 << 20
DIFFERENCE_MAX = 0.05


def accounted(cloud):
    """{site: (bytes to it, bytes from it)} of all purposes."""
    found = {}
    for row in json.loads(cloud.tool("traffic", "--json"))["sites"]:
        cells = row["purposes"].values()
        found[row["site"]] = (sum(c["written"] for c in cells), sum(c["read"] for c in cells))
    return found


def relayed(ceph):
    return {f"site{number}": (row["to_site"]["tcp_bytes"], row["from_site"]["tcp_bytes"])
            for number, row in ceph.counters().items()}


def compare(what, way, before, after):
    for site in sorted(before[0]):
        ours = after[0][site][way] - before[0][site][way]
        theirs = after[1][site][way] - before[1][site][way]
        difference = (theirs - ours) / max(theirs, 1)
        note(f"{what}, {site}: accounted {ours}, within TCP {theirs}")
        check(ours > BYTES // 5 and abs(difference) < DIFFERENCE_MAX,
              f"{what}, {site}: the relay saw {difference * 100:+.2f} % more")


def test(options):
    del options.rounds
    with Cloud(sites=3, code="rs-2-1", cloud={"compress": "none"},
               stores="rados") as cloud:
        ceph = CephSites(os.environ["DATACLOUD_CEPH_SITES"])
        cloud.start_daemon()
        mount = cloud.mount()
        before = accounted(cloud), relayed(ceph)
        with open(mount / "big", "wb") as file, open("/dev/urandom", "rb") as source:
            for _ in range(BYTES >> 22):
                file.write(source.read(4 << 20))
            file.flush()
            os.fsync(file.fileno())
        mount.unmount()  # it tells the daemon its last bytes
        after = accounted(cloud), relayed(ceph)
        compare("writing", 0, before, after)
        drop_caches()
        mount = cloud.mount()
        with open(mount / "big", "rb") as file:
            while file.read(4 << 20):
                pass
        mount.unmount()
        read = accounted(cloud), relayed(ceph)
        total = [sum(read[i][s][1] - after[i][s][1] for s in read[0]) for i in (0, 1)]
        note(f"reading: accounted {total[0]}, within TCP {total[1]}")
        check(total[0] > BYTES * 0.95 and abs(total[1] - total[0]) / total[1] < DIFFERENCE_MAX,
              "reading: within 5 % over all sites")


if __name__ == "__main__":
    harness.main(test, 150)
