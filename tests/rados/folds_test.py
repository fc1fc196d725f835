"""The daemon is killed at random moments of folds, rs-6-3 on nine pools of three clusters, while a
program overwrites, another creates and removes, shards are lost, repaired and collected. Every byte
is the newest all the time, also without any three sites; nothing is left that no record names."""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from cloud_sites import SiteError  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

BLOCK, BLOCKS, STRIPES = 4096, 768, 2
LOSSES_MAX = 3  # of shards, in all: what one stripe survives
KILL_AFTER_S = 1.0


class Program(threading.Thread):
    """Repeats step() until told to stop; `lock` is held while the file system may be in between."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.stopping, self.steps, self.error = threading.Event(), 0, None

    def run(self):
        try:
            while not self.stopping.is_set():
                with self.lock:
                    self.step()
                    self.steps += 1
                time.sleep(0.001)  # lets another take the lock
        except Exception as error:  # told to the main thread
            self.error = error


class Overwriter(Program):
    """Random blocks of one file, most of them of a few, each durable before the next."""

    def __init__(self, path, seed):
        super().__init__(seed)
        self.content = bytearray(self.random.randbytes(BLOCK * BLOCKS))
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        size = len(self.content) // STRIPES
        for at in range(0, len(self.content), size):
            os.pwrite(self.file, self.content[at:at + size], at)
            os.fsync(self.file)

    def step(self):
        reach = BLOCKS if self.random.random() < 0.3 else BLOCKS // 20
        block, count = self.random.randrange(reach), self.random.choice((1, 1, 1, 3))
        count = min(count, BLOCKS - block)
        piece = self.random.randbytes(BLOCK * count)
        self.content[BLOCK * block:BLOCK * (block + count)] = piece
        os.pwrite(self.file, piece, BLOCK * block)
        os.fsync(self.file)


class Remover(Program):
    """Small files come and go."""

    def __init__(self, directory, seed):
        super().__init__(seed)
        self.directory, self.files = directory, {}

    def step(self):
        name = f"f{self.steps}"
        self.files[name] = self.random.randbytes(self.random.choice((500, 9000, 70_000)))
        with open(self.directory / name, "wb") as file:
            file.write(self.files[name])
            file.flush()
            os.fsync(file.fileno())
        if len(self.files) > 5:
            gone = self.random.choice(sorted(self.files))
            os.unlink(self.directory / gone)
            del self.files[gone]
        time.sleep(0.05)


def exact(mount, pages, small):
    with pages.lock, small.lock:
        same = (mount / "db" / "pages").read_bytes() == bytes(pages.content)
        files = {n: (mount / "small" / n).read_bytes() for n in os.listdir(mount / "small")}
        return same and files == small.files


def lose_a_shard(cloud, path, rng):
    shard = rng.choice([s for s in cloud.shards(path) if s["state"] == "present"])
    try:
        cloud.sites[shard["site"]].lose(shard["location"])
        note(f"column {shard['column']} of stripe {shard['stripe']} is lost")
        return 1
    except SiteError:
        return 0  # folded meanwhile: its object is another one


def fold_operations(cloud):
    """Of this daemon so far, at all sites."""
    rows = json.loads(cloud.tool("traffic", "--json"))["sites"]
    return sum(row["purposes"].get("fold", {}).get("operations", 0) for row in rows)


def dies_in_folds(cloud, mount, pages, small, rng, rounds):
    lost, folded = 0, 0
    for turn in range(rounds):
        steps = pages.steps
        while pages.steps < steps + 25 and not pages.error:
            time.sleep(0.01)
        if turn % 2 == 1 and lost < LOSSES_MAX:
            lost += lose_a_shard(cloud, mount / "db" / "pages", rng)
        cloud.tool("repair", *rng.choice(((), ("--no-scrub",))))
        cloud.tool("gc")
        cloud.tool("fold")
        time.sleep(rng.uniform(0, KILL_AFTER_S))
        folded += fold_operations(cloud)
        cloud.kill_daemon()
        cloud.start_daemon()
        for program in (pages, small):
            check(program.error is None, "no program sees an error", repr(program.error))
        check(exact(mount, pages, small), f"every byte is the newest after death {turn + 1}")
    note(f"{pages.steps} writes, {small.steps} files, {lost} losses")
    check(folded > rounds, f"folds did {folded} operations at sites before the deaths")


def is_whole(cloud, mount, pages, small, rng):
    repaired = json.loads(cloud.tool("repair", "--wait", "--json", seconds=120))
    check_equal(repaired["queued"], 0, "nothing is left to repair")
    done = json.loads(cloud.tool("fold", "--wait", "--json", seconds=120))
    check_equal((done["stripes_blocked"], done["failures"]), (0, 0), "nothing is left to fold")
    note(f"{done['blocks_folded']} blocks folded, {done['stripes_merged']} stripes merged at last")
    cloud.collect()
    named = {(s["site"], s["location"]) for path in [mount / "db" / "pages"]
             + [mount / "small" / n for n in small.files]
             for s in cloud.shards(path) if s["state"] == "present"}
    check_equal(cloud.object_locations(), named, f"{len(named)} objects, each in use")
    check_equal(json.loads(cloud.tool("audit", "--json", seconds=120))["bad"], [],
                "every shard is proven")
    cloud.tool("fsck", "-n", seconds=120)
    for gone in (rng.sample(cloud.names, 3), rng.sample(cloud.names, 3)):
        cloud.take_away(*gone)
        mount.remount()
        check(exact(mount, pages, small), f"every byte is the newest without {gone}")
        cloud.put_back(*gone)


def copies_are_counted(rng):
    """A page of a stripe of 128 KiB shards: the class copies the data column and the parities."""
    with Cloud(sites=9, code="rs-6-3", stores="pools", daemon={"fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        (mount / "db").mkdir()
        cloud.tool("policy", "set", mount / "db", "--block", "4KiB", "--shard", "128KiB",
                   "--compress", "none")
        pages = Overwriter(mount / "db" / "pages", rng.randrange(1 << 32))
        (shard,) = {s["bytes"] for s in cloud.shards(mount / "db" / "pages")}
        check(128 << 10 < shard < 132 << 10, "full stripes of shards of 128 KiB, sealed", shard)
        os.pwrite(pages.file, rng.randbytes(BLOCK), 5 * BLOCK)
        os.fsync(pages.file)
        done = json.loads(cloud.tool("fold", "--wait", "--json"))
        check_equal((done["blocks_folded"], done["bytes_copied_at_sites"]), (1, 4 * shard),
                    "one data column and three of parity are copied inside their sites")
        check(done["bytes_between_sites"] < 64 << 10, "and little crosses", done)
        os.close(pages.file)
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    copies_are_counted(rng)
    with Cloud(sites=9, code="rs-6-3", stores="pools", daemon={"fold_age_ms": 0}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        for name in ("db", "small"):
            (mount / name).mkdir()
        shard = rng.choice(("4MiB", "128KiB", "64KiB"))
        cloud.tool("policy", "set", mount / "db", "--block", "4KiB", "--shard", shard, "--compress",
                   "none")
        note(f"made, with shards of up to {shard}")
        pages = Overwriter(mount / "db" / "pages", rng.randrange(1 << 32))
        small = Remover(mount / "small", rng.randrange(1 << 32))
        pages.start()
        small.start()
        dies_in_folds(cloud, mount, pages, small, rng, options.rounds or 5)
        for program in (pages, small):
            program.stopping.set()
        for program in (pages, small):
            program.join(30)
            check(not program.is_alive() and program.error is None, "the programs end",
                  repr(program.error))
        os.close(pages.file)
        is_whole(cloud, mount, pages, small, rng)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
