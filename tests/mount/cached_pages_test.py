"""What the kernel caches is what was written: beside asynchronous O_DIRECT writes, for buffered
readers and mappings, copy_file_range and truncate, also from another mount. And one slow lookup
does not block its directory."""

import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, SLOWNESS  # noqa: E402
from harness import check, expect_errno, note  # noqa: E402

SIZE, PIECE = 640 * 1024, 4096
_libc = ctypes.CDLL(None, use_errno=True)
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT = 206, 207, 208, 209  # x86-64


class AsyncWriter:
    """Linux AIO with O_DIRECT, as libaio does it: whole rounds of writes at some depth."""

    def __init__(self, path, depth):
        self.file = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.depth = depth
        self.context = ctypes.c_ulong(0)
        self._call(_SETUP, depth, ctypes.byref(self.context))
        self.buffer = mmap.mmap(-1, SIZE)  # aligned to pages
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))

    def _call(self, number, *arguments):
        done = _libc.syscall(number, *arguments)
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return done

    def write_all(self, value, offset=0):
        """Fills SIZE bytes from `offset` on; returns when each write has completed."""
        self.buffer[:] = bytes([value]) * SIZE
        places, flying = list(range(0, SIZE, PIECE)), 0
        while places or flying:
            while places and flying < self.depth:
                at = places.pop()
                block = ctypes.create_string_buffer(struct.pack(
                    "<QIiHhIQQqQII", at, 0, 0, 1, 0, self.file, self.address + at, PIECE,
                    offset + at, 0, 0, 0), 64)
                pointer = ctypes.c_void_p(ctypes.addressof(block))
                self._call(_SUBMIT, self.context, 1, ctypes.byref(pointer))
                flying += 1
            events = ctypes.create_string_buffer(32 * self.depth)
            got = self._call(_GETEVENTS, self.context, 1, self.depth, events, None)
            for i in range(got):
                result = struct.unpack_from("<QQqq", events, 32 * i)[2]
                if result != PIECE:
                    raise OSError(-result, f"an asynchronous write returned {result}")
            flying -= got

    def close(self):
        self._call(_DESTROY, self.context)
        os.close(self.file)


def first_old(data, value):
    """Where a buffer is not all `value`; -1: nowhere."""
    return next((i for i, byte in enumerate(data) if byte != value), -1)


