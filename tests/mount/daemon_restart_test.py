"""The daemon is restarted, cleanly and by kill -9, under programs at work: a pause, no error."""

import hashlib
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, sha256_of, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402


class Program(threading.Thread):
    """Creates, writes, fsyncs, lists, reads back and renames files until told to stop."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.random = Path(directory), random.Random(seed)
        self.stopping = threading.Event()
        self.digests = {}
        self.error = None
        self.longest_s = 0.0

    def run(self):
        try:
            self.directory.mkdir()
            while not self.stopping.is_set():
                began = time.monotonic()
                self.step(len(self.digests))
                self.longest_s = max(self.longest_s, time.monotonic() - began)
        except Exception as error:  # told to the main thread
            self.error = error

    def step(self, number):
        data = self.random.randbytes(self.random.choice([100, 5000, 70_000, 400_000]))
        draft, final = self.directory / f"draft-{number}", self.directory / f"final-{number}"
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            if number % 3 == 0:
                os.fsync(file.fileno())
        os.rename(draft, final)
        self.digests[final.name] = hashlib.sha256(data).hexdigest()
        if number % 20 == 0 and set(os.listdir(self.directory)) != set(self.digests):
            raise RuntimeError("a listing differs from what was made")
        if number % 7 == 0:
            name = self.random.choice(sorted(self.digests))
            if sha256_of(self.directory / name) != self.digests[name]:
                raise RuntimeError(f"{name} reads back different")


def restart(cloud, how, pause_s):
    if how == "kill":
        cloud.kill_daemon()
    else:
        cloud.stop_daemon()
    time.sleep(pause_s)
    cloud.start_daemon()


def names_are_seen_after_a_restart(cloud, one, two, rng):
    """A mount that has its session back asks again for names that it and its kernel know."""
    for how in ("stop", "kill", "stop"):
        place = f"names {rng.randrange(1 << 30)}"
        os.mkdir(one / place)
        for name in ("new", "old", "goes"):
            (one / place / name).write_text(name)
        for name in ("new", "old", "goes"):
            (two / place / name).read_bytes()
        os.listdir(two / place)
        os.path.exists(two / place / "made")
        restart(cloud, how, 0)
        time.sleep(rng.choice([0, 0.5, 2]))
        os.rename(one / place / "new", one / place / "old")
        os.unlink(one / place / "goes")
        (one / place / "made").write_text("made")
        seen = {n: (two / place / n).read_text() if os.path.exists(two / place / n) else None
                for n in ("new", "old", "goes", "made")}
        check_equal(seen, {"new": None, "old": "new", "goes": None, "made": "made"},
                    f"names that others changed after a restart ({how}) are seen at once")
        with open(two / place / "old", "ab") as file:
            file.write(b" line")
            file.flush()
            os.fsync(file.fileno())
        check_equal((one / place / "old").read_text(), "new line", "and writing finds the new file")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        programs = [Program(mount / f"program{i}", rng.randrange(1 << 32)) for i in range(3)]
        for program in programs:
            program.start()
        for how, pause_s in [("stop", 0), ("kill", 0), ("stop", 2), ("kill", 3), ("kill", 0.5)]:
            time.sleep(1)
            before = [len(p.digests) for p in programs]
            restart(cloud, how, pause_s)
            note(f"daemon restarted ({how}, {pause_s} s without)")
            wait_for(lambda: all(len(p.digests) > b or p.error
                                 for p, b in zip(programs, before)), 30, "programs to go on")
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(30)
            check(not program.is_alive(), "the program ended")
            check(program.error is None, "the program saw no error", repr(program.error))
        note(f"{sum(len(p.digests) for p in programs)} files; longest pause "
             f"{max(p.longest_s for p in programs):.1f} s")
        mount.remount()
        for program in programs:
            seen = {n: sha256_of(program.directory / n) for n in os.listdir(program.directory)}
            check_equal(seen, program.digests, "all its files are exact after a remount")
        two = cloud.mount(name="two")
        names_are_seen_after_a_restart(cloud, mount, two, rng)
        two.unmount()
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 120)
