"""Two daemons and two mounts over three Ceph clusters that hold the data and the journal: the one that leads
is killed or stopped, and links of clusters are cut, under archives that are extracted and fsynced. Nothing
that an fsync has confirmed is lost, and no program sees an error. Three rounds, or $DATACLOUD_STANDBY_ROUNDS.
"""

import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import drop_caches, wait_for  # noqa: E402
from durable_programs import Untar, Writer, compare, moves_on  # noqa: E402
from harness import check, note  # noqa: E402
from standby_cloud import StandbyCloud  # noqa: E402

ROUNDS = 3


def kill(cloud, _):
    cloud.leading.kill()
    cloud.swap()
    cloud.find_leader()
    cloud.other.start()


def stop(cloud, _):
    """It wakes up when another one leads already."""
    cloud.leading.stop()
    cloud.swap()
    cloud.find_leader()
    cloud.other.wake()


def cut(cloud, rng):
    """One cluster is out of everybody's reach; in its absence the leader dies."""
    ceph = next(iter(cloud.sites.values())).ceph
    number = rng.randrange(3) + 1
    ceph.run("link", number, "--cut")
    try:
        time.sleep(rng.random() * 3)
        kill(cloud, rng)
    finally:
        ceph.run("link", number, "--heal")


def test(options):
    rng = random.Random(options.seed)
    rounds = int(os.environ.get("DATACLOUD_STANDBY_ROUNDS", options.rounds or ROUNDS))
    events = ([kill, stop, cut] * (rounds // 3 + 1))[:rounds]
    rng.shuffle(events)
    with StandbyCloud(None, stores=None) as cloud:
        mounts = [cloud.mount(name="mnt1"), cloud.mount(name="mnt2")]
        programs = []
        for mount in mounts:
            programs += [Untar(mount.point / f"{mount.point.name}-untar", rng.randrange(1 << 32)),
                         Writer(mount.point / f"{mount.point.name}-writer", rng.randrange(1 << 32))]
        for program in programs:
            program.directory.mkdir()
            program.start()
        for number, event in enumerate(events):
            since = {p: p.done for p in programs}
            began = time.monotonic()
            event(cloud, rng)
            moves_on(programs, event.__name__, since)
            note(f"round {number + 1}, {event.__name__}: {time.monotonic() - began:.1f} s; "
                 f"{cloud.leading.name} leads")
            cloud.wait_for_standby()
            wait_for(lambda: all(s["up"] for s in cloud.status()["sites"]), 60, "all sites to be up")
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(60)
            check(not program.is_alive() and program.error is None, "a program saw no error",
                  program.error)
        compare(programs[:2], mounts[1].point, "the other mount")
        compare(programs[2:], mounts[0].point, "the other mount")
        for mount in mounts:
            mount.unmount()
        drop_caches()
        again = cloud.mount(name="mnt3")
        compare(programs, again.point, "a new mount")
        cloud.tool("gc", "--wait")  # what a killed daemon had begun to write
        done = cloud.run_tool("fsck", "-n")
        check(done.returncode == 0, "fsck finds nothing", done.stdout + done.stderr)


if __name__ == "__main__":
    harness.main(test, 200)
