"""One writing program for the crash test; see crash_model.py for what it writes.

crash_writer.py DIRECTORY LOG SEED SECONDS STATE: random operations on a few files in DIRECTORY for
SECONDS, then fsync of everything. LOG (on the local disk) gets each operation before it is done
and each fsync after it returned. STATE: JSON of the files as they are, and the next free numbers.
Ends with status 3 after an error, which is in the log.
"""

import json
import os
import random
import sys
import time

from crash_model import SECTOR, make_sectors

SECTORS_MAX = 2048


class Writer:
    def __init__(self, directory, log, seed, state):
        self.directory = directory
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.random = random.Random(seed)
        self.files = {n: list(v) for n, v in state["files"].items()}  # name: [id, sectors]
        self.next = state["next"]
        self.open = {}
        self.names = [f"file{i}" for i in range(5)]

    def record(self, op, **fields):
        os.write(self.log, (json.dumps({"op": op, **fields}) + "\n").encode())

    def number(self):
        self.next += 1
        return self.next

    def path(self, name):
        return os.path.join(self.directory, name)

    def descriptor(self, name):
        if name not in self.open:
            self.open[name] = os.open(self.path(name), os.O_RDWR)
        return self.open[name]

    def close(self, name):
        if name in self.open:
            os.close(self.open.pop(name))

    def create(self, name):
        file_id = self.number()
        self.record("create", name=name, file=file_id)
        self.open[name] = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.files[name] = [file_id, 0]
        return file_id

    def write(self, name, first, count):
        file_id, size = self.files[name]
        count = min(count, SECTORS_MAX - first)
        if count <= 0:
            return
        generation = self.number()
        data = make_sectors(file_id, first, count, generation)
        self.record("write", file=file_id, first=first, count=count, generation=generation)
        done = os.pwrite(self.descriptor(name), data, first * SECTOR)
        if done != len(data):
            raise OSError(0, f"short write of {done}")
        self.files[name][1] = max(size, first + count)

    def truncate(self, name, sectors):
        self.record("truncate", file=self.files[name][0], sectors=sectors)
        os.ftruncate(self.descriptor(name), sectors * SECTOR)
        self.files[name][1] = sectors

    def sync(self, name):
        (os.fsync if self.random.random() < 0.7 else os.fdatasync)(self.descriptor(name))
        self.record("synced", file=self.files[name][0])

    def sync_names(self):
        fd = os.open(self.directory, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.record("names synced")

    def replace(self, name):
        self.close("new")
        self.create("new")
        self.write("new", 0, self.random.choice([1, 8, 100, 128, 129, 400]))
        if self.random.random() < 0.5:
            self.sync("new")
        self.close(name)
        self.close("new")
        file_id, sectors = self.files.pop("new")
        self.record("replace", name=name, file=file_id, **{"from": "new"})
        os.rename(self.path("new"), self.path(name))
        self.files[name] = [file_id, sectors]

    def unlink(self, name):
        self.close(name)
        self.record("unlink", name=name)
        os.unlink(self.path(name))
        del self.files[name]
        if self.random.random() < 0.5:
            self.sync_names()

    def step(self):
        rng = self.random
        name = rng.choice(self.names)
        if name not in self.files:
            self.create(name)
        size = self.files[name][1]
        dice = rng.random()
        if dice < 0.38:
            self.write(name, rng.randrange(size + 1), rng.choice([1, 2, 8, 8, 32, 64, 128, 500]))
        elif dice < 0.55:
            self.write(name, size, rng.choice([1, 3, 8, 128, 300]))
        elif dice < 0.60:
            self.write(name, rng.randrange(SECTORS_MAX), rng.choice([1, 8, 200]))  # may leave a hole
        elif dice < 0.68:
            self.truncate(name, rng.randrange(min(SECTORS_MAX, size + 200)))
        elif dice < 0.86:
            self.sync(name)
        elif dice < 0.92:
            self.replace(name)
        elif dice < 0.95:
            self.unlink(name)
        elif dice < 0.97:
            self.sync_names()
        elif name in self.open:
            self.close(name)

    def finish(self):
        for name in list(self.files):
            self.sync(name)
        self.sync_names()


def main():
    directory, log, seed, seconds, state = sys.argv[1:]
    writer = Writer(directory, log, int(seed), json.loads(state))
    end = time.monotonic() + float(seconds)
    try:
        if os.path.exists(writer.path("new")) and "new" in writer.files:
            writer.unlink("new")
        while time.monotonic() < end:
            writer.step()
        writer.finish()
    except OSError as error:
        writer.record("error", text=str(error))
        os._exit(3)


if __name__ == "__main__":
    main()