def keep_reading(path, stop):
    """Fills the page cache all the time, in order and by a mapping."""
    file = os.open(path, os.O_RDONLY)
    view = mmap.mmap(file, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    while not stop.is_set():
        os.pread(file, SIZE, 0)
        view[::PIECE]
    view.close()
    os.close(file)


def no_old_pages(directory, depth, rounds):
    path = directory / f"rewritten{depth}"
    path.write_bytes(b"\0" * SIZE)
    writer = AsyncWriter(path, depth)
    stop = threading.Event()
    readers = [threading.Thread(target=keep_reading, args=(path, stop), daemon=True)
               for _ in range(2)]
    for reader in readers:
        reader.start()
    file = os.open(path, os.O_RDONLY)
    view = mmap.mmap(file, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    began = time.monotonic()
    for i in range(rounds):
        value = (0xaa, 0x55)[i % 2]
        writer.write_all(value)
        for kind, data in (("read", os.pread(file, SIZE, 0)), ("mapping", view[:])):
            old = first_old(data, value)
            if old >= 0:
                raise harness.CheckFailed(f"depth {depth}, round {i}: a {kind} shows "
                                          f"{data[old]:#x} at {old} after {value:#x} was written")
    stop.set()
    for reader in readers:
        reader.join()
    view.close()
    os.close(file)
    writer.close()
    note(f"ok: depth {depth}: {rounds} rounds in {time.monotonic() - began:.1f} s, no old page")


def copies_and_cuts(directory):
    """copy_file_range, truncate and fallocate of a file whose pages are cached."""
    path = directory / "copied"
    path.write_bytes(b"\1" * SIZE)
    file = os.open(path, os.O_RDWR)
    view = mmap.mmap(file, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    check(first_old(view[:], 1) < 0, "the mapping shows what was written")
    writer = AsyncWriter(path, 16)
    writer.write_all(2)
    target = os.open(directory / "target", os.O_RDWR | os.O_CREAT)
    os.pwrite(target, b"\3" * SIZE, 0)
    os.pread(target, SIZE, 0)
    left = SIZE
    while left:
        left -= os.copy_file_range(file, target, left, SIZE - left, SIZE - left)
    check(first_old(os.pread(target, SIZE, 0), 2) < 0, "copy_file_range copies what is there now")
    writer.write_all(4)
    os.ftruncate(file, 100)
    os.ftruncate(file, SIZE)
    data = os.pread(file, SIZE, 0)
    check(first_old(data[:100], 4) < 0 and first_old(data[100:], 0) < 0,
          "a truncate leaves zeros in cached pages")
    check(first_old(view[100:], 0) < 0, "and in the mapping")
    writer.write_all(5)
    for mode, name in ((3, "punch"), (0x10, "zero")):
        if _libc.fallocate(file, mode, ctypes.c_long(0), ctypes.c_long(65536)) == 0:
            check(first_old(os.pread(file, 65536, 0), 0) < 0, f"{name}: zeros in cached pages")
            writer.write_all(5)
        else:
            check(ctypes.get_errno() == errno.EOPNOTSUPP, f"{name} is refused")
            check(first_old(os.pread(file, SIZE, 0), 5) < 0, f"{name}: and nothing is changed")
    writer.write_all(6, offset=SIZE)
    check(os.fstat(file).st_size == 2 * SIZE, "an asynchronous write beyond the end grows the file")
    check(first_old(os.pread(file, 3 * SIZE, SIZE), 6) < 0, "and is read")
    view.close()
    os.close(target)
    os.close(file)
    writer.close()


def through_two_mounts(here, there):
    path = here / "shared"
    path.write_bytes(b"\0" * SIZE)
    writer = AsyncWriter(path, 16)
    file = os.open(there / "shared", os.O_RDONLY)
    view = mmap.mmap(file, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    for i in range(6):
        value = (0xaa, 0x55)[i % 2]
        writer.write_all(value)
        for kind, data in (("read", os.pread(file, SIZE, 0)), ("mapping", view[:])):
            old = first_old(data, value)
            if old >= 0:
                raise harness.CheckFailed(f"the other mount's {kind} shows {data[old]:#x} at {old}")
    os.truncate(path, 5000)
    os.truncate(path, SIZE)
    check(first_old(os.pread(file, SIZE, 0)[5000:], 0) < 0, "a truncate is seen by the other mount")
    view.close()
    os.close(file)
    writer.close()
    note("ok: the other mount sees each round")


def slow_lookup(cloud, mount, other):
    """A file whose writer is stopped is slow to look up; its neighbours are not."""
    directory = other / "neighbours"
    directory.mkdir()
    # The mount keeps its lease. No descriptor may stay: a child that closes it would wait as well.
    (directory / "held").write_bytes(b"x")
    subprocess.run(["sync", other.point], check=True)
    os.listdir(mount)
    os.stat(mount / "neighbours")
    other.process.send_signal(signal.SIGSTOP)
    try:
        slow = subprocess.Popen(["stat", mount / "neighbours" / "held"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        check(slow.poll() is None, "a lookup waits for a mount that does not answer")
        began = time.monotonic()
        # A name that is not there: whatever the stopped mount made, it holds leases of.
        looked = subprocess.Popen(["stat", mount / "neighbours" / "free"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        looked.wait(60)
        took = time.monotonic() - began
        check(slow.poll() is None, "while it goes on waiting,")
        check(took < 3 * SLOWNESS, "its neighbour is looked up", took)
        slow.kill()
        began = time.monotonic()
        slow.wait(60)
        check(time.monotonic() - began < 3 * SLOWNESS, "and it can be killed")
    finally:
        other.process.send_signal(signal.SIGCONT)


def test(options):
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        no_old_pages(mount.point, 16, 60)
        no_old_pages(mount.point, 128, 30)
        copies_and_cuts(mount.point)
        expect_errno(errno.ENOENT, "a name that is not there", os.stat, mount / "nothing")
        other = cloud.mount(name="other")
        through_two_mounts(mount.point, other.point)
        slow_lookup(cloud, mount, other)
        mount.unmount()
        other.unmount()


if __name__ == "__main__":
    harness.main(test, 180)
