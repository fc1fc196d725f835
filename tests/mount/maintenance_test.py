"""What the administrator relies on: audits name the site that lost or changed bytes, repair mends
what sites lost, sites are drained and rebuilt, and overwritten space comes back."""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402


def tool_json(cloud, *arguments, seconds=120, code=0):
    import json
    done = cloud.run_tool(*arguments, "--json", seconds=seconds)
    check(done.returncode == code, f"{' '.join(map(str, arguments))}: exit code {code}",
          done.stdout + done.stderr)
    return json.loads(done.stdout)


def damage(cloud, path, rng):
    """Loses, changes and replaces a shard each; {(stripe, column, site): reason}."""
    shards = {(s["stripe"], s["column"], s["site"]): s["location"] for s in cloud.shards(path)
              if s["state"] == "present"}
    missing, corrupt, stale = rng.sample(sorted(shards), 3)
    while len({missing[0], corrupt[0], stale[0]}) < 2:  # one stripe survives two losses
        missing, corrupt, stale = rng.sample(sorted(shards), 3)
    places = {key: shards[key] for key in (missing, corrupt, stale)}
    # Another stripe's object under this name: sound bytes, of the wrong instance.
    other = next(location for _, location in sorted(cloud.object_locations(stale[2]))
                 if location not in places.values())
    cloud.sites[missing[2]].lose(places[missing])
    data = bytearray(cloud.sites[corrupt[2]].read(places[corrupt]))
    data[rng.randrange(len(data) // 2)] ^= 0x40
    cloud.sites[corrupt[2]].write(places[corrupt], bytes(data))
    cloud.sites[stale[2]].replace(places[stale], other)
    return {missing: "missing", corrupt: "corrupt", stale: "stale"}


def audits_name_the_culprit(cloud, mount, rng):
    clean = tool_json(cloud, "audit")
    check_equal(clean["bad"], [], "an audit of a sound cloud finds nothing")
    check(clean["shards_checked"] > 10 and clean["bytes_covered"] > 1 << 20, "and covers it", clean)
    path = mount / "data" / "large" / "large-0.bin"
    damaged = damage(cloud, path, rng)
    report = tool_json(cloud, "audit", path)
    found = {(b["stripe"], b["column"], b["site"]): b["reason"] for b in report["bad"]}
    check_equal(found, damaged, "an audit names stripe, column, site and what happened")
    tool_json(cloud, "repair", "--wait")
    check_equal(tool_json(cloud, "audit")["bad"], [], "after repair everything is proven again")
    sampled = tool_json(cloud, "audit", "--sample", "7")
    check_equal(sampled["shards_checked"], 7, "a sample of seven shards")


def lost_shards_come_back(cloud, mount, expected, rng):
    there = sorted(cloud.object_locations(*rng.sample(cloud.names, 2)))
    for site, location in rng.sample(there, len(there) // 2):
        cloud.sites[site].lose(location)
    report = tool_json(cloud, "repair", "--wait")
    check(report["missing_found"] > 0 and report["queued"] == 0, "repair finds what is missing",
          report)
    status = cloud.status()
    check_equal((status["shards"]["missing"], status["shards"]["damaged"]), (0, 0), "nothing is left bad")
    for first in rng.sample(cloud.names, 2):
        second = rng.choice([n for n in cloud.names if n != first])
        cloud.take_away(first, second)
        mount.remount()
        check_equal(sha256_tree(mount / "data"), expected, f"exact without {first} and {second}")
        cloud.put_back_and_wait(first, second)


def a_site_is_replaced(cloud, mount, expected, rng):
    lost = rng.choice(cloud.names)
    cloud.sites[lost].replace_by_empty()
    wait_for(lambda: not next(s for s in cloud.status()["sites"] if s["name"] == lost)["up"], 15,
             "the empty site to be away")
    report = tool_json(cloud, "site", "rebuild", lost)
    check(report["formatted"] and report["left"] == 0, f"{lost} is rebuilt in place", report)
    check_equal(tool_json(cloud, "audit")["bad"], [], "and proves everything")
    others = [n for n in cloud.names if n != lost][:2]
    cloud.take_away(*others)
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, f"exact without {others}: {lost} is needed")
    cloud.put_back_and_wait(*others)


def a_site_is_drained_and_used_again(cloud, mount, expected, rng):
    name = rng.choice(cloud.names)
    report = tool_json(cloud, "site", "drain", name)
    check_equal(report["left"], 0, f"{name} is drained")
    cloud.collect()
    check_equal(cloud.object_locations(name), set(), "a drained site holds nothing")
    wait_for(lambda: True, 1, "a moment")
    check_equal(sha256_tree(mount / "data"), expected, "and nothing is missed")
    tool_json(cloud, "site", "activate", name)
    check_equal(tool_json(cloud, "site", "list")[0]["duty"], "active", "it is used again")


def a_site_that_is_gone_is_rebuilt_elsewhere(cloud, mount, expected, rng):
    name = rng.choice(cloud.names)
    cloud.take_away(name)
    wait_for(lambda: not next(s for s in cloud.status()["sites"] if s["name"] == name)["up"], 15,
             f"{name} to be away")
    report = tool_json(cloud, "site", "rebuild", name)
    check(report["declared_lost"] and report["left"] == 0, "rebuilt at the others", report)
    check_equal(sha256_tree(mount / "data"), expected, "exact")
    cloud.put_back_and_wait(name)
    tool_json(cloud, "site", "activate", name)


def overwritten_space_comes_back(cloud, mount, rng):
    path = mount / "database"
    blocks = 256
    content = bytearray(rng.randbytes(blocks * 65536))
    trees.write_file(path, bytes(content), sync=True)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(300):
            at = rng.randrange(blocks * 16) * 4096
            piece = rng.randbytes(4096)
            content[at:at + 4096] = piece
            file.seek(at)
            file.write(piece)
            os.fsync(file.fileno())
    before = cloud.status()
    tool_json(cloud, "fold", "--wait")
    cloud.collect()
    after = cloud.status()
    note("stored %d -> %d bytes" % (before["capacity"]["stored_bytes"],
                                    after["capacity"]["stored_bytes"]))
    check_equal(path.read_bytes(), bytes(content), "every byte is the newest after folding")
    mount.remount()
    check_equal((mount / "database").read_bytes(), bytes(content), "and after a remount")
    fresh = after["capacity"]["live_bytes"] * 5 / 3
    check(after["capacity"]["stored_bytes"] <= fresh * 1.12, "space is within 12 % of a fresh copy",
          (after["capacity"]["stored_bytes"], fresh))
    check_equal(tool_json(cloud, "audit")["bad"], [], "the merged stripes are proven")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.make_tree(mount / "data", rng, small=100, large=(20 << 20, 3 << 20))
        os.sync()
        mount.remount()
        expected = sha256_tree(mount / "data")
        audits_name_the_culprit(cloud, mount, rng)
        lost_shards_come_back(cloud, mount, expected, rng)
        a_site_is_replaced(cloud, mount, expected, rng)
        a_site_is_drained_and_used_again(cloud, mount, expected, rng)
        a_site_that_is_gone_is_rebuilt_elsewhere(cloud, mount, expected, rng)
        overwritten_space_comes_back(cloud, mount, rng)
        check_equal(sha256_tree(mount / "data"), expected, "and everything is as it was")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
