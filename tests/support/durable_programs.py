"""Programs at work on a mount that keep what an fsync has confirmed: digests, inode numbers and times."""

import hashlib
import io
import os
import random
import tarfile
import threading
import time
import traceback
from pathlib import Path

import harness
from cloud import wait_for
from harness import check_equal

CTIME_NS = 50_000_000  # a kernel shows its own for a moment


def facts(path):
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def same(seen, known):
    """All the same, the time of the last change about."""
    return seen[:3] == known[:3] and abs(seen[3] - known[3]) < CTIME_NS


class Program(threading.Thread):
    """Works until told to stop; any error ends it. `done`: pieces of work, the longest pause."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.random = Path(directory), random.Random(seed)
        self.stopping, self.error = threading.Event(), None
        self.done, self.longest_s, self.began = 0, 0.0, None
        self.durable = {}  # path: (digest, facts) of what an fsync has confirmed

    def run(self):
        try:
            while not self.stopping.is_set():
                self.began = time.monotonic()
                self.step()
                self.longest_s = max(self.longest_s, time.monotonic() - self.began)
                self.done += 1
                time.sleep(0.01)  # work to be seen through, no load: all of it is compared at the end
        except Exception as error:  # told to the main thread
            self.error = f"{error}: {traceback.format_exc(limit=-2)}"

    def confirm(self, path, data):
        self.durable[path] = (hashlib.sha256(data).hexdigest(), facts(path))


class Writer(Program):
    """Files that are fsynced, renamed, read back; some of them are changed in place."""

    def step(self):
        data = self.random.randbytes(self.random.choice([0, 100, 5000, 120_000]))
        draft, final = self.directory / "draft", self.directory / f"{self.done}"
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, final)
        self.fsync_directory()
        self.confirm(final, data)
        old = self.random.choice(list(self.durable))
        if self.done % 5 == 4:
            data = self.random.randbytes(3000)
            del self.durable[old]
            with open(old, "r+b") as file:
                file.truncate(0)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.confirm(old, data)
        elif hashlib.sha256(old.read_bytes()).hexdigest() != self.durable[old][0]:
            raise RuntimeError(f"{old} reads back different")

    def fsync_directory(self):
        handle = os.open(self.directory, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


class Untar(Program):
    """Extracts an archive of small files again and again, with times of its own, then syncs it all."""

    def step(self):
        archive, members = io.BytesIO(), {}
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for i in range(12):
                info = tarfile.TarInfo(f"part{i % 3}/file{i}")
                members[info.name] = self.random.randbytes(self.random.choice([10, 900, 20_000]))
                info.size, info.mtime = len(members[info.name]), 1_000_000_000 + i
                tar.addfile(info, io.BytesIO(members[info.name]))
        archive.seek(0)
        top = self.directory / f"tree{self.done}"
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(top)
        for name in members:
            handle = os.open(top / name, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        for name, data in members.items():
            self.confirm(top / name, data)


def moves_on(programs, what, since):
    """Every program has begun a piece of work after `since`, and has ended it."""
    def moved():
        for program in programs:
            if program.error is not None:
                raise harness.CheckFailed(f"{what}: a program saw {program.error}")
        return all(p.done > since[p] + 1 for p in programs)
    wait_for(moved, 40, f"programs to go on after {what}")


def compare(programs, root, name):
    """Everything confirmed is there, as seen by a mount."""
    for program in programs:
        place = Path(root) / program.directory.name
        seen, wanted = {}, {}
        for path, (digest, known) in program.durable.items():
            at = place / path.relative_to(program.directory)
            found = facts(at) if at.exists() else None
            wanted[str(at)] = (digest, known)
            seen[str(at)] = found and (hashlib.sha256(at.read_bytes()).hexdigest(),
                                       known if same(found, known) else found)
        check_equal(seen, wanted, f"{len(wanted)} confirmed files are exact at {name}, with inode "
                                  "numbers and times")
