"""What befalls Ceph clusters, in the middle of writes and reads: an OSD killed, a monitor stopped, a
link cut, a cluster restarted. No error, no hang beyond the deadlines, exact data, and status says
who and what is missing."""

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import SLOWNESS, Cloud, sha256_tree, tail, wait_for  # noqa: E402
from cloud_sites import CephSites  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from programs_at_work import AtWork  # noqa: E402

DEADLINES = {"put_deadline_ms": 3000, "read_deadline_ms": 2000}
# One put or read that is given up, the same at a stand-in or of further columns, and slow machines.
OPERATION_S_MAX = 10 * SLOWNESS
ASIDE_S = 4


def hits(ceph, number):
    """{what happens: (do, undo)} to the cluster of a site."""
    def run(*words):
        return lambda: ceph.run(words[0], number, *words[1:])

    def restart():
        ceph.run("restart", number)
        ceph.run("wait", number)

    return {
        "its OSD killed": (run("kill-osd", "-9"), run("start-osd")),
        "its monitor stopped": (run("stop-mon"), run("start-mon")),
        "its link cut": (run("link", "--cut"), run("link", "--heal")),
        "restarted": (restart, lambda: None),
    }


def site_of(cloud, name):
    return next(s for s in cloud.status()["sites"] if s["name"] == name)


def befalls(cloud, mount, work, name, what, do, undo):
    began = time.monotonic()
    do()
    time.sleep(ASIDE_S)
    middle = time.monotonic()
    time.sleep(ASIDE_S)
    if what in ("its OSD killed", "its link cut"):
        wait_for(lambda: not site_of(cloud, name)["up"], 15, f"status to call {name} away")
        reason = site_of(cloud, name)["reason"]
        check(reason != "", f"{name} {what}: status names it: {reason}")
        check(any(name in problem for problem in cloud.status()["problems"]),
              f"{name} {what}: and its problems do")
        log = tail(mount.log, 1000) + tail(cloud.root / "daemon.log", 1000)
        check(name in log, f"{name} {what}: and the logs do")
    undone = time.monotonic()
    undo()
    wait_for(lambda: site_of(cloud, name)["up"], 40, f"{name} to be back")
    note(f"{name} is back {time.monotonic() - undone:.1f} s after the remedy began")
    during = work.since(began)
    errors = [o for o in during if o[3]]
    check(not errors, f"{name} {what}: no program sees an error", errors[:3])
    slowest = max(during, key=lambda o: o[2])
    check(slowest[2] < OPERATION_S_MAX,
          f"{name} {what}: the slowest of {len(during)} operations took {slowest[2]:.1f} s", slowest)
    late = {kind: len([o for o in work.since(middle, kind) if o[1] < undone])
            for kind in ("write", "read")}
    check(min(late.values()) > 0, f"{name} {what}: work goes on without it: {late}")


def waiting_for_repair(cloud):
    return sum(s["shards_missing"] + s["stand_ins"] for s in cloud.status()["sites"])


def a_link_cut_for_long_is_made_good(cloud, ceph, mount, seed):
    """Files written while two sites are cut off have their shards elsewhere, or not at all, and
    `locate` says so; once the links are back repair makes all whole."""
    data = random.Random(seed).randbytes(3 << 20)
    for number in (1, 2):
        ceph.run("link", number, "--cut")
    trees.write_file(mount / "beside", data, sync=True)
    shards = cloud.shards(mount / "beside")
    aside = [s for s in shards if s["state"] == "missing" or s["site"] not in ("site1", "site2")]
    check_equal(len(aside), len([s for s in shards if s["state"] != "empty"]),
                "locate: every shard of a file written meanwhile is elsewhere or missing")
    wait_for(lambda: waiting_for_repair(cloud) > 0, 15, "status to count them")
    note(f"ok: status counts {waiting_for_repair(cloud)} shards that wait for repair")
    for number in (1, 2):
        ceph.run("link", number, "--heal")
    wait_for(lambda: all(s["up"] for s in cloud.status()["sites"]), 40, "all sites to be back")
    report = json.loads(cloud.tool("repair", "--wait", "--json", seconds=120))
    check_equal(report["queued"], 0, f"repair puts back {report['repaired']} shards, none is left")
    status = cloud.status()
    left = {s["name"]: (s["shards_missing"], s["stand_ins"]) for s in status["sites"]}
    check_equal(set(left.values()), {(0, 0)}, "no shard is missing, none stands in elsewhere")
    audit = json.loads(cloud.tool("audit", "--json", seconds=120))
    check_equal(audit["bad"], [], f"an audit proves all {audit['shards_checked']} shards")
    for pair in (("site1", "site4"), ("site2", "site3")):
        cloud.take_away(*pair)
        mount.remount()
        check_equal((mount / "beside").read_bytes(), data, f"whole: exact without {pair}")
        cloud.put_back(*pair)


def test(options):
    del options.rounds
    with Cloud(mount=DEADLINES, stores="rados") as cloud:
        ceph = CephSites(next(s.ceph.dir for s in cloud.sites.values() if s.kind == "rados"))
        for number in range(1, ceph.count + 1):
            ceph.run("link", number, "--rtt", "5ms")
        cloud.start_daemon()
        mount = cloud.mount("cache_bytes_max=1MiB")
        with AtWork(mount / "work", options.seed) as work:
            time.sleep(2)
            for turn, what in enumerate(hits(ceph, 1)):
                number = turn % ceph.count + 1
                befalls(cloud, mount, work, f"site{number}", what, *hits(ceph, number)[what])
            time.sleep(2)
        check(not work.hanging(), "all programs end")
        mount.remount()
        check_equal({n: d for n, d in sha256_tree(mount / "work").items() if n in work.digests},
                    work.digests, f"all {len(work.digests)} files are exact after a remount")
        a_link_cut_for_long_is_made_good(cloud, ceph, mount, options.seed)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
