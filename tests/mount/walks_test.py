"""Walks through trees ask the daemon for many names at a time: requests are counted, not seconds. What
is known of a directory is never older than another mount's change.

DATACLOUD_FAR_MS=35 prints how long the walks take at that round trip instead."""

import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from gate_relay import GateRelay  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

DIRECTORIES, FILES = 100, 100
FAR_MS = float(os.environ.get("DATACLOUD_FAR_MS", "0"))
PER_ROUND_TRIP = 500  # entries, at least
# What is asked whatever is walked: keepalives by time, others by the programs.
BY_TIME = {"keepalive", "status", "release", "recall_done", "commit", "grant"}


def requests(cloud):
    seen = cloud.status()["operations"]
    return {kind: count for kind, count in seen.items() if kind not in BY_TIME}


def counted(cloud, mount, what, run, allowed):
    """Runs it on a fresh mount; how many requests it made."""
    mount.remount()
    os.stat(mount)
    before = requests(cloud)
    began = time.monotonic()
    out = run()
    seconds = time.monotonic() - began
    after = requests(cloud)
    grown = {kind: n - before.get(kind, 0) for kind, n in after.items() if n > before.get(kind, 0)}
    total = sum(grown.values())
    note(f"{what}: {total} requests {grown}, {seconds:.1f} s")
    if allowed is not None:
        check(total <= allowed, f"{what}: at most {allowed} requests", grown)
    return out, total


def run(*command, cwd):
    environment = {**os.environ, "HOME": str(cwd), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True,
                          text=True, timeout=300).stdout


def make_tree(root, directories, files):
    for d in range(directories):
        directory = root / f"d{d // 10:02d}" / f"e{d:04d}"
        directory.mkdir(parents=True)
        for f in range(files):
            (directory / f"file{f:03d}").touch()


def make_repository(root, directories, files):
    root.mkdir()
    run("git", "init", "-q", cwd=root)
    make_tree(root, directories, files)
    time.sleep(1.1)  # or git would read files as young as its index
    run("git", "add", "-A", cwd=root)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all", cwd=root)
    run("git", "status", cwd=root)


