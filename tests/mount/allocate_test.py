"""fallocate over two mounts: random changes against a model, what is reserved and what others have left of
it, crashes, and programs that preallocate."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402
from space_test import SmallSite  # noqa: E402

libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
BLOCK, MIB = 65536, 1 << 20


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def reserved_bytes(cloud):
    return cloud.status()["capacity"]["reserved_bytes"]


class Model:
    """A file as bytes, and its blocks: those with contents, and those that are reserved."""

    def __init__(self):
        self.data, self.mapped, self.reserved = bytearray(), set(), set()

    def write(self, offset, data):
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset:offset + len(data)] = data
        self.mapped.update(range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1))

    def truncate(self, size):
        shrinks = size <= len(self.data)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        if shrinks:
            end = -(-size // BLOCK)
            self.mapped = {b for b in self.mapped if b < end}
            self.reserved = {b for b in self.reserved if b < end}

    def empty(self, offset, length):
        size, stop = len(self.data), offset + length
        first, end = -(-offset // BLOCK), stop // BLOCK
        if stop >= size:
            end = max(end, -(-size // BLOCK))
        self.data[offset:min(size, stop)] = bytes(max(0, min(size, stop) - offset))
        whole = set(range(first, end))
        self.mapped -= whole
        self.reserved -= whole

    def reserve(self, offset, length, keep):
        self.reserved.update(range(offset // BLOCK, -(-(offset + length) // BLOCK)))
        if not keep:
            self.data.extend(bytes(max(0, offset + length - len(self.data))))

    def sectors(self):
        data = min(len(self.mapped) * BLOCK, len(self.data))
        return (data + len(self.reserved - self.mapped) * BLOCK + 511) // 512


def random_changes(one, two, rng, steps):
    model, paths = Model(), [one / "random", two / "random"]
    paths[0].touch()
    here, file = 0, os.open(paths[0], os.O_RDWR)
    for step in range(steps):
        offset = rng.choice([rng.randrange(12) * BLOCK, rng.randrange(12 * BLOCK)])
        length = rng.choice([1, 700, BLOCK, rng.randrange(1, 4 * BLOCK)])
        keep = rng.choice([0, KEEP_SIZE])
        kind = rng.choice(["write", "write", "write", "truncate", "punch", "punch", "zero", "reserve",
                           "reserve", "sync", "reopen", "switch", "map"])
        if kind == "write":
            data = rng.randbytes(length)
            os.pwrite(file, data, offset)
            model.write(offset, data)
        elif kind == "truncate":
            size = rng.choice([len(model.data), offset])
            os.ftruncate(file, size)
            model.truncate(size)
        elif kind == "punch":
            fallocate(file, PUNCH_HOLE | KEEP_SIZE, offset, length)
            model.empty(offset, length)
        elif kind == "zero":
            fallocate(file, ZERO_RANGE | keep, offset, length)
            model.empty(offset, length)
            model.reserve(offset, length, keep)
        elif kind == "reserve":
            fallocate(file, keep, offset, length)
            model.reserve(offset, length, keep)
        elif kind == "sync":
            os.fsync(file)
            check_quietly(os.stat(paths[1 - here]).st_blocks, model.sectors(), "st_blocks", step, kind)
        elif kind == "map" and model.data:
            with mmap.mmap(file, len(model.data), mmap.MAP_SHARED, mmap.PROT_READ) as view:
                check_quietly(view[:] == model.data, True, "a mapping", step, kind)
        elif kind in ("reopen", "switch"):
            os.fsync(file)
            os.close(file)
            here ^= kind == "switch"
            file = os.open(paths[here], os.O_RDWR)
        check_quietly(os.fstat(file).st_size, len(model.data), "st_size", step, kind)
        part = max(0, offset - 1000)
        check_quietly(os.pread(file, length + 2000, part) == model.data[part:part + length + 2000], True,
                      "what is read", step, kind)
    check(os.pread(file, len(model.data) + 1, 0) == model.data, f"{steps} random changes leave what they should")
    os.fsync(file)
    check_equal(os.fstat(file).st_blocks, model.sectors(), "and st_blocks")
    os.close(file)
    return len(model.reserved) * BLOCK


def check_quietly(seen, expected, what, step, kind):
    if seen != expected:
        check(False, what, f"step {step} ({kind}): {seen} instead of {expected}")


def rules(cloud, one, two):
    before = reserved_bytes(cloud)
    path = one / "preallocated"
    with open(path, "wb", buffering=0) as file:
        began = time.monotonic()
        os.posix_fallocate(file.fileno(), 0, 256 * MIB)
        note(f"posix_fallocate of 256 MiB: {(time.monotonic() - began) * 1000:.1f} ms")
        check_equal(os.fstat(file.fileno()).st_blocks, 256 * MIB // 512, "st_blocks counts what is reserved")
        check_equal(reserved_bytes(cloud) - before, 256 * MIB, "so does status")
        expect_errno(errno.ENXIO, "SEEK_DATA: there are none", os.lseek, file.fileno(), 0, os.SEEK_DATA)
        check_equal(os.stat(two / "preallocated").st_blocks, 256 * MIB // 512, "the other mount sees it")
        os.pwrite(file.fileno(), b"x" * BLOCK, 10 * BLOCK)
        check_equal(os.fstat(file.fileno()).st_blocks, 256 * MIB // 512, "a write takes of what is reserved")
        check_equal(os.lseek(file.fileno(), 0, os.SEEK_DATA), 10 * BLOCK, "and is found")
        os.fsync(file.fileno())
        check_equal(os.stat(two / "preallocated").st_blocks, 256 * MIB // 512, "also once it is stored")
        check_equal(reserved_bytes(cloud) - before, 256 * MIB, "it stays reserved for overwriting")
        fallocate(file.fileno(), KEEP_SIZE, 256 * MIB, MIB)
        check_equal(os.fstat(file.fileno()).st_size, 256 * MIB, "behind the end the size is kept")
        for mode in (COLLAPSE, INSERT, UNSHARE, PUNCH_HOLE, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE):
            expect_errno(errno.EOPNOTSUPP, f"mode {mode:#x}", fallocate, file.fileno(), mode, 0, BLOCK)
        expect_errno(errno.EINVAL, "no length", fallocate, file.fileno(), 0, 0, 0)
        expect_errno(errno.EFBIG, "beyond 16 TiB", fallocate, file.fileno(), 0, 1 << 44, 1)
        os.ftruncate(file.fileno(), 20 * BLOCK)
        os.fsync(file.fileno())
        check_equal(reserved_bytes(cloud) - before, 20 * BLOCK, "a truncation gives back")
    shutil.copyfile(path, one / "copy")
    check_equal(reserved_bytes(cloud) - before, 20 * BLOCK, "a copy inherits nothing")
    expect_errno(errno.EBADF, "a descriptor for reading",
                 lambda: with_file(path, os.O_RDONLY, lambda fd: fallocate(fd, 0, 0, 1)))
    (one / "copy").unlink()
    unlinked = os.open(path, os.O_RDWR)
    path.unlink()
    os.pwrite(unlinked, b"y", 0)
    os.close(unlinked)
    wait_for(lambda: reserved_bytes(cloud) == before, 30 * SLOWNESS, "removal to give back")


def with_file(path, flags, call):
    fd = os.open(path, flags)
    try:
        return call(fd)
    finally:
        os.close(fd)


def programs(one, rng):
    path = one / "programs"
    data = bytearray(rng.randbytes(10 * BLOCK))
    path.write_bytes(data)
    for arguments in (["-p", "-o", "1000", "-l", "200000"], ["-z", "-o", "400001", "-l", "77"]):
        subprocess.run(["fallocate", *arguments, path], check=True)
        offset, length = int(arguments[2]), int(arguments[4])
        data[offset:offset + length] = bytes(length)
    check(path.read_bytes() == data, "fallocate -p and -z")
    path.write_bytes(bytes(4 * BLOCK) + b"end")
    subprocess.run(["fallocate", "-d", path], check=True)
    check(path.read_bytes() == bytes(4 * BLOCK) + b"end", "fallocate -d keeps what is there")
    check_equal(os.stat(path).st_blocks, BLOCK // 512, "and digs holes")
    subprocess.run(["fallocate", "-l", "1MiB", one / "new"], check=True)
    check((one / "new").read_bytes() == bytes(MIB), "fallocate -l")
    if shutil.which("rsync"):
        subprocess.run(["rsync", "--preallocate", path, one / "rsync"], check=True)
        check(path.read_bytes() == (one / "rsync").read_bytes(), "rsync --preallocate")
    if shutil.which("fio"):
        subprocess.run(["fio", "--name=allocate", f"--directory={one.point}", "--fallocate=native", "--size=4M",
                        "--bs=64k", "--rw=randwrite", "--verify=crc32c", "--ioengine=psync"], check=True,
                       stdout=subprocess.DEVNULL)
        note("ok: fio --fallocate=native, verified")


def write_ahead_log(cloud, one, two, rng):
    """Segments are preallocated, written in turn and synced, as databases do, while the daemon dies."""
    segments, expected = [], {}
    stop = threading.Event()

    def write():
        for number in range(1000):
            path = one / f"wal{number % 4}"
            if number < 4:
                with open(path, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, 4 * MIB)
                segments.append(path)
            data = rng.randbytes(8192)
            offset = rng.randrange(4 * MIB // 8192) * 8192
            with open(path, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), data, offset)
                os.fdatasync(file.fileno())
            expected[path.name, offset] = data
            if stop.is_set() and number >= 8:
                return

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):
        cloud.kill_daemon()
        cloud.start_daemon()
    stop.set()
    writer.join()
    check_equal({key: with_file(two / key[0], os.O_RDONLY, lambda fd: os.pread(fd, 8192, key[1])) == data
                 for key, data in expected.items()}, dict.fromkeys(expected, True),
                f"{len(expected)} synced records are there after two ends of the daemon")
    check_equal([os.stat(path).st_blocks for path in segments], [4 * MIB // 512] * 4,
                "and the segments still have their space")


def dead_mount(cloud, two):
    victim = cloud.mount(name="victim")
    file = os.open(victim / "kept", os.O_RDWR | os.O_CREAT)
    fallocate(file, 0, 0, MIB)
    os.fsync(file)
    victim.kill()
    expect_errno(errno.ENOTCONN, "its descriptor", os.close, file)
    check_equal(os.stat(two / "kept").st_blocks, MIB // 512, "what a dead mount had reserved stays")


def full_sites(rng):
    with Cloud(stores=lambda names, root: [SmallSite(n, root) for n in names]) as cloud:
        cloud.start_daemon()
        mount = cloud.mount("cache_bytes_max=1MiB")
        free = free_bytes(mount)
        reserved = os.open(mount / "reserved", os.O_RDWR | os.O_CREAT)
        fallocate(reserved, 0, 0, 120 * MIB)
        wait_for(lambda: free_bytes(mount) <= free - 120 * MIB, 20, "df to show less")
        expect_errno(errno.ENOSPC, "more than there is", fallocate, reserved, 0, 120 * MIB, 400 * MIB)
        check_equal(os.fstat(reserved).st_size, 120 * MIB, "changes nothing")
        written = 0
        try:
            while written < 400:
                with open(mount / f"f{written}", "wb", buffering=0) as file:
                    file.write(rng.randbytes(MIB))
                    os.fsync(file.fileno())
                written += 1
        except OSError as error:
            check_equal(error.errno, errno.ENOSPC, f"others get ENOSPC, after {written} MiB")
        check(written < 200, "while the sites have room", written)

        def write_all(data):
            """Refused writes have left garbage, which goes soon."""
            try:
                for at in range(0, len(data), MIB):
                    os.pwrite(reserved, data[at:at + MIB], at)
                os.fsync(reserved)
            except OSError as error:
                check_equal(error.errno, errno.ENOSPC, "what can be in the way")
                return False
            return True

        data = rng.randbytes(100 * MIB)
        wait_for(lambda: write_all(data), 60 * SLOWNESS, "the reserved file to be written")
        check(os.pread(reserved, MIB, 50 * MIB) == data[50 * MIB:51 * MIB], "and read")
        expect_errno(errno.ENOSPC, "others still have no room",
                     lambda: with_file(mount / "f0", os.O_WRONLY, lambda fd: (
                         os.pwrite(fd, rng.randbytes(8 * MIB), 0), os.fsync(fd))))
        again = rng.randbytes(4 * MIB)
        wait_for(lambda: write_all(again), 60 * SLOWNESS, "it to be overwritten")
        fallocate(reserved, PUNCH_HOLE | KEEP_SIZE, 0, 120 * MIB)

        def others_write():
            try:
                (mount / "f0").write_bytes(rng.randbytes(4 * MIB))
                with_file(mount / "f0", os.O_RDONLY, os.fsync)
            except OSError:
                return False
            return True

        wait_for(others_write, 60 * SLOWNESS, "a hole to make room for others")
        os.close(reserved)
        check_equal(reserved_bytes(cloud), 0, "nothing is reserved any more")
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")
        mount.unmount()


def free_bytes(mount):
    space = os.statvfs(mount.point)
    return space.f_bavail * space.f_frsize


def without_the_feature(cloud, one, two):
    file = os.open(one / "f", os.O_RDWR | os.O_CREAT)
    expect_errno(errno.EOPNOTSUPP, "a cloud without the feature reserves nothing", fallocate, file, 0, 0, 1)
    expect_errno(errno.EOPNOTSUPP, "and has no holes", fallocate, file, PUNCH_HOLE | KEEP_SIZE, 0, 1)
    os.posix_fallocate(file, 0, 100_000)
    check_equal(os.fstat(file).st_size, 100_000, "glibc writes in its place")
    cloud.tool("feature", "enable", "reservations")

    def works(mount):
        try:
            with_file(mount / "f", os.O_RDWR, lambda fd: fallocate(fd, 0, 0, 1))
        except OSError:
            return False
        return True

    wait_for(lambda: works(one) and works(two), 20 * SLOWNESS, "the mounts to know the feature")
    os.close(file)


def test(options):
    rng = random.Random(options.seed)
    with Cloud(features="times,trees,shared-slots") as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        without_the_feature(cloud, one, two)
        random_changes(one, two, rng, options.rounds or 150)
        rules(cloud, one, two)
        programs(one, rng)
        write_ahead_log(cloud, one, two, rng)
        dead_mount(cloud, two)
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")
        one.unmount()
        two.unmount()
    full_sites(rng)


if __name__ == "__main__":
    harness.main(test, 240)
