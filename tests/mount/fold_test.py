"""Small updates of large files: what databases overwrite is folded into its place. The bytes stay the
newest through folds and the daemon's death in the middle of one, every shard stays provable, and
space returns to that of a freshly written copy."""

import json
import os
import random
import re
import sqlite3
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

BLOCK = 4096
SHARD = 128 << 10


def tool_json(cloud, *arguments, seconds=180):
    return json.loads(cloud.tool(*arguments, "--json", seconds=seconds))


def overwrite(path, content, rng, count):
    """Random blocks, each durable before the next."""
    with open(path, "r+b", buffering=0) as file:
        for _ in range(count):
            at = rng.randrange(len(content) // BLOCK) * BLOCK
            piece = rng.randbytes(BLOCK)
            content[at:at + BLOCK] = piece
            file.seek(at)
            file.write(piece)
            os.fsync(file.fileno())


def check_space(cloud, what):
    cloud.collect()
    capacity = cloud.status()["capacity"]
    fresh = capacity["live_bytes"] * 5 / 3
    check(capacity["stored_bytes"] <= fresh * 1.1, f"{what}: space is within 10 % of a fresh copy",
          (capacity["stored_bytes"], fresh))


def overwritten_blocks_come_back(cloud, mount, rng):
    path = mount / "db" / "pages"
    content = bytearray(rng.randbytes(24 << 20))
    path.write_bytes(content)
    os.sync()
    overwrite(path, content, rng, 400)
    explained = tool_json(cloud, "fold", "--explain", path)
    check(len(explained["bases"]) > 0, "what would be folded is explained", explained)
    check(any("* parity delta" in line for base in explained["bases"] for line in base["lines"]),
          "and is cheapest by parity delta", explained["bases"][0]["lines"])
    done = tool_json(cloud, "fold", "--wait")
    note(f"folded {done['blocks_folded']} blocks into {done['stripes_folded']} stripes")
    check(done["blocks_folded"] > 300, "blocks are folded, not merged", done)
    check_equal(done["stripes_blocked"], 0, "nothing waits")
    check_space(cloud, "folded")
    mount.remount()
    check_equal(path.read_bytes(), bytes(content), "every byte is the newest")
    check_equal(tool_json(cloud, "audit")["bad"], [], "every shard is proven")
    check_equal(tool_json(cloud, "fold", "--explain", path)["bases"], [], "nothing is left to fold")
    return content


def the_daemon_dies_in_the_middle(cloud, mount, content, rng):
    path = mount / "db" / "pages"
    for pause in (0.02, 0.1, 0.3):
        overwrite(path, content, rng, 60)
        cloud.tool("fold")
        time.sleep(pause)
        cloud.kill_daemon()
        cloud.start_daemon()
        check_equal(path.read_bytes(), bytes(content), f"the bytes after a death at {pause} s")
    tool_json(cloud, "fold", "--wait")
    check_space(cloud, "folded after the deaths")
    mount.remount()
    check_equal(path.read_bytes(), bytes(content), "every byte is the newest after the deaths")
    check_equal(tool_json(cloud, "audit")["bad"], [], "every shard is proven after the deaths")


def shards_of(cloud, path):
    return [s["bytes"] for stripe in cloud.locate(path)["stripes"] for s in stripe["shards"]]


def small_shards_are_copied_cheaply(cloud, mount, rng):
    """What a fold of one page copies at the sites: below 1 MiB by policy."""
    directory = mount / "pages"
    directory.mkdir()
    policy = tool_json(cloud, "policy", "set", directory, "--shard", "128KiB", "--block", "4KiB",
                       "--compress", "none")
    check_equal((policy["shard_bytes"], policy["stripe_bytes"]), (SHARD, 3 * SHARD), "the policy")
    check("stripes of up to 384.0 KiB" in cloud.tool("policy", "show", directory), "is shown")
    refused = cloud.run_tool("policy", "set", directory, "--block", "256KiB")
    check(refused.returncode != 0 and "do not fit" in refused.stderr, "blocks must fit", refused)
    path = directory / "database"
    content = bytearray(rng.randbytes(6 << 20))
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sealed = SHARD + SHARD // BLOCK * 64
    check(max(shards_of(cloud, path)) <= sealed, "no shard is longer than the policy says")
    check_equal(len(cloud.locate(path)["stripes"]), 16, "full stripes of them")
    for _ in range(8):
        overwrite(path, content, rng, 1)
        (base,) = tool_json(cloud, "fold", "--explain", path)["bases"]
        (line,) = [text for text in base["lines"] if "* parity delta" in text]
        planned = int(re.search(r"(\d+) copied at the sites", line)[1])
        check(planned <= 3 * sealed < 1 << 20, "a data column and two of parity are copied", line)
        done = tool_json(cloud, "fold", "--wait")
        check_equal((done["stripes_folded"], done["blocks_folded"]), (1, 1), "one page is folded")
        copied = done["bytes_copied_at_sites"]
        check(copied < 1 << 20, "the sites copied less than 1 MiB for it", done)
        check(copied <= planned, "and not more than was said before", (copied, planned))
        if "DATACLOUD_CEPH_SITES" not in os.environ:
            check_equal(copied, 0, "directories cannot copy by themselves")
    mount.remount()
    check_equal(path.read_bytes(), bytes(content), "every page is the newest")
    overwrite(path, content, rng, 100)
    path.write_bytes(content + rng.randbytes(100_000))  # other stripes, half of them full
    tool_json(cloud, "fold", "--wait")
    check(max(shards_of(cloud, path)) <= sealed, "nor after folds and merges")
    path.unlink()
    cloud.collect()


def sqlite_goes_on(cloud, mount, rng):
    path = str(mount / "db" / "sqlite.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma page_size = 4096")
    db.execute("pragma journal_mode = wal")
    db.execute("create table t (id integer primary key, value blob)")
    rows = {}
    db.execute("begin")
    for i in range(3000):
        rows[i] = rng.randbytes(1500)
        db.execute("insert into t values (?, ?)", (i, rows[i]))
    db.execute("commit")
    for turn in range(3):
        for _ in range(40):
            db.execute("begin")
            for i in rng.sample(sorted(rows), 5):
                rows[i] = rng.randbytes(1500)
                db.execute("update t set value = ? where id = ?", (rows[i], i))
            db.execute("commit")
        db.execute("pragma wal_checkpoint(truncate)")
        tool_json(cloud, "fold", "--wait")
    check_equal(db.execute("pragma integrity_check").fetchone()[0], "ok", "the database is sound")
    db.close()
    mount.remount()
    db = sqlite3.connect(path)
    check_equal(dict(db.execute("select id, value from t")), rows, "and has every row")
    db.close()
    tool_json(cloud, "fold", "--wait")
    check_space(cloud, "with a database")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(daemon={"fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        (mount / "db").mkdir()
        cloud.tool("policy", "set", mount / "db", "--block", "4KiB", "--compress", "none")
        content = overwritten_blocks_come_back(cloud, mount, rng)
        the_daemon_dies_in_the_middle(cloud, mount, content, rng)
        small_shards_are_copied_cheaply(cloud, mount, rng)
        sqlite_goes_on(cloud, mount, rng)
        check_equal(tool_json(cloud, "audit")["bad"], [], "everything is proven at the end")
        cloud.tool("fsck", "-n", seconds=120)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