def walks(cloud, one):
    entries = DIRECTORIES * FILES + DIRECTORIES + DIRECTORIES // 10
    allowed = entries // PER_ROUND_TRIP
    make_repository(one / "small", 1, 1)
    make_repository(one / "tree", DIRECTORIES, FILES)
    tree = one / "tree"
    # What ls and git ask for apart from the tree: their own files, and the way there.
    _, small = counted(cloud, one, "ls -lR of one file",
                       lambda: run("ls", "-lR", "d00", cwd=one / "small"), None)
    listing, _ = counted(cloud, one, "ls -lR", lambda: run("ls", "-lR", ".", cwd=tree),
                         allowed + small)
    check_equal(len(re.findall(r" file\d{3}$", listing, re.M)), DIRECTORIES * FILES,
                "every file is listed")
    _, small = counted(cloud, one, "git status of one file",
                       lambda: run("git", "status", cwd=one / "small"), None)
    status, _ = counted(cloud, one, "git status", lambda: run("git", "status", cwd=tree),
                        allowed + small)
    check("working tree clean" in status, "git finds nothing changed", status)
    # One large directory, by ls and by names.
    large = one / "large"
    large.mkdir()
    for i in range(5000):
        (large / f"n{i}").touch()
    counted(cloud, one, "ls -l of 5000", lambda: run("ls", "-l", cwd=large), 5000 // 500 + 4)
    names = random.sample(range(5000), 2000)
    counted(cloud, one, "2000 names of 5000", lambda: [os.stat(large / f"n{i}") for i in names],
            5000 // 500 + 6)
    counted(cloud, one, "2000 absent names",
            lambda: [os.path.exists(large / f"x{i}") for i in names], 5000 // 500 + 6)


def one_name_asks_for_little(cloud, one):
    """A single open deep in a tree does not fetch the tree."""
    _, total = counted(cloud, one, "one stat",
                       lambda: os.stat(one / "tree" / "d05" / "e0050" / "file050"), 6)
    check(total >= 1, "it was asked at all")


def known_names_follow_other_mounts(one, two, rng):
    """After each change on one mount, the other, which knows the directory, sees it at once."""
    for mount in (one, two):
        (mount / "both").mkdir(exist_ok=True)
    names = [f"n{i}" for i in range(12)]
    model = {}
    for step in range(400):
        mount = rng.choice((one, two)) / "both"
        name, other = rng.choice(names), rng.choice(names)
        dice = rng.randrange(4)
        if dice == 0:
            (mount / name).write_bytes(b"")
            model.setdefault(name, os.stat(mount / name).st_ino)
        elif dice == 1 and name in model:
            os.unlink(mount / name)
            del model[name]
        elif dice == 2 and name in model and name != other:
            os.rename(mount / name, mount / other)
            model[other] = model.pop(name)
        elif dice == 3 and name not in model:
            os.mkdir(mount / name)
            os.rmdir(mount / name)
        for look in (one / "both", two / "both"):
            if rng.random() < 0.3:
                seen = {e.name: e.stat(follow_symlinks=False).st_ino for e in os.scandir(look)}
                if seen != model:
                    check(False, "a listing is what was done", f"step {step}: {seen} not {model}")
            for probe in rng.sample(names, 3):
                try:
                    there = os.stat(look / probe).st_ino
                except FileNotFoundError:
                    there = None
                if there != model.get(probe):
                    check(False, "a name is what was done", f"step {step}: {look / probe}: {there}")
    note("ok: 400 changes by two mounts, each seen by both at once")


def restarts(cloud, one, two):
    """Names known before a restart of the daemon are asked for again when others may have changed."""
    os.listdir(one / "both")
    cloud.kill_daemon()
    cloud.start_daemon()
    (two / "both" / "after").touch()
    check((one / "both" / "after").exists(), "a name made after a restart of the daemon")
    os.unlink(one / "both" / "after")
    check(not (two / "both" / "after").exists(), "and removed")


def few_names_are_kept(cloud, one):
    """The bound: more directories than it allows are walked, all right and with more requests."""
    small = cloud.mount("known_names_max=1000", name="few")
    listing = run("ls", "-lR", ".", cwd=small / "tree")
    check_equal(len(re.findall(r" file\d{3}$", listing, re.M)), DIRECTORIES * FILES,
                "a walk with little memory for names")
    check_equal(len(os.listdir(small / "large")), 5000, "and a directory beyond it")
    small.unmount()


class Relayed:
    """A mount whose daemon is behind a gate."""

    def __init__(self, cloud):
        self.cloud, self.text = cloud, cloud.config
        self.relay = GateRelay(cloud.root / "gate.sock", cloud.socket)
        cloud.config = cloud.root / "gate.toml"
        cloud.config.write_text(self.text.read_text().replace(str(cloud.socket),
                                                              str(self.relay.path)))
        try:
            self.mount = cloud.mount(name="gated")
        finally:
            self.gated, cloud.config = cloud.config, self.text

    def remount(self):
        self.cloud.config = self.gated
        try:
            self.mount.remount()
        finally:
            self.cloud.config = self.text

    def close(self):
        self.mount.unmount()
        self.relay.close()


def the_map_comes_with_the_open(cloud, one, rng):
    """While no answer can come, open(2) has asked for lease and map; the read then asks for nothing."""
    for i in range(8):
        (one / f"cold{i}").write_bytes(rng.randbytes(70_000))
    files = {i: (one / f"cold{i}").read_bytes() for i in range(8)}
    # So that no lease of this mount has to be recalled for the other's.
    one.remount()
    gated = Relayed(cloud)
    try:
        for i, data in files.items():
            path = gated.mount / f"cold{i}"
            os.stat(path)
            before = cloud.status()["operations"]
            gated.relay.shut()
            got = {}
            opener = threading.Thread(target=lambda: got.update(fd=os.open(path, os.O_RDONLY)))
            opener.start()
            try:
                wait_for(lambda: cloud.status()["operations"].get("map", 0) > before.get("map", 0),
                         30, "the map to be asked for before the open is answered")
                check("fd" not in got, "the open has no answer yet")
            finally:
                gated.relay.open()
            opener.join(60)
            opened = cloud.status()["operations"]
            check_equal(os.pread(got["fd"], 100_000, 0), data, "what is read")
            os.close(got["fd"])
            after = cloud.status()["operations"]
            # A gate that was shut for long looks like a daemon that has gone.
            if after.get("hello", 0) != before.get("hello", 0):
                continue
            check_equal(after["map"], opened["map"], "the read asks for no map")
            return
        raise harness.CheckFailed("the mount has connected anew at each of 8 attempts")
    finally:
        gated.close()


def pages_are_read_ahead(cloud, one):
    """While no answer can come, a program that has read its first page has the next one asked for."""
    expected = sorted(os.listdir(one / "large"))
    gated = Relayed(cloud)
    try:
        for attempt in range(8):
            with os.scandir(gated.mount / "large") as entries:
                before = cloud.status()["operations"]
                names = [next(entries).name]
                gated.relay.shut()
                try:
                    names += [next(entries).name for _ in range(400)]  # of 512
                    wait_for(lambda: cloud.status()["operations"]["readdir"] ==
                             before.get("readdir", 0) + 2, 30, "the next page to be asked for")
                finally:
                    gated.relay.open()
                names += [entry.name for entry in entries]
            check_equal(sorted(names), expected, "what is listed")
            after = cloud.status()["operations"]
            if after.get("hello", 0) == before.get("hello", 0):
                check_equal(after["readdir"] - before.get("readdir", 0), 4,
                            "pages of 512, 2048, 2048 and the rest: none is asked for twice")
                return
            gated.remount()
        raise harness.CheckFailed("the mount has connected anew at each of 8 attempts")
    finally:
        gated.close()


def a_map_is_never_older_than_its_lease(cloud, one, rng):
    """Another mount has unwritten changes at each open, so that the map is answered before the lease."""
    two = cloud.mount(name="two")
    versions = [rng.randbytes(rng.choice((1, 9000, 70_000, 300_000))) for _ in range(4)]
    files = [two / f"turn{i}" for i in range(4)]
    for step in range(60):
        path, data = rng.choice(files), rng.choice(versions)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        if rng.random() < 0.3:
            os.fsync(fd)
        with open(one / path.name, "rb") as file:
            check(file.read() == data, f"step {step}: the other mount's bytes at once")
        os.close(fd)
    two.unmount()
    note("ok: 60 opens right after another mount's writes")


def far(round_trip_ms):
    """How long walks take at a distance, for docs/benchmarks.md."""
    with Cloud() as cloud:
        cloud.start_daemon()
        near = cloud.mount(name="near")
        make_repository(near / "tree", DIRECTORIES, FILES)
        near.unmount()
        relayed = cloud.root / "far.sock"
        relay = subprocess.Popen([sys.executable, "-B", Path(__file__).resolve().parents[1] /
                                  "support" / "delay_relay.py", relayed, cloud.socket,
                                  str(round_trip_ms)])
        wait_for(relayed.exists, 10, "the relay")
        text = cloud.config.read_text()
        cloud.config = cloud.root / "far.toml"
        cloud.config.write_text(text.replace(str(cloud.socket), str(relayed)))
        one = cloud.mount(name="far")
        for what, command in (("ls -lR", ("ls", "-lR", ".")), ("git status", ("git", "status")),
                              ("git status again", ("git", "status"))):
            if "again" not in what:
                one.remount()
            began = time.monotonic()
            run(*command, cwd=one / "tree")
            note(f"{what} at {round_trip_ms:g} ms: {time.monotonic() - began:.2f} s")
        relay.kill()


def test(options):
    if FAR_MS > 0:
        return far(FAR_MS)
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        known_names_follow_other_mounts(one, two, rng)
        restarts(cloud, one, two)
        two.unmount()
        walks(cloud, one)
        one_name_asks_for_little(cloud, one)
        few_names_are_kept(cloud, one)
        a_map_is_never_older_than_its_lease(cloud, one, rng)
        the_map_comes_with_the_open(cloud, one, rng)
        pages_are_read_ahead(cloud, one)
        one.unmount()


if __name__ == "__main__":
    harness.main(test, 150)
