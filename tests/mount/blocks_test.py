"""st_blocks, SEEK_DATA and SEEK_HOLE tell at any moment which blocks hold data, so that programs that
look for holes (tar -S, cp, rsync -S) copy what was written: beside commits, truncates, other mounts."""

import errno
import ctypes
import os
import random
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, sha256_of  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

BLOCK = 65536
FALLOC_PUNCH_HOLE = 3  # with KEEP_SIZE
libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **named):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          **named)
    if done.returncode != 0:
        raise harness.CheckFailed(f"{command[0]}: status {done.returncode}: {done.stderr}")
    return done.stdout


def sectors(blocks, size):
    return (min(blocks * BLOCK, size) + 511) // 512


def tar_and_extract(path, room):
    """What GNU tar -S makes of a file; the path of the copy."""
    archive, out = room / "archive.tar", room / "extracted"
    out.mkdir(exist_ok=True)
    run("tar", "-S", "-C", path.parent, "-cf", archive, path.name)
    run("tar", "-C", out, "-xf", archive)
    return out / path.name


def written_and_synced(one, two, room):
    path = one / "q"
    run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=3", "conv=fsync")
    check_equal(run("stat", "-c", "%s %b", path).strip(), "3145728 6144", "stat after conv=fsync")
    check_equal(sha256_of(tar_and_extract(path, room)), sha256_of(path), "tar -S has the data")
    check_equal(os.stat(two / "q").st_blocks, 6144, "st_blocks on the second mount")
    with open(path, "r+b", buffering=0) as file:  # and as long as it stays open
        for _ in range(20):
            os.pwrite(file.fileno(), b"x" * 100, 5000)
            os.fsync(file.fileno())
            if os.fstat(file.fileno()).st_blocks != 6144:
                check(False, "st_blocks of an open file after fsync")
            time.sleep(0.05)
    note("ok: st_blocks stays right while the file is open")
    run("sh", "-c", f"head -c 300000 /dev/urandom >{path}; sync {path}")
    for name, mount in [("one", one), ("two", two)]:
        check_equal(os.stat(mount / "q").st_blocks, sectors(5, 300000),
                    f"st_blocks on {name} after O_TRUNC and the fsync of another process")
    check_equal(sha256_of(tar_and_extract(path, room)), sha256_of(path), "tar -S after that")


def sparse_and_dirty(one, two):
    with open(one / "sparse", "wb", buffering=0) as file:
        os.ftruncate(file.fileno(), 64 << 20)
        os.pwrite(file.fileno(), b"d" * BLOCK, 10 << 20)
        check_equal(os.fstat(file.fileno()).st_blocks, 128, "st_blocks of a sparse dirty file")
        os.fsync(file.fileno())
        check_equal(os.fstat(file.fileno()).st_blocks, 128, "st_blocks of it after fsync")
        os.pwrite(file.fileno(), b"e" * 100, 10 << 20)
        os.pwrite(file.fileno(), b"e" * 100, 20 << 20)
        check_equal(os.fstat(file.fileno()).st_blocks, 256,
                    "st_blocks counts a block written again once")
        os.fsync(file.fileno())
    check_equal(os.stat(two / "sparse").st_blocks, 256, "st_blocks of it on the second mount")


def only_grows_while_data_is_added(one):
    path, seen, done = one / "growing", [], threading.Event()

    def look():
        while not done.is_set():
            stat = os.stat(path)
            seen.append((stat.st_size, stat.st_blocks))

    path.touch()
    watcher = threading.Thread(target=look)
    watcher.start()
    data = os.urandom(1 << 20)
    with open(path, "wb", buffering=0) as file:
        for i in range(64):
            file.write(data)
            if i % 16 == 15:
                os.fsync(file.fileno())
    done.set()
    watcher.join()
    wrong = [(a, b) for a, b in zip(seen, seen[1:]) if b[1] < a[1]]
    wrong += [s for s in seen if s[0] > 0 and s[1] == 0]
    check(not wrong, f"st_blocks only grows, {len(seen)} looks during write-back", wrong[:5])


