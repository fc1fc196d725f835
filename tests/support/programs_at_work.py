"""Programs that write and read files under a mount while something happens to it."""

import hashlib
import os
import random
import threading
import time
from pathlib import Path


class AtWork:
    """Writers, each operation with an fsync, and readers that ask the sites again and again."""

    def __init__(self, directory, seed, writers=2, readers=2):
        self.directory = Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.digests = {}     # of what an fsync made durable
        self.operations = []  # (kind, began, seconds, error or None)
        self.threads = [threading.Thread(target=self._loop, args=(body, seed * 100 + i, i),
                                         daemon=True)
                        for i, body in enumerate([self._write] * writers + [self._read] * readers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)

    def hanging(self):
        return [t for t in self.threads if t.is_alive()]

    def since(self, moment, kind=None):
        """Operations that ended after a moment of time.monotonic()."""
        with self.lock:
            return [o for o in self.operations
                    if o[1] + o[2] >= moment and kind in (None, o[0])]

    def _loop(self, body, seed, number):
        rng, count = random.Random(seed), 0
        while not self.stopping.is_set():
            began, error = time.monotonic(), None
            try:
                kind = body(rng, f"{number}-{count}")
            except OSError as failure:
                kind, error = body.__name__.strip("_"), f"{failure}"
            count += 1
            with self.lock:
                self.operations.append((kind, began, time.monotonic() - began, error))
            # Work to be seen through, not a load: what was written is compared at the end.
            time.sleep(0.05)

    def _write(self, rng, name):
        data = rng.randbytes(rng.choice([3000, 40_000, 300_000, 1_500_000]))
        with open(self.directory / name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with self.lock:
            self.digests[name] = hashlib.sha256(data).hexdigest()
        return "write"

    def _read(self, rng, _):
        with self.lock:
            names = list(self.digests)
        if not names:
            return "wait"
        name = rng.choice(names)
        digest = hashlib.sha256()
        with open(self.directory / name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while data := file.read(1 << 20):
                digest.update(data)
        if digest.hexdigest() != self.digests[name]:
            raise OSError(f"{name} reads back different")
        return "read"
