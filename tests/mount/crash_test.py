"""kill -9 of the mount, the daemon or both at random moments, at least 50 times.

After each restart: every fsynced state is there or a newer one, no block is torn, foreign or half
written, no name points at nothing. A daemon that is killed alone must not disturb programs at all.
What the dead left at the sites is collected, and nothing else is.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, drop_caches  # noqa: E402
from crash_model import DirectoryModel  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

WRITERS = 2


class CrashTest:
    def __init__(self, cloud, rng):
        self.cloud, self.rng = cloud, rng
        self.models = [DirectoryModel() for _ in range(WRITERS)]
        self.next = 1  # file ids and generations: one unbroken count
        self.mount = None
        self.records = 0

    def start_writers(self, seconds):
        self.logs = []
        writers = []
        for i, model in enumerate(self.models):
            directory = self.mount / f"writer{i}"
            directory.mkdir(exist_ok=True)
            log = self.cloud.root / f"writer{i}.oplog"
            log.write_text("")
            self.logs.append(log)
            state = {"files": model.sizes(), "next": self.next + i * 10_000_000}
            writers.append(subprocess.Popen(
                [sys.executable, "-B", SUPPORT / "crash_writer.py", directory, log,
                 str(self.rng.randrange(1 << 32)), str(seconds), json.dumps(state)]))
        self.next += WRITERS * 10_000_000
        return writers

    def learn_what_was_done(self, errors_allowed):
        for model, log in zip(self.models, self.logs):
            for line in log.read_text().splitlines():
                record = json.loads(line)
                if record["op"] == "error" and not errors_allowed:
                    check(False, "programs see no error when only the daemon is killed", record)
                model.apply(record)
                self.records += 1

    def wait_for_writers(self, writers):
        for writer in writers:
            try:
                writer.wait(60 * SLOWNESS)
            except subprocess.TimeoutExpired:
                writer.kill()
                check(False, "writers end", "one hangs")

    def verify(self):
        return sum(model.verify(self.mount / f"writer{i}") for i, model in enumerate(self.models))

    def round(self):
        victim = self.rng.choice(["mount", "mount", "daemon", "both", "both"])
        run_for = self.rng.uniform(0.05, 0.9) * min(SLOWNESS, 2)
        writers = self.start_writers(30 if victim != "daemon" else run_for + 0.3)
        time.sleep(run_for)
        if victim == "both" and self.rng.random() < 0.5:
            self.cloud.kill_daemon()
            self.mount.kill()
        elif victim == "both":
            self.mount.kill()
            self.cloud.kill_daemon()
        elif victim == "mount":
            self.mount.kill()
        else:
            self.cloud.kill_daemon()
            time.sleep(self.rng.uniform(0, 0.3))
        if victim != "mount":
            self.cloud.start_daemon()
        self.wait_for_writers(writers)
        self.learn_what_was_done(errors_allowed=victim != "daemon")
        if victim == "daemon":
            drop_caches()
        else:
            self.mount = self.cloud.mount()
        return victim, run_for, self.verify()

    def only_named_objects_remain(self):
        """After gc the sites hold exactly the objects that files' stripes name."""
        self.cloud.collect()
        named = set()
        for directory, _, files in os.walk(self.mount):
            for name in files:
                for shard in self.cloud.shards(os.path.join(directory, name)):
                    if shard["state"] in ("present", "damaged"):
                        named.add((shard["site"], shard["location"]))
        there = self.cloud.object_locations()
        check_equal(there, named, f"the sites hold exactly the {len(named)} objects that are named")


def test(options):
    rng = random.Random(options.seed)
    rounds = options.rounds or 50
    with Cloud() as cloud:
        cloud.start_daemon()
        crash = CrashTest(cloud, rng)
        crash.mount = cloud.mount()
        for number in range(1, rounds + 1):
            victim, seconds, size = crash.round()
            note(f"ok: round {number}: {victim} killed after {seconds:.2f} s, {size} bytes verified")
            if number % 10 == 0 or number == rounds:
                crash.only_named_objects_remain()
        check(crash.records > 50 * rounds, f"{crash.records} operations and fsyncs were logged")
        crash.mount.unmount()
        gone = rng.sample(cloud.names, 2)
        cloud.take_away(*gone)
        crash.mount = cloud.mount()
        check(crash.verify() >= 0, f"all exact without {gone[0]} and {gone[1]}")
        crash.mount.unmount()
        cloud.put_back(*gone)


if __name__ == "__main__":
    harness.main(test, 400)
