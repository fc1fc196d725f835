"""Sites that lie: garbage, flipped bytes and truncated objects are never returned to a reader."""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_tree  # noqa: E402
from harness import check, check_equal  # noqa: E402


def stripes_of(cloud, mount, names):
    """{stripe id: [(site, location) of each present shard]} of the files."""
    found = {}
    for name in names:
        if os.path.getsize(mount / "data" / name) == 0:
            continue
        for stripe in cloud.locate(mount / "data" / name)["stripes"]:
            found[stripe["id"]] = [(s["site"], s["location"]) for s in stripe["shards"]
                                   if s["state"] == "present"]
    return found


def flip(rng):
    """A change of one bit somewhere."""
    def change(data):
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1:]
    return change


class Saved:
    """Objects as they were, to be put back."""

    def __init__(self, cloud):
        self.sites, self.objects = cloud.sites, {}

    def change(self, place, change):
        site, location = place
        old = self.sites[site].read(location)
        self.objects.setdefault(place, old)
        self.sites[site].write(location, change(old))

    def restore(self):
        for (site, location), data in self.objects.items():
            self.sites[site].write(location, data)
        self.objects = {}


def two_shards_of_each_stripe(cloud, mount, expected, stripes, rng, what, change):
    saved = Saved(cloud)
    for places in stripes.values():
        # With empty columns there are fewer objects, and only as many as the code spares may go.
        for place in rng.sample(places, min(2, len(places) - 1)):
            saved.change(place, change)
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, f"two shards of each stripe {what}")
    saved.restore()


def a_flipped_byte_is_never_returned(cloud, mount, expected, rng):
    """One byte of every object of every site: what cannot be corrected must be an error."""
    saved = Saved(cloud)

    for place in cloud.object_locations():
        saved.change(place, flip(rng))
    mount.remount()
    exact = failed = 0
    seen = {}
    for name in expected:
        try:
            with open(mount / "data" / name, "rb") as file:
                seen[name] = file.read()
            exact += 1
        except OSError:
            failed += 1
    local = cloud.root / "local"
    check(all(data == (local / name).read_bytes() for name, data in seen.items()),
          f"one byte flipped in every object: {exact} files read exact, {failed} gave an error, "
          "none was wrong")
    saved.restore()
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "all exact once the bytes are mended")


def a_single_flipped_byte_is_corrected(cloud, mount, expected, stripes, rng):
    saved = Saved(cloud)
    for places in stripes.values():
        saved.change(rng.choice(places), flip(rng))
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "one byte flipped in one shard per stripe")
    saved.restore()


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        local = trees.make_tree(cloud.root / "local", rng)
        expected = sha256_tree(local)
        cloud.start_daemon()
        mount = cloud.mount()
        trees.copy_into(local, mount / "data")
        trees.fsync_tree(mount / "data")
        cloud.tool("background", "pause")  # what is damaged here is mended here
        stripes = stripes_of(cloud, mount, expected)
        check(len(stripes) > 0, f"{len(stripes)} stripes")
        two_shards_of_each_stripe(cloud, mount, expected, stripes, rng,
                                  "overwritten with garbage of the same length",
                                  lambda d: rng.randbytes(len(d)))
        two_shards_of_each_stripe(cloud, mount, expected, stripes, rng, "cut in the middle",
                                  lambda d: d[:len(d) // 2])
        two_shards_of_each_stripe(cloud, mount, expected, stripes, rng, "empty", lambda d: b"")
        two_shards_of_each_stripe(cloud, mount, expected, stripes, rng, "zeroed",
                                  lambda d: bytes(len(d)))
        a_single_flipped_byte_is_corrected(cloud, mount, expected, stripes, rng)
        a_flipped_byte_is_never_returned(cloud, mount, expected, rng)
        status = cloud.status()
        check(status["shards"]["damaged"] > 0, "status counts the damage readers have found")


if __name__ == "__main__":
    harness.main(test, 240)
