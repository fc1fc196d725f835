"""Codes and groups on a mount: files in every code survive what it promises, lost shards of a group
come back inside their site, and rows go when their files go."""

import json
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_of, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


def tool_json(cloud, *arguments, seconds=120):
    done = cloud.run_tool(*arguments, "--json", seconds=seconds)
    check(done.returncode == 0, " ".join(map(str, arguments)), done.stdout + done.stderr)
    return json.loads(done.stdout)


def present(stripe):
    return [s for s in stripe["shards"] if s["state"] == "present"]


def repaired(cloud):
    report = tool_json(cloud, "repair", "--wait")
    check_equal(report["queued"], 0, "nothing is left to repair")
    return report["shards"]


def grouped(cloud, mount, rng):
    """Two groups of two stripes; their rows are there soon after."""
    directory = mount / "grouped"
    directory.mkdir()
    policy = tool_json(cloud, "policy", "set", directory, "--group", "2")
    check_equal((policy["group"], policy["code"]), (2, "rs-3-2"), "the policy is set")
    text = cloud.run_tool("policy", "show", directory).stdout
    check("1/2 more" in text, "policy says what rows cost", text)
    path = directory / "large"
    trees.write_file(path, rng.randbytes(48 << 20), sync=True)
    wait_for(lambda: len(cloud.locate(path).get("rows", [])) == 2, 20, "two rows")
    located = cloud.locate(path)
    for row in located["rows"]:
        members = [s for s in located["stripes"] if s["id"] in row["members"]]
        check_equal(len(members), 2, "each row counts two stripes of the file")
        check(all(m["group"] == row["id"] for m in members), "which name it")
        for column in range(5):
            sites = {s["shards"][column]["site"] for s in members + [row]}
            check_equal(len(sites), 1, f"column {column} of the group is at one site")
    status = cloud.status()["groups"]
    check_equal((status["rows"], status["members"]), (2, 4), "status counts them")
    check_equal(tool_json(cloud, "audit")["bad"], [], "rows are proven like stripes")
    return path


def lost_shards_come_back_vertically(cloud, path, expected, mount):
    here = cloud.names[0]
    located = cloud.locate(path)
    shard = next(s for stripe in located["stripes"] for s in present(stripe) if s["site"] == here)
    cloud.sites[shard["site"]].lose(shard["location"])
    (line,) = repaired(cloud)
    check_equal((line["method"], line["bytes_between_sites"]), ("vertical", 0),
                "one lost shard is repaired inside its site")
    # Three of one stripe: more than its code allows.
    stripe = located["stripes"][1]
    for shard in present(stripe)[:3]:
        cloud.sites[shard["site"]].lose(shard["location"])
    methods = {line["method"] for line in repaired(cloud)}
    check("vertical" in methods, "three lost shards of an rs-3-2 stripe come back", methods)
    shard = cloud.locate(path)["rows"][0]["shards"][2]
    cloud.sites[shard["site"]].lose(shard["location"])
    repaired(cloud)
    check_equal(tool_json(cloud, "audit")["bad"], [], "everything is proven again")
    mount.remount()
    check_equal(sha256_of(path), expected, "exact")


def rows_go_with_their_files(cloud, mount, path):
    os.unlink(path)
    wait_for(lambda: cloud.status()["groups"]["rows"] == 0, 20, "the rows to go")
    cloud.wait_until_empty()
    check_equal(cloud.status()["stripes"]["total"], 0, "nothing is left in the records")


def codes_of_several_packets(cloud, mount, rng):
    for code, losses in (("msr-5-3", 2), ("basic-4-8", 2)):
        directory = mount / code
        directory.mkdir()
        policy = tool_json(cloud, "policy", "set", directory, "--code", code)
        check(policy["tolerance"].startswith(f"any {losses} of 5 sites"), code, policy["tolerance"])
        path = directory / "file"
        trees.write_file(path, rng.randbytes(3_333_333), sync=True)
        trees.write_file(directory / "small", b"a few bytes", sync=True)
        expected = sha256_of(path)
        away = rng.sample(cloud.names, losses)
        cloud.take_away(*away)
        mount.remount()
        check_equal(sha256_of(path), expected, f"{code} without {away}")
        check_equal((directory / "small").read_bytes(), b"a few bytes", "small ones, too")
        cloud.put_back_and_wait(*away)
        (stripe, *_) = cloud.locate(path)["stripes"]
        for shard in rng.sample(present(stripe), losses):
            cloud.sites[shard["site"]].lose(shard["location"])
        check_equal(len(repaired(cloud)), losses, f"{code} repairs what was lost")
        check_equal(tool_json(cloud, "audit")["bad"], [], "and proves it")


def a_home_site(cloud, mount, rng):
    home = cloud.names[2]
    directory = mount / "home"
    directory.mkdir()
    policy = tool_json(cloud, "policy", "set", directory, "--placement", f"home:{home}")
    check_equal(policy["home_site"], home, "the home site is set")
    check(policy["tolerance"].startswith("any 1 of 5 sites"), "and what it costs is said", policy)
    trees.write_file(directory / "file", rng.randbytes(5 << 20), sync=True)
    (stripe,) = cloud.locate(directory / "file")["stripes"]
    at_home = [s["column"] for s in present(stripe) if s["site"] == home]
    check_equal(at_home, [0, 1], "two of three data columns are at home")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(daemon={"site": "site1"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        path = grouped(cloud, mount, rng)
        lost_shards_come_back_vertically(cloud, path, sha256_of(path), mount)
        rows_go_with_their_files(cloud, mount, path)
        codes_of_several_packets(cloud, mount, rng)
        a_home_site(cloud, mount, rng)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
