"""Audits flat out beside writers, folding, repair, a site that leaves and returns, and a daemon that
is killed: no false alarm. Seconds long; DATACLOUD_SOAK_SECONDS=3600 for the hour, and
DATACLOUD_SOAK_CODE for another code, such as basic-4-8 or msr-5-3."""

import contextlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

SECONDS = float(os.environ.get("DATACLOUD_SOAK_SECONDS", "25"))
CODE = os.environ.get("DATACLOUD_SOAK_CODE", "rs-3-2")


def columns_of(code):
    kind, first, second = code.split("-")
    return {"rs": int(first) + int(second), "basic": int(second), "msr": int(first)}[kind]


class Workers:
    """Threads that run a step again and again until told to stop; their failures are the test's."""

    def __init__(self):
        self.stop, self.failures, self.threads = threading.Event(), [], []

    def start(self, step, *arguments):
        def loop():
            while not self.stop.is_set():
                try:
                    step(*arguments)
                except Exception as failure:  # noqa: BLE001: told by the test
                    self.failures.append(f"{step.__name__}: {failure!r}")
                    self.stop.set()

        self.threads.append(threading.Thread(target=loop, daemon=True))
        self.threads[-1].start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


class Soak:
    def __init__(self, cloud, mount, rng):
        self.cloud, self.mount, self.rng = cloud, mount, rng
        self.audits, self.shards, self.silent = 0, 0, 0
        self.alarms = []
        # Commands run side by side; the daemon is killed while none does.
        self.talking, self.silenced, self.changed = 0, False, threading.Condition()

    @contextlib.contextmanager
    def talk(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.silenced)
            self.talking += 1
        try:
            yield
        finally:
            with self.changed:
                self.talking -= 1
                self.changed.notify_all()

    @contextlib.contextmanager
    def silence(self):
        with self.changed:
            self.silenced = True
            self.changed.wait_for(lambda: self.talking == 0)
        try:
            yield
        finally:
            with self.changed:
                self.silenced = False
                self.changed.notify_all()

    def write(self, number):
        rng = random.Random(self.rng.random())
        path = self.mount / f"work{number}" / f"file{rng.randrange(6)}"
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab+", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
        with open(path, "r+b", buffering=0) as file:
            for _ in range(rng.randrange(1, 20)):
                file.seek(rng.randrange(max(1, min(size, 4 << 20))))
                file.write(rng.randbytes(rng.choice([100, 4096, 65536, 300_000])))
            if rng.random() < 0.5:
                os.fsync(file.fileno())
        if rng.random() < 0.1:
            path.unlink()

    def audit(self):
        with self.talk():
            done = self.cloud.run_tool("audit", "--json", seconds=300)
        if done.returncode != 0:
            raise RuntimeError(done.stdout[-500:] + done.stderr)
        report = json.loads(done.stdout)
        self.audits += 1
        self.shards += report["shards_checked"]
        for bad in report["bad"]:
            if bad["reason"] == "silent":
                self.silent += 1
            else:
                self.alarms.append(bad)
        self.alarms += report["doubts"]
        if self.alarms:
            raise RuntimeError(f"false alarm: {self.alarms[:3]}")

    def work(self, *command):
        with self.talk():
            done = self.cloud.run_tool(*command, seconds=300)
        if done.returncode not in (0, 1):  # 1: something could not be done while a site is away
            raise RuntimeError(f"{command}: {done.stderr}")
        time.sleep(self.rng.random())


def test(options):
    rng = random.Random(options.seed)
    with Cloud(columns_of(CODE), CODE, daemon={"audit_cycle_ms": 2000}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        soak, workers = Soak(cloud, mount, rng), Workers()
        for number in range(2):
            workers.start(soak.write, number)
        workers.start(soak.audit)
        workers.start(soak.work, "fold", "--wait")
        workers.start(soak.work, "repair")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not workers.stop.is_set():
            time.sleep(rng.uniform(1, 3))
            if rng.random() < 0.5:
                name = rng.choice(cloud.names)
                cloud.take_away(name)
                time.sleep(rng.uniform(0.5, 3))
                cloud.put_back_and_wait(name)
            else:
                with soak.silence():
                    cloud.kill_daemon()
                    cloud.start_daemon()
        workers.end()
        check_equal(workers.failures, [], "nobody failed")
        note(f"{soak.audits} audits of {soak.shards} shards; {soak.silent} times a site did not answer")
        check(soak.audits >= 3 and soak.shards > 50, "audits went on all the time")
        trees.fsync_path(mount.point)
        cloud.tool("repair", "--wait", seconds=120)
        last = json.loads(cloud.tool("audit", "--json", seconds=120))
        check_equal((last["bad"], last["doubts"]), ([], []), "and in the end everything is proven")
        status = cloud.status()
        counts = [(s["site"], s["missing"], s["corrupt"], s["stale"]) for s in status["audit"]["sites"]]
        check_equal(counts, [(s["site"], 0, 0, 0) for s in status["audit"]["sites"]],
                    "nor did the continuous audit find anything")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, SECONDS + 240)
