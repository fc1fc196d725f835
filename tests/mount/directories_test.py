"""Directories under change: listings end and skip nothing, removed ones stay while they are open, and a
stopped mount is waited for once."""

import ctypes
import errno
import os
import platform
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

_libc = ctypes.CDLL(None, use_errno=True)
_GETDENTS64 = {"x86_64": 217, "aarch64": 61}[platform.machine()]


class Stream:
    """An open directory, read by getdents64(2) with a small buffer; positions as telldir gives."""

    def __init__(self, path, buffer_bytes=1024):
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.buffer = ctypes.create_string_buffer(buffer_bytes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def read(self):
        """The next [(name, position behind it)], without the dots; None at the end."""
        got = _libc.syscall(_GETDENTS64, self.fd, self.buffer, len(self.buffer))
        if got < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if got == 0:
            return None
        entries, at = [], 0
        while at < got:
            _, position, length = struct.unpack_from("=QqH", self.buffer, at)
            name = self.buffer.raw[at + 19:at + length].split(b"\0", 1)[0].decode()
            if name not in (".", ".."):
                entries.append((name, position))
            at += length
        return entries

    def seek(self, position):
        os.lseek(self.fd, position, os.SEEK_SET)

    def names(self, at_most=1 << 30):
        found = []
        while (entries := self.read()) is not None:
            found += [name for name, _ in entries]
            if len(found) > at_most:
                break
        return found


def make_files(directory, count):
    directory.mkdir()
    for i in range(count):
        os.close(os.open(directory / f"f{i}", os.O_CREAT | os.O_WRONLY))


# --- listings -----------------------------------------------------------------------------


def a_renamed_directory_ends(one, two):
    count = 5000
    make_files(one / "renamed", count)
    expected = {f"f{i}" for i in range(count)}
    for what, renamer in (("this", one), ("the other", two)):
        with Stream(one / "renamed", 32768) as stream:
            seen = []
            while (entries := stream.read()) is not None and len(seen) <= 3 * count:
                for name, _ in entries:
                    path = renamer / "renamed" / name
                    os.rename(path, renamer / "renamed" / "temporary")
                    os.rename(renamer / "renamed" / "temporary", path)
                seen += [name for name, _ in entries]
        check_equal(len(seen), count, f"a listing ends while {what} mount renames what it returns")
        check_equal(set(seen), expected, "and has every name")
    with os.scandir(one / "renamed") as entries:
        seen = []
        for entry in entries:
            os.rename(entry.path, entry.path + "~")
            seen.append(entry.name)
            if len(seen) > 3 * count:
                break
    check_equal(sorted(seen), sorted(expected), "renamed to new names while it is listed: each once")
    shutil.rmtree(two / "renamed")


def rewound_and_sought(one, two):
    make_files(one / "sought", 300)
    with Stream(one / "sought") as stream:
        first = stream.read()
        (two / "sought" / "added").touch()
        rest = []
        while (entries := stream.read()) is not None:
            rest += entries
        check("added" not in [name for name, _ in rest], "what is added later is not in the listing")
        everything = first + rest
        for at in (0, 17, 150, 298):
            os.rename(two / "sought" / everything[at][0], two / "sought" / f"other{at}")
            stream.seek(everything[at][1])
            if stream.names() != [name for name, _ in everything[at + 1:]]:
                check(False, "seekdir goes on behind an entry that was renamed", at)
        note("ok: seekdir goes on behind entries that were renamed")
        stream.seek(0)
        check_equal(Counter(stream.names()), Counter(os.listdir(two / "sought")),
                    "rewinddir shows what is there now")


class Churn(threading.Thread):
    """Creates, removes and renames files of its own; names that start with "stays" are let be."""

    def __init__(self, directory, elsewhere, tag, seed):
        super().__init__(daemon=True)
        self.directory, self.elsewhere, self.tag = directory, elsewhere, tag
        self.random, self.stopped, self.error, self.done = random.Random(seed), False, None, 0
        self.names = [f"{tag}{i}" for i in range(200)]
        for name in self.names:
            (directory / name).touch()

    def run(self):
        try:
            while not self.stopped:
                self.step(self.random.randrange(6))
                self.done += 1
        except OSError as error:
            self.error = error

    def step(self, dice):
        at = self.random.randrange(len(self.names))
        name, path = self.names[at], self.directory / self.names[at]
        fresh = f"{self.tag}{self.random.randrange(1 << 60)}"
        if dice == 0:  # a file that comes and goes at the end
            (self.directory / fresh).touch()
            os.unlink(self.directory / fresh)
        elif dice in (1, 2):  # to a name shared by all, and back
            temporary = self.directory / f"temporary-{self.tag}"
            os.rename(path, temporary)
            os.rename(temporary, path)
        elif dice == 3:
            os.rename(path, self.directory / fresh)
            self.names[at] = fresh
        elif dice == 4:  # as programs replace a file
            (self.directory / fresh).touch()
            os.rename(self.directory / fresh, path)
        else:
            os.rename(path, self.elsewhere / name)
            os.rename(self.elsewhere / name, path)


def listings_of_a_busy_directory(one, two, rng, seconds):
    make_files(one / "busy", 0)
    (one / "elsewhere").mkdir()
    staying = {f"stays{i}" for i in range(600)}
    churns = [Churn(m / "busy", m / "elsewhere", tag, rng.randrange(1 << 32))
              for m, tag in ((one, "a"), (two, "b"))]
    for name in sorted(staying, key=lambda _: rng.random()):
        (one / "busy" / name).touch()
    for churn in churns:
        churn.start()
    listings, end = 0, time.monotonic() + seconds
    while time.monotonic() < end or listings < 4:
        mount = (one, two)[listings % 2]
        with Stream(mount / "busy", rng.choice([300, 1024, 32768])) as stream:
            seen = Counter(stream.names(at_most=3000))
        listings += 1
        if sum(seen.values()) > 1500:
            check(False, "a listing of a busy directory ends", sum(seen.values()))
        if any(seen[name] != 1 for name in staying):
            check(False, "a name that stays is listed once",
                  {name: seen[name] for name in staying if seen[name] != 1})
        if max(seen.values()) > 2:
            check(False, "no name is listed more than twice", seen.most_common(3))
    for churn in churns:
        churn.stopped = True
        churn.join(60 * SLOWNESS)
        check(not churn.is_alive() and churn.error is None, "the changes went on", churn.error)
    note(f"ok: {listings} listings beside {sum(c.done for c in churns)} changes of two mounts")


# --- removed directories ------------------------------------------------------------------


def behaviour_of_removed(fd):
    """What a program sees of a directory it has open, removed meanwhile."""
    def outcome(call):
        try:
            return call()
        except OSError as error:
            return errno.errorcode[error.errno]

    def getdents():
        got = _libc.syscall(_GETDENTS64, fd, ctypes.create_string_buffer(1024), 1024)
        if got < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        return got

    return {
        "fstat": outcome(lambda: os.fstat(fd).st_nlink),
        "fchmod": outcome(lambda: os.fchmod(fd, 0o711)),
        "mode": outcome(lambda: os.fstat(fd).st_mode & 0o777),
        "utime": outcome(lambda: os.utime(fd, (5, 5))),
        "mtime": outcome(lambda: os.fstat(fd).st_mtime),
        "getdents": outcome(getdents),
        "rewound": outcome(lambda: (os.lseek(fd, 0, os.SEEK_SET), getdents())[1]),
        "listdir": outcome(lambda: os.listdir(fd)),
        "create": outcome(lambda: os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)),
        "mkdir": outcome(lambda: os.mkdir("d", dir_fd=fd)),
        "stat of a name": outcome(lambda: os.stat("f", dir_fd=fd)),
        "fsync": outcome(lambda: os.fsync(fd)),
    }


