"""Three and more sites gone: errors within seconds, nothing hangs, all is back with the sites."""

import errno
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import SLOWNESS, Cloud, drop_caches, sha256_tree, tail, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402

SECONDS_MAX = 15 * SLOWNESS


def read_outcome(path):
    """("ok" or errno name, seconds)."""
    began = time.monotonic()
    try:
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass
        outcome = "ok"
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    return outcome, time.monotonic() - began


def reads_fail_soon(cloud, mount, expected, rng):
    gone = sorted(rng.sample(cloud.names, 3))
    cloud.take_away(*gone)
    mount.remount()
    outcomes = {}
    # The largest first: they have blocks in every data column.
    for name in sorted(expected, key=lambda n: -os.path.getsize(mount / "data" / n)):
        path = mount / "data" / name
        if os.path.getsize(path) == 0:
            continue
        outcomes[name] = read_outcome(path)
        if len(outcomes) == 12:
            break
    check(all(o in ("ok", "EIO") for o, _ in outcomes.values()),
          "a read without enough shards gives EIO", outcomes)
    check(any(o == "EIO" for o, _ in outcomes.values()), "and some reads do", outcomes)
    slowest = max(seconds for _, seconds in outcomes.values())
    check(slowest < SECONDS_MAX, f"the slowest answer took {slowest:.1f} s", outcomes)
    wait_for(lambda: cloud.status()["health"] == "failing", 15, "status to say failing")
    status = cloud.status()
    check_equal(sorted(s["name"] for s in status["sites"] if not s["up"]), gone,
                "status names the sites")
    log = tail(mount.log, 400) + tail(cloud.root / "daemon.log", 400)
    check(all(name in log for name in gone), "the logs name the sites")
    cloud.put_back(*gone)
    began = time.monotonic()
    wait_for(lambda: all(read_outcome(mount / "data" / n)[0] == "ok" for n in outcomes), 30,
             "reads to work again")
    check(True, f"reads work again {time.monotonic() - began:.1f} s after the sites' return, "
          "without a remount")
    check_equal(sha256_tree(mount / "data"), expected, "and everything is exact")


def try_write(path, data):
    """errno name of the first call that fails, "ok" when write, fsync and close succeed."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError as error:
        return errno.errorcode[error.errno]
    outcome = "ok"
    try:
        os.pwrite(fd, data, 0)
        os.fsync(fd)
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    try:
        os.close(fd)
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    return outcome


def writes_fail_clearly(cloud, mount, expected, rng, count):
    """With `count` sites gone no quorum can be reached."""
    kept = mount / f"kept-{count}"
    before = rng.randbytes(400_000)
    trees.write_file(kept, before, sync=True)
    gone = rng.sample(cloud.names, count)
    cloud.take_away(*gone)
    began = time.monotonic()
    outcome = try_write(mount / f"new-{count}", rng.randbytes(200_000))
    check(outcome in ("EIO", "ENOSPC", "EAGAIN", "EROFS"),
          f"{count} sites gone: a new file's fsync or close fails", outcome)
    overwrite = try_write(kept, rng.randbytes(100_000))
    check(overwrite != "ok", f"{count} sites gone: so does an overwrite", overwrite)
    seconds = time.monotonic() - began
    check(seconds < 3 * SECONDS_MAX, f"both answered after {seconds:.1f} s")
    cloud.put_back(*gone)
    drop_caches()
    wait_for(lambda: read_outcome(kept)[0] == "ok", 30, "reads to work again")
    data = rng.randbytes(250_000)
    wait_for(lambda: try_write(mount / f"later-{count}", data) == "ok", 30,
             "writes to work again in the same mount")
    check(True, "later writes work again in the same mount")
    mount.remount()
    check_equal((mount / f"later-{count}").read_bytes(), data, "and are exact after a remount")
    seen = kept.read_bytes()
    check(len(seen) == len(before) and seen[131072:] == before[131072:],
          "what was durable before is still there")
    check_equal(sha256_tree(mount / "data"), expected, "all older files are exact")


def others_see_what_cannot_be_stored(cloud, mount, rng):
    """Attributes at once, contents when the sites are back; names can be changed meanwhile."""
    two = cloud.mount(name="two")
    data, more = rng.randbytes(300_000), rng.randbytes(50_000)
    trees.write_file(mount / "longer", data, sync=True)
    check_equal(os.stat(two / "longer").st_size, len(data), "a file known to the other mount")
    gone = rng.sample(cloud.names, 3)
    cloud.take_away(*gone)
    with open(mount / "unwritten", "wb", buffering=0) as new, \
            open(mount / "longer", "ab", buffering=0) as old, \
            open(mount / "removed", "wb", buffering=0) as removed:
        new.write(data)
        old.write(more)
        removed.write(data)
        began = time.monotonic()
        seen = os.stat(two / "unwritten")
        check_equal(seen.st_size, len(data), "its size is seen while it cannot be stored")
        own = os.fstat(new.fileno())
        check_equal((seen.st_mtime_ns, seen.st_blocks), (own.st_mtime_ns, own.st_blocks),
                    "and its time and blocks")
        check_equal(os.stat(two / "longer").st_size, len(data) + len(more), "so of a longer one")
        listed = {e.name: e.stat().st_size for e in os.scandir(two) if e.is_file()}
        check_equal(listed["unwritten"], len(data), "and in a listing")
        os.unlink(two / "removed")
        os.rename(two / "longer", two / "renamed")
        check(not os.path.exists(mount / "removed"), "it can be removed on the other mount")
        check_equal(os.stat(mount / "renamed").st_size, len(data) + len(more), "and renamed")
        seconds = time.monotonic() - began
        check(seconds < 6 * SLOWNESS, f"all of this takes {seconds:.1f} s")
        read = []
        reader = threading.Thread(target=lambda: read.append((two / "unwritten").read_bytes()))
        reader.start()
        new.write(more)  # the writer itself is held up by nobody
        time.sleep(1)
        check(reader.is_alive(), "who wants its contents waits")
        cloud.put_back(*gone)
        reader.join(25 * SLOWNESS)
        check(read == [data + more], "and gets them when the sites are back")
    check((two / "renamed").read_bytes() == data + more, "as those of the renamed file")
    two.unmount()


def status_is_well_again(cloud):
    def well():
        return all(s["up"] for s in cloud.status()["sites"])
    wait_for(well, 30, "status to show all sites up")
    harness.note("ok: status shows all sites up")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        local = trees.make_tree(cloud.root / "local", rng, small=20, large=(3 << 20,))
        expected = sha256_tree(local)
        cloud.start_daemon()
        mount = cloud.mount()
        trees.copy_into(local, mount / "data")
        trees.fsync_tree(mount / "data")
        others_see_what_cannot_be_stored(cloud, mount, rng)
        reads_fail_soon(cloud, mount, expected, rng)
        writes_fail_clearly(cloud, mount, expected, rng, 3)
        writes_fail_clearly(cloud, mount, expected, rng, 4)
        status_is_well_again(cloud)


if __name__ == "__main__":
    harness.main(test, 300)
