"""Two mounts of one cloud: close-to-open, completed fsyncs and names seen at once, no deadlock."""

import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud, sha256_tree  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402


def close_to_open(one, two, rng):
    for i in range(30):
        writer, reader = (one, two) if i % 2 else (two, one)
        data = rng.randbytes(rng.choice([1, 5000, 65536, 300_000]))
        (writer / "shared").write_bytes(data)
        if (reader / "shared").read_bytes() != data:
            check(False, "close-to-open", f"round {i}: {len(data)} bytes")
    note("ok: what is closed on one mount is read on the other, 30 times")


def fsync_is_seen_by_open_files(one, two, rng):
    with open(one / "log", "wb", buffering=0) as writer, open(one / "log", "rb"), \
            open(two / "log", "rb", buffering=0) as reader:
        expected = b""
        for i in range(20):
            part = rng.randbytes(rng.randrange(1, 20_000))
            writer.write(part)
            os.fsync(writer.fileno())
            expected += part
            seen = os.pread(reader.fileno(), len(expected) + 10, 0)
            if seen != expected:
                check(False, "a reader sees completed fsyncs", f"{len(seen)} of {len(expected)}")
    note("ok: an open reader sees each completed fsync at once")


class Late:
    """A mount that tells the kernel late, or replies late to lookups (tests/support/slow_kernel.cc)."""

    def __init__(self, cloud, name):
        self.delays = cloud.root / f"{name}.delays"
        self.set()
        os.environ.update(LD_PRELOAD=str(BUILD / "tests" / "slow_kernel.so"),
                          DATACLOUD_SLOW_KERNEL=str(self.delays))
        try:
            self.mount = cloud.mount(name=name)
        finally:
            del os.environ["LD_PRELOAD"], os.environ["DATACLOUD_SLOW_KERNEL"]

    def set(self, invalidation_ms=0, entry_ms=0):
        self.delays.write_text(f"{invalidation_ms} {entry_ms}")


def nothing_old_is_seen_by_a_late_mount(cloud, one, rng):
    late = Late(cloud, "late")
    with open(one / "late", "wb", buffering=0) as writer, \
            open(late.mount / "late", "rb", buffering=0) as reader:
        late.set(invalidation_ms=250)
        expected = b""
        for _ in range(4):
            part = rng.randbytes(rng.randrange(1, 20_000))
            writer.write(part)
            os.fsync(writer.fileno())
            expected += part
            seen = os.pread(reader.fileno(), len(expected) + 10, 0)
            check_equal(len(seen), len(expected), "a mount without time shows completed fsyncs")
            check(seen == expected, "and their bytes")
    (one / "fresh").write_bytes(bytes(70_000))
    late.set(entry_ms=800)
    # The reply to this lookup gets to the kernel only when its attributes are old.
    looking = threading.Thread(target=os.stat, args=(late.mount / "fresh",))
    looking.start()
    time.sleep(0.3)
    os.truncate(one / "fresh", 7)
    looking.join()
    late.set()
    check_equal(os.stat(late.mount / "fresh").st_size, 7,
                "a reply that was under way leaves no old attributes")
    late.mount.unmount()


def names_are_seen_at_once(one, two):
    for i in range(20):
        first, second = (one, two) if i % 2 else (two, one)
        name, other = f"name{i}", f"other{i}"
        (first / name).write_bytes(b"1")
        steps = [os.path.exists(second / name)]
        os.rename(second / name, second / other)
        steps += [not os.path.exists(first / name), os.path.exists(first / other)]
        os.chmod(first / other, 0o600)
        steps.append(os.stat(second / other).st_mode & 0o777 == 0o600)
        os.truncate(second / other, 12345)
        steps.append(os.stat(first / other).st_size == 12345)
        os.setxattr(first / other, "user.x", b"%d" % i)
        steps.append(os.getxattr(second / other, "user.x") == b"%d" % i)
        os.link(first / other, first / name)
        steps.append(os.stat(second / name).st_nlink == 2)
        os.unlink(second / other)
        steps += [not os.path.exists(first / other), os.stat(first / name).st_nlink == 1]
        os.mkdir(first / f"dir{i}")
        steps.append(os.listdir(second / f"dir{i}") == [])
        (second / f"dir{i}" / "x").touch()
        steps.append(os.listdir(first / f"dir{i}") == ["x"])
        if not all(steps):
            check(False, "changes of names and attributes are seen at once", (i, steps))
    note("ok: create, rename, chmod, truncate, xattr, link, unlink, mkdir are seen at once")
    os.mkdir(one / "taken")
    expect_errno(17, "mkdir of a directory made on the other mount", os.mkdir, two / "taken")
    (one / "taken" / "f").touch()
    expect_errno(39, "rmdir of a directory filled on the other mount", os.rmdir, two / "taken")
    os.unlink(two / "taken" / "f")
    os.rmdir(two / "taken")
    expect_errno(2, "stat of a directory removed on the other mount", os.stat, one / "taken")


