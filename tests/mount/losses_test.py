"""Any two of five sites may be gone: moved away, or unmounted with an empty directory in place."""

import hashlib
import itertools
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, drop_caches, sha256_of, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402

MARKER_TRUSTED_S = 3.5  # kMarkerFresh and a little


def every_pair_may_go(cloud, mount, expected):
    for first, second in itertools.combinations(cloud.names, 2):
        cloud.take_away(first, second)
        mount.remount()
        check_equal(sha256_tree(mount / "data"), expected, f"without {first} and {second}")
        cloud.put_back(first, second)


def empty_in_place(cloud, *sites):
    """A pool's marker may be trusted for a moment (rados_store.h); repair is kept from using it."""
    pools = any(cloud.sites[site].kind == "rados" for site in sites)
    if pools:
        cloud.tool("background", "pause")
        time.sleep(0.5)  # what is on its way arrives
    cloud.empty_in_place(*sites)
    if pools:
        time.sleep(MARKER_TRUSTED_S)
        cloud.tool("background", "resume")


def empty_directories_are_not_sites(cloud, mount, expected, rng):
    for first, second in rng.sample(list(itertools.combinations(cloud.names, 2)), 3):
        empty_in_place(cloud, first, second)
        mount.remount()
        check_equal(sha256_tree(mount / "data"), expected, f"{first} and {second} unmounted")
        trees.write_file(mount / "while-unmounted" / first / second, rng.randbytes(300_000),
                         sync=True)
        wait_for(lambda: {s["name"] for s in cloud.status()["sites"] if not s["up"]}
                 == {first, second}, 15, f"status to call {first} and {second} away")
        cloud.put_back(first, second)  # fails if anything was written there
    harness.note("ok: an unmounted site's directory is never filled")


def sites_leave_under_a_live_mount(cloud, mount, expected, rng):
    """No remount: the mount itself must notice, and notice the return."""
    for first, second in rng.sample(list(itertools.combinations(cloud.names, 2)), 3):
        cloud.take_away(first, second)
        drop_caches()
        check_equal(sha256_tree(mount / "data"), expected,
                    f"{first} and {second} leave under a live mount")
        cloud.put_back_and_wait(first, second)


def writes_with_two_gone_use_stand_ins(cloud, mount, rng):
    names = [f"stand-in-{i}" for i in range(4)]
    for name in names:
        first, second = rng.sample(cloud.names, 2)
        cloud.take_away(first, second)
        data = rng.randbytes(rng.choice([20_000, 700_000, 3_000_000]))
        trees.write_file(mount / name, data, sync=True)
        for stripe in cloud.locate(mount / name)["stripes"]:
            used = {}
            for shard in stripe["shards"]:
                check(shard["state"] in ("present", "empty"), f"{name}: every shard is stored",
                      stripe)
                if shard["state"] == "present":
                    used[shard["site"]] = used.get(shard["site"], 0) + 1
            check(not {first, second} & set(used), f"{name}: all shards on sites that live", used)
            if sum(used.values()) == 5:
                check_equal(sorted(used.values()), [1, 2, 2], f"{name}: five shards as 2+2+1")
        wait_for(lambda: cloud.status()["health"] != "ok", 15, "status to be degraded")
        cloud.put_back(first, second)
        mount.remount()
        check(sha256_of(mount / name) == sha256_of_bytes(data), f"{name}: exact after their return")
    cloud.take_away(*rng.sample(cloud.names, 1))
    mount.remount()
    for name in names:
        os.stat(mount / name)
        sha256_of(mount / name)
    harness.note("ok: files written with stand-ins survive the loss of one more site")


def sha256_of_bytes(data):
    return hashlib.sha256(data).hexdigest()


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        local = trees.make_tree(cloud.root / "local", rng)
        expected = sha256_tree(local)
        cloud.start_daemon()
        mount = cloud.mount()
        trees.copy_into(local, mount / "data")
        # Now, with all sites there: what is written while some are away is spread over the others.
        trees.fsync_tree(mount / "data")
        check_equal(cloud.status()["shards"]["missing"], 0, "all shards were stored")
        every_pair_may_go(cloud, mount, expected)
        empty_directories_are_not_sites(cloud, mount, expected, rng)
        sites_leave_under_a_live_mount(cloud, mount, expected, rng)
        writes_with_two_gone_use_stand_ins(cloud, mount, rng)


if __name__ == "__main__":
    harness.main(test, 240)
