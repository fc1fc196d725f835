"""Sites come and go: one joins, shards spread over it, another is drained, emptied and removed."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import cloud_sites  # noqa: E402
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


def tool_json(cloud, *arguments, seconds=120, code=0):
    done = cloud.run_tool(*arguments, "--json", seconds=seconds)
    check(done.returncode == code, f"{' '.join(map(str, arguments))}: exit code {code}",
          done.stdout + done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def put_to_use(cloud, mount, site):
    """Until the mount puts shards of new files there."""
    def used():
        path = mount / "probe"
        trees.write_file(path, os.urandom(200_000), sync=True)
        return site in {s["site"] for s in cloud.shards(path)}
    wait_for(used, 15, f"the mount to use {site}")


def a_site_joins(cloud, mount, expected):
    """Neither the daemon nor the mount is started again."""
    tool_json(cloud, "site", "add", "site6", code=1)  # not configured
    cloud.names.append("site6")
    (cloud.sites["site6"],) = cloud_sites.make_sites(["site6"], cloud.root,
                                                     cloud_sites.default_stores())
    cloud.write_config()
    added = tool_json(cloud, "site", "add", "site6")
    check_equal((added["id"], added["restart_needed"], added["obstacle"]), (6, False, ""),
                "site6 is added and used")
    check_equal(tool_json(cloud, "site", "add", "site6"), added, "adding it again changes nothing")
    status = cloud.status()
    check_equal([s["up"] for s in status["sites"]], [True] * 6, "the daemon uses it at once")
    check_equal(sha256_tree(mount / "data"), expected, "the mount goes on without a restart")
    put_to_use(cloud, mount, "site6")


def a_mount_with(cloud, config):
    now, cloud.config = cloud.config, config
    mount = cloud.mount(name="other")
    cloud.config = now
    return mount


def without_configuration(cloud, other, expected):
    """Its configuration does not name the new site: what is there is decoded from the rest."""
    check_equal(sha256_tree(other / "data"), expected, "a mount goes on without knowing the site")
    trees.write_file(other / "by other", b"written with five sites", sync=True)
    other.unmount()


def shards_spread_over_it(cloud, mount, expected):
    report = tool_json(cloud, "site", "rebalance")
    check(report["shards"] > 0 and report["left"] == 0, "shards have new homes", report)
    cloud.collect()
    held = {s["name"]: s["shards"] for s in cloud.status()["sites"]}
    average = sum(held.values()) / len(held)
    check(held["site6"] > average * 0.7, "the new site holds its share", held)
    check_equal(tool_json(cloud, "audit")["bad"], [], "everything is proven where it is")
    cloud.take_away("site2", "site4")
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "any two sites may go")
    cloud.put_back_and_wait("site2", "site4")


def a_site_leaves(cloud, mount, expected):
    refused = tool_json(cloud, "site", "remove", "site1", code=1)
    check("drain" in refused, "a site in use is not removed", refused)
    check_equal(tool_json(cloud, "site", "drain", "site1")["left"], 0, "site1 is drained")
    cloud.collect()
    check_equal(cloud.object_locations("site1"), set(), "and holds nothing")
    check(not tool_json(cloud, "site", "remove", "site1")["restart_needed"], "it is removed")
    cloud.names.remove("site1")
    cloud.write_config()
    mount.remount()
    check_equal({s["name"] for s in cloud.status()["sites"]}, set(cloud.names), "site1 has left")
    check_equal(sha256_tree(mount / "data"), expected, "nothing is missed")
    trees.write_file(mount / "new", b"written without it", sync=True)
    check_equal(tool_json(cloud, "audit")["bad"], [], "and everything is proven")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        for i in range(12):
            trees.write_file(mount / f"file{i}", rng.randbytes(200_000), sync=True)
        (mount / "data").mkdir()
        for i in range(30):
            trees.write_file(mount / "data" / f"file{i}", rng.randbytes(100_000), sync=True)
        expected = sha256_tree(mount / "data")
        before = cloud.root / "before.toml"
        shutil.copy(cloud.config, before)
        other = a_mount_with(cloud, before)
        a_site_joins(cloud, mount, expected)
        shards_spread_over_it(cloud, mount, expected)
        without_configuration(cloud, other, expected)
        a_site_leaves(cloud, mount, expected)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