def removed_directories_stay_while_open(cloud, one, two):
    with tempfile.TemporaryDirectory(dir=cloud.root) as local:
        path = Path(local) / "d"
        path.mkdir()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir(path)
        expected = behaviour_of_removed(fd)
        os.close(fd)
    cloud.collect()  # nothing of earlier tests is still to be freed
    before = cloud.status()["inodes"]
    opened = {}

    def removed(what, remove, read_first=False, meddle=None):
        (one / what).mkdir()
        opened[what] = os.open(one / what, os.O_RDONLY | os.O_DIRECTORY)
        if read_first:
            os.listdir(opened[what])
        if meddle:
            meddle(what)
        remove(what)

    def replace(what):
        (two / "other").mkdir()
        os.rename(two / "other", two / what)

    removed("by itself", lambda name: os.rmdir(one / name))
    removed("by the other mount", lambda name: os.rmdir(two / name))
    removed("after it was read", lambda name: os.rmdir(two / name), read_first=True)
    removed("after its lease was recalled", lambda name: os.rmdir(two / name),
            meddle=lambda name: os.chmod(two / name, 0o700))
    removed("replaced by a rename of the other mount", replace)
    os.rmdir(one / "replaced by a rename of the other mount")
    cloud.collect()  # frees whatever nobody holds
    check_equal({what: behaviour_of_removed(fd) for what, fd in opened.items()},
                {what: expected for what in opened},
                "directories removed while open behave as on the local file system")
    removed("before a restart", lambda name: os.rmdir(two / name))
    os.mkdir(one / "after a restart")
    opened["after a restart"] = os.open(one / "after a restart", os.O_RDONLY | os.O_DIRECTORY)
    cloud.stop_daemon()
    cloud.start_daemon()
    os.rmdir(two / "after a restart")
    cloud.collect()
    check_equal({what: behaviour_of_removed(fd)["fstat"] for what, fd in opened.items()},
                {what: 0 for what in opened}, "also over a restart of the daemon")
    (one / "file").write_bytes(b"x" * 100_000)
    opened["file"] = os.open(one / "file", os.O_RDONLY)
    os.unlink(two / "file")
    check_equal(os.fstat(opened["file"]).st_nlink, 0, "a file too")
    for fd in opened.values():
        os.close(fd)

    def freed():
        cloud.collect()
        return cloud.status()["inodes"] == before

    wait_for(freed, 60, "closed directories to be freed")
    note("ok: they are freed once closed, though the kernel remembers them")


