"""Sites change under kills: while one joins, the tool and the daemon are killed at each of its steps,
and a cut-off attempt's marker, whose number went to another site meanwhile, is taken over;
rebalance, drain, replace and rebuild are cut off by the daemon's end at a random moment, more than
once. Each is told again and ends as promised."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import cloud_sites  # noqa: E402
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud, sha256_tree  # noqa: E402
from crc32c import crc32c  # noqa: E402
from harness import check, check_equal  # noqa: E402

FILES = 70  # each a stripe: fsynced alone
KILLS = 2   # of each operation
FAN_OUT = 256  # directories of a directory site, made before its marker


class Scene:
    def __init__(self, cloud, mount, rng):
        self.cloud, self.mount, self.rng = cloud, mount, rng
        self.cut = 0  # kills that left work half done
        self.joining_cut = 0
        self.extra = 0

    def tool(self, *arguments, seconds=120):
        done = self.cloud.run_tool(*arguments, "--json", seconds=seconds)
        check(done.returncode == 0, " ".join(arguments), done.stdout + done.stderr)
        return json.loads(done.stdout)

    def objects(self, sites):
        try:
            return len(self.cloud.object_locations(*sites))
        except FileNotFoundError:
            return 0  # a new disk, not formatted yet

    def told(self, words):
        command = [BUILD / "bin" / "datacloud", "--config", self.cloud.config, *words, "--json"]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def parts(self, name):
        """What there is of a directory site: its fan-out directories, and then its marker."""
        path = self.cloud.sites[name].path
        try:
            made = len(os.listdir(path / "objects"))
        except FileNotFoundError:
            made = 0
        return made + (path / cloud_sites.MARKER).exists()

    def marker(self, name):
        site = self.cloud.sites[name]
        if site.kind == "directory":
            return (site.path / cloud_sites.MARKER).read_bytes()
        return site.rados("get", cloud_sites.MARKER, "/dev/stdout")

    def leave_marker(self, name, number):
        """What an attempt to add the site leaves when it is cut off before the record."""
        fields = dict(line.split("=", 1) for line in self.marker("site1").decode().split("\n")[1:-1])
        text = (f"datacloud-site 1\ncloud_uuid={fields['cloud_uuid']}\ncloud_name="
                f"{fields['cloud_name']}\nsite_name={name}\nsite_id={number}\n").encode()
        marker = text + f"crc32c={crc32c(text):08x}\n".encode()
        site = self.cloud.sites[name]
        if site.kind == "directory":
            (site.path / cloud_sites.MARKER).write_bytes(marker)
        else:
            site.rados("put", cloud_sites.MARKER, "/dev/stdin", data=marker)

    def kill_while_joining(self, name, victim, parts):
        """Kills the tool or the daemon once so many parts of the site are there, or soon after."""
        teller = self.told(("site", "add", name))
        if self.cloud.sites[name].kind == "directory":
            while teller.poll() is None and self.parts(name) < parts:
                pass
            time.sleep(self.rng.choice((0, 0.002, 0.02)) if parts > FAN_OUT else 0)
        else:
            time.sleep(self.rng.uniform(0, 0.5))
        self.joining_cut += teller.poll() is None
        if victim == "daemon":
            self.cloud.kill_daemon()
        teller.kill()
        teller.wait()
        if victim == "daemon":
            self.cloud.start_daemon()
        known = [s["name"] for s in self.cloud.status()["sites"]]
        check(known.count(name) <= 1, f"{name} is known once at most", known)

    def kill_within(self, words, growing, least):
        """Kills the daemon once the sites `growing` hold between 1 and `least` more objects."""
        before, wanted = self.objects(growing), self.rng.randint(1, least)
        teller = self.told(words)
        end = time.monotonic() + 20 * SLOWNESS
        while (teller.poll() is None and time.monotonic() < end
               and self.objects(growing) - before < wanted):
            pass
        self.cut += teller.poll() is None
        self.cloud.daemon.send_signal(signal.SIGKILL)
        self.cloud.daemon.wait()
        teller.kill()
        teller.wait()
        self.cloud.start_daemon()
        self.extra += 1
        trees.write_file(self.mount / "data" / f"after{self.extra}", os.urandom(30_000), sync=True)

    def through_kills(self, *words, growing, least=FILES // 3):
        """The operation, cut off KILLS times, then told once more to its end."""
        for _ in range(KILLS):
            self.kill_within(words, growing, least)
        return self.tool(*words)

    def new_site(self, name):
        cloud = self.cloud
        cloud.names.append(name)
        (cloud.sites[name],) = cloud_sites.make_sites([name], cloud.root,
                                                      cloud_sites.default_stores())
        cloud.write_config()

    def restart(self):
        self.mount.unmount()
        self.cloud.stop_daemon()
        self.cloud.start_daemon()
        self.mount.process = self.cloud.start_mount_process(self.mount.point, self.mount.log)

    def leave(self, name):
        self.cloud.names.remove(name)
        self.cloud.write_config()

    def exact(self, expected):
        """Everything is proven where it is, and reads back without what mount or kernel cache."""
        self.cloud.collect()
        check_equal(self.tool("repair", "--wait")["queued"], 0, "nothing is left to repair")
        check_equal(self.tool("audit")["bad"], [], "everything is proven")
        self.mount.remount()
        now = sha256_tree(self.mount / "data")
        check_equal({name: now.get(name) for name in expected}, expected, "exact")

    def none_left_at(self, name):
        self.cloud.collect()
        check_equal(self.cloud.object_locations(name), set(), f"{name} ends empty")


def another_takes_its_number(scene):
    """An attempt to add site6 has got as far as the marker; then another site joins, and leaves."""
    scene.new_site("site6")
    scene.new_site("other")
    number = max(s["id"] for s in scene.tool("site", "list")) + 1
    scene.leave_marker("site6", number)
    check_equal(scene.tool("site", "add", "other")["id"], number, "the number is another's now")
    scene.tool("site", "drain", "other")
    scene.tool("site", "remove", "other")
    scene.leave("other")


def a_site_joins(scene):
    another_takes_its_number(scene)
    some = scene.rng.randint(1, FAN_OUT - 1)
    for victim, parts in (("tool", 0), ("daemon", some), ("tool", some), ("tool", FAN_OUT),
                          ("daemon", FAN_OUT + 1), ("tool", FAN_OUT + 1), ("daemon", FAN_OUT + 1)):
        scene.kill_while_joining("site6", victim, parts)
    check(scene.joining_cut >= 1, f"{scene.joining_cut} kills came while the site joined")
    added = scene.tool("site", "add", "site6")
    if added["restart_needed"]:
        scene.restart()
    joined = [s for s in scene.cloud.status()["sites"] if s["name"] == "site6"]
    check_equal([s["up"] for s in joined], [True], "site6 is a site once, and up")
    check(f"site_id={added['id']}\n" in scene.marker("site6").decode(), "its marker says its number")
    scene.through_kills("site", "rebalance", growing=["site6"])
    held = {s["name"]: s["shards"] for s in scene.cloud.status()["sites"]}
    check(held["site6"] > sum(held.values()) / len(held) * 0.7, "site6 holds its share", held)


def a_site_is_drained(scene):
    others = [name for name in scene.cloud.names if name != "site1"]
    check_equal(scene.through_kills("site", "drain", "site1", growing=others)["left"], 0,
                "site1 is drained")
    scene.none_left_at("site1")
    left = scene.tool("site", "remove", "site1")
    scene.leave("site1")
    if left["restart_needed"]:
        scene.restart()


def a_site_is_replaced(scene):
    scene.new_site("site7")
    first = scene.cloud.run_tool("site", "replace", "site2", "site7", "--json", seconds=120)
    if first.returncode != 0:
        check("restart" in first.stderr, "it says why it does not go on", first.stdout)
        scene.restart()
    others = [name for name in scene.cloud.names if name != "site2"]
    left = scene.through_kills("site", "replace", "site2", "site7", growing=others)
    scene.none_left_at("site2")
    scene.leave("site2")
    if left["restart_needed"]:
        scene.restart()
    check("site2" not in {s["name"] for s in scene.cloud.status()["sites"]}, "site2 has left")


def a_site_is_rebuilt(scene):
    scene.cloud.sites["site3"].replace_by_empty()
    report = scene.through_kills("site", "rebuild", "site3", growing=["site3"])
    check_equal((report["left"], report["duty"]), (0, "active"), "site3 is rebuilt in place")
    held = {s["name"]: s["shards"] for s in scene.cloud.status()["sites"]}
    check_equal(scene.objects(["site3"]), held["site3"], "and holds what the records say")


def test(options):
    rng = random.Random(options.seed)
    # At this rate each change takes a second or more on any machine, so that kills find it half done.
    with Cloud(daemon={"background_site_bytes_per_second_max": "64KiB"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        (mount / "data").mkdir()
        for i in range(FILES):
            trees.write_file(mount / "data" / f"file{i}", rng.randbytes(30_000), sync=True)
        expected = sha256_tree(mount / "data")
        scene = Scene(cloud, mount, rng)
        for step in (a_site_joins, a_site_is_drained, a_site_is_replaced, a_site_is_rebuilt):
            step(scene)
            scene.exact(expected)
        check(scene.cut >= 2, f"{scene.cut} kills came in the middle")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