class Model:
    """A file as bytes and the set of blocks that hold data."""

    def __init__(self):
        self.data, self.blocks = bytearray(), set()

    def write(self, offset, data):
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset:offset + len(data)] = data
        self.blocks.update(range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1))

    def truncate(self, size):
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self.blocks = {b for b in self.blocks if b * BLOCK < size}

    def punch(self, offset, length):
        end = min(len(self.data), offset + length)
        self.data[offset:end] = bytes(max(0, end - offset))
        stop = (offset + length) // BLOCK
        if offset + length >= len(self.data):  # behind the end there is nothing to keep
            stop = max(stop, -(-len(self.data) // BLOCK))
        self.blocks -= set(range(-(-offset // BLOCK), stop))

    def extents(self):
        """Stretches of data as SEEK_DATA and SEEK_HOLE walk them."""
        found, size = [], len(self.data)
        for block in sorted(self.blocks):
            first, end = block * BLOCK, min(size, (block + 1) * BLOCK)
            if found and found[-1][1] == first:
                found[-1] = (found[-1][0], end)
            else:
                found.append((first, end))
        return found


def extents_of(file):
    found, at = [], 0
    while True:
        try:
            data = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return found
            raise
        at = os.lseek(file, data, os.SEEK_HOLE)
        found.append((data, at))


def copies_are_exact(path, model, room):
    """By programs that look for holes."""
    run("cp", "--sparse=always", path, room / "cp")
    run("rsync", "-IS", path, room / "rsync")  # -I: size and second may be the last copy's
    for name, copy in [("tar -S", tar_and_extract(path, room)), ("cp", room / "cp"),
                       ("rsync -S", room / "rsync")]:
        if copy.read_bytes() != model.data:
            check(False, f"{name} copies the file exactly")


def random_changes(one, two, room, rng, steps):
    path, model, punches = one / "random", Model(), 0
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    for step in range(steps):
        kind = rng.randrange(100)
        if kind < 50:
            offset = rng.randrange(60) * BLOCK if rng.randrange(3) == 0 else \
                rng.randrange(len(model.data) + 1)
            data = rng.randbytes(rng.choice([1, 700, BLOCK, 200_000]))
            os.pwrite(file, data, offset)
            model.write(offset, data)
        elif kind < 60:
            size = rng.randrange(len(model.data) + 200_000)
            os.ftruncate(file, size)
            model.truncate(size)
        elif kind < 70:
            offset, length = rng.randrange(60) * 30_000, rng.randrange(1, 10 * BLOCK)
            if libc.fallocate(file, FALLOC_PUNCH_HOLE, ctypes.c_long(offset),
                              ctypes.c_long(length)) == 0:
                model.punch(offset, length)
                punches += 1
        elif kind < 80:
            os.fsync(file)
            if os.stat(two / "random").st_blocks != sectors(len(model.blocks), len(model.data)):
                check(False, "st_blocks on the second mount after fsync", f"step {step}")
        seen = os.fstat(file)
        expected = (len(model.data), sectors(len(model.blocks), len(model.data)))
        if (seen.st_size, seen.st_blocks) != expected:
            check(False, "st_size and st_blocks", f"step {step}: {seen.st_size} {seen.st_blocks} "
                                                  f"instead of {expected}")
        if extents_of(file) != model.extents():
            check(False, "SEEK_DATA and SEEK_HOLE", f"step {step}: {extents_of(file)} instead of "
                                                    f"{model.extents()}")
        if step % 25 == 0:
            copies_are_exact(path, model, room)
    copies_are_exact(path, model, room)
    os.close(file)
    note(f"ok: {steps} random changes ({punches} punches): st_blocks, SEEK_DATA, SEEK_HOLE, tar -S, "
         "cp --sparse, rsync -S")


def round_trips(one, room, rng):
    """Sparse copies made on the mount hold what their originals hold."""
    original = room / "original"
    with open(original, "wb") as file:
        for _ in range(20):
            file.seek(rng.randrange(200) * 4096)
            file.write(rng.randbytes(rng.randrange(1, 30_000)))
        file.truncate(2_000_000)
    run("cp", "--sparse=always", original, one / "cp")
    run("rsync", "-S", original, one / "rsync")
    with tarfile.open(room / "sparse.tar", "w") as archive:
        archive.add(original, "tar")
    run("tar", "-S", "-C", one.point, "-xf", room / "sparse.tar")
    for name in ["cp", "rsync", "tar"]:
        check_equal(sha256_of(one / name), sha256_of(original), f"a sparse copy made by {name}")


def live_database(one, room):
    """A database by name, archived right after each commit."""
    path = one / "live.db"
    database = sqlite3.connect(path)
    database.execute("create table t (id integer primary key, text blob)")
    for number in range(1, 16):
        database.execute("insert into t values (?, ?)", (number, os.urandom(3000)))
        database.commit()
        copy = sqlite3.connect(tar_and_extract(path, room))
        rows = copy.execute("select count(*) from t").fetchone()[0]
        sound = copy.execute("pragma integrity_check").fetchone()[0]
        copy.close()
        if (rows, sound) != (number, "ok"):
            check(False, "tar -S of a live database", f"{rows} of {number} rows, {sound}")
    database.close()
    note("ok: tar -S of a live SQLite file has every committed row, 15 times")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        room = cloud.root / "room"
        room.mkdir()
        written_and_synced(one, two, room)
        sparse_and_dirty(one, two)
        only_grows_while_data_is_added(one)
        random_changes(one, two, room, rng, options.rounds or 150)
        round_trips(one, room, rng)
        live_database(one, room)


if __name__ == "__main__":
    harness.main(test, 240)
