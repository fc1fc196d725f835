"""Nobody asks for anything: the daemon lists its sites all the time, has what is missing repaired
and deletes what nobody names. It goes on where it was when it is killed."""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


def scrub(cloud):
    return {site["site"]: site for site in cloud.status()["scrub"]["sites"]}


def walked_again(cloud):
    """Waits until every site has been listed from its beginning to its end."""
    before = {name: site["walks"] for name, site in scrub(cloud).items()}
    wait_for(lambda: len(now := scrub(cloud)) == len(cloud.names)
             and all(site["walks"] >= before.get(name, 0) + 2 for name, site in now.items()),
             120, "two more walks through every site")


def nothing_is_found_in_a_sound_cloud(cloud):
    walked_again(cloud)
    for name, site in scrub(cloud).items():
        check_equal((site["missing"], site["orphans_deleted"], site["foreign"]), (0, 0, 0), name)
        check(site["shards_looked_up"] > 0, f"{name} was looked up", site)


def an_orphan_goes_and_a_stranger_stays(cloud, mount):
    """An object that comes back after its file has been removed; one of a name never given."""
    trees.write_file(mount / "brief", os.urandom(300_000), sync=True)
    shard = next(s for s in cloud.shards(mount / "brief") if s["state"] == "present")
    site = cloud.sites[shard["site"]]
    orphan = shard["location"]
    contents = site.read(orphan)
    (mount / "brief").unlink()
    mount.remount()  # while its session lives, a mount may still name what it was granted
    cloud.collect()
    check((shard["site"], orphan) not in cloud.object_locations(), "its objects are deleted")
    site.write(orphan, contents)
    stranger = site.location_of("f" * 32)
    site.write(stranger, b"not ours")
    wait_for(lambda: (shard["site"], orphan) not in cloud.object_locations(), 60,
             "the orphan to be deleted")
    walked_again(cloud)
    found = scrub(cloud)[shard["site"]]
    check_equal((found["orphans_deleted"], found["foreign"]), (1, 1), "and both are told")
    check((shard["site"], stranger) in cloud.object_locations(), "what is not ours stays")


def lost_objects_come_back_by_themselves(cloud, mount, expected, rng):
    victims = rng.sample(cloud.names, 2)
    lost = [place for place in sorted(cloud.object_locations(*victims)) if not
            place[1].endswith("f" * 32)]
    lost = rng.sample(lost, len(lost) // 2)
    cloud.kill_daemon()
    for site, location in lost:
        cloud.sites[site].lose(location)
    cloud.start_daemon()
    wait_for(lambda: sum(site["missing"] for site in scrub(cloud).values()) > 0, 120,
             f"{len(lost)} lost objects to be missed")
    walked_again(cloud)
    wait_for(lambda: (now := cloud.status())["repair"]["queued"] == 0
             and now["shards"] == {"missing": 0, "damaged": 0}, 120, "them to be repaired")
    # A repair for one site may find what the stripe lacks at another before its walk does.
    missed = sum(site["missing"] for site in scrub(cloud).values())
    check(0 < missed <= len(lost), f"{missed} of {len(lost)} were missed, none twice")
    others = rng.sample([name for name in cloud.names if name not in victims], 2)
    cloud.take_away(*others)
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, f"exact without {others}: all is needed")
    cloud.put_back_and_wait(*others)


def test(options):
    rng = random.Random(options.seed)
    with Cloud(daemon={"scrub_cycle_ms": 1000, "audit_cycle_ms": 0, "fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.make_tree(mount / "data", rng, small=60, large=(20 << 20,))
        os.sync()
        mount.remount()
        expected = sha256_tree(mount / "data")
        nothing_is_found_in_a_sound_cloud(cloud)
        an_orphan_goes_and_a_stranger_stays(cloud, mount)
        lost_objects_come_back_by_themselves(cloud, mount, expected, rng)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