def unlinked_on_the_other_mount(one, two):
    (one / "victim").write_bytes(b"still here" * 10_000)
    with open(one / "victim", "rb") as file:
        os.unlink(two / "victim")
        check_equal(file.read(), b"still here" * 10_000, "an open file unlinked elsewhere stays")
    check(not os.path.exists(one / "victim"), "and is gone once closed")


def exclusive_create_has_one_winner(one, two):
    wins = [[], []]

    def race(side, mount):
        for i in range(200):
            try:
                os.close(os.open(mount / f"race{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                wins[side].append(i)
            except FileExistsError:
                pass

    sides = [threading.Thread(target=race, args=(n, m)) for n, m in enumerate((one, two))]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    check_equal(sorted(wins[0] + wins[1]), list(range(200)), "O_EXCL: each name has one winner")


class Worker(threading.Thread):
    """Random operations on a few shared names; only errnos that races explain are allowed."""

    ALLOWED = {"FileNotFoundError", "FileExistsError", "IsADirectoryError", "NotADirectoryError"}

    def __init__(self, mount, seed, end):
        super().__init__(daemon=True)
        self.root, self.random, self.end = mount / "arena", random.Random(seed), end
        self.done, self.error, self.longest_s = 0, None, 0.0

    def run(self):
        while time.monotonic() < self.end:
            began = time.monotonic()
            try:
                self.step()
            except OSError as error:
                if type(error).__name__ not in self.ALLOWED and error.errno not in (39, 116):
                    self.error = error
                    return
            self.done += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)

    def step(self):
        rng = self.random
        path, other = (self.root / rng.choice("ab") / f"f{rng.randrange(6)}" for _ in range(2))
        dice = rng.randrange(10)
        if dice < 3:
            with open(path, "r+b" if rng.random() < 0.5 else "wb", buffering=0) as file:
                file.seek(rng.choice([0, 100, 70_000]))
                file.write(rng.randbytes(rng.choice([10, 5000, 100_000])))
                if rng.random() < 0.3:
                    os.fsync(file.fileno())
        elif dice < 6:
            path.read_bytes()
        elif dice == 6:
            os.rename(path, other)
        elif dice == 7:
            os.unlink(path)
        elif dice == 8:
            for entry in os.scandir(path.parent):
                entry.stat(follow_symlinks=False)
        else:
            os.truncate(path, rng.choice([0, 50, 80_000]))


def random_work_never_deadlocks(one, two, rng, seconds):
    for name in "ab":
        (one / "arena" / name).mkdir(parents=True)
    end = time.monotonic() + seconds
    workers = [Worker(m, rng.randrange(1 << 32), end) for m in (one, two) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 40 * SLOWNESS)
        check(not worker.is_alive(), "a worker ends: no deadlock")
        check(worker.error is None, "a worker sees no error but those of races", worker.error)
    note(f"{sum(w.done for w in workers)} operations; the slowest took "
         f"{max(w.longest_s for w in workers):.1f} s")
    check(max(w.longest_s for w in workers) < 15 * SLOWNESS, "no operation waits for a lease to end")
    check_equal(sha256_tree(one / "arena"), sha256_tree(two / "arena"),
                "both mounts show the same files with the same contents")


def a_dead_mount_does_not_hold_up_the_other(cloud, one, two):
    trees.write_file(one / "leased", b"a" * 100_000, sync=True)
    with open(one / "leased", "r+b", buffering=0) as file:
        file.write(b"dirty and lost")
        one.kill()
        began = time.monotonic()
        check_equal((two / "leased").read_bytes()[:1], b"a",
                    "a file leased by a killed mount is read by the other")
        seconds = time.monotonic() - began
        try:
            file.close()
        except OSError:
            pass
    check(seconds < 30 * SLOWNESS, f"after {seconds:.1f} s")
    (two / "leased").write_bytes(b"mine now")
    again = cloud.mount(name="one")
    check_equal((again / "leased").read_bytes(), b"mine now", "and a new mount sees its changes")
    return again


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        close_to_open(one, two, rng)
        fsync_is_seen_by_open_files(one, two, rng)
        nothing_old_is_seen_by_a_late_mount(cloud, one, rng)
        names_are_seen_at_once(one, two)
        unlinked_on_the_other_mount(one, two)
        exclusive_create_has_one_winner(one, two)
        random_work_never_deadlocks(one, two, rng, 20)
        one = a_dead_mount_does_not_hold_up_the_other(cloud, one, two)
        one.unmount()
        two.unmount()


if __name__ == "__main__":
    harness.main(test, 150)