# --- a stopped mount ----------------------------------------------------------------------


def sessions_ended(cloud, mount):
    return [line for line in (cloud.root / "daemon.log").read_text().splitlines()
            if "has ended" in line and f"process {mount.process.pid})" in line]


def a_stopped_mount_is_waited_for_once():
    lease_s = 4
    with Cloud(daemon={"lease_ms": lease_s * 1000}) as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        for i in range(10):
            make_files(one / f"d{i}", 20)
        for directory, _, files in os.walk(two.point):  # two holds a lease on all of it
            for name in files:
                os.stat(os.path.join(directory, name))
        one_log = len(sessions_ended(cloud, one))
        os.kill(two.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for i in range(10):
                shutil.rmtree(one / f"d{i}")
            seconds = time.monotonic() - began
        finally:
            os.kill(two.process.pid, signal.SIGCONT)
        check(seconds < 10 * lease_s * SLOWNESS,
              f"210 removals wait for a stopped mount together: {seconds:.1f} s, a lease is {lease_s} s")
        check_equal(len(sessions_ended(cloud, two)), 1, "its session was ended once")
        check_equal(len(sessions_ended(cloud, one)), one_log, "and nobody else's")

        def goes_on():
            try:
                return os.listdir(two) == []
            except OSError:  # what it asked for in the session that has ended
                return False

        wait_for(goes_on, 30, "the stopped mount to go on")
        (two / "new").write_bytes(b"new")
        check_equal((one / "new").read_bytes(), b"new", "it works as before when it goes on")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        a_renamed_directory_ends(one, two)
        rewound_and_sought(one, two)
        listings_of_a_busy_directory(one, two, rng, 8)
        removed_directories_stay_while_open(cloud, one, two)
        one.unmount()
        two.unmount()
    a_stopped_mount_is_waited_for_once()


if __name__ == "__main__":
    harness.main(test, 240)
