"""Two daemons, and programs at work on two mounts: the one that leads is killed, stopped, cut off, ended
and replaced by command, again and again. Programs see pauses and no error; what an fsync has confirmed
is there, with its inode number and times; a daemon that wakes up too late answers nobody. At last, a
mount that knows nothing but a dead daemon's address finds the other one by what the sites say.
"""

import random
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import drop_caches, wait_for  # noqa: E402
from durable_programs import Untar, Writer, compare, moves_on  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from standby_cloud import StandbyCloud  # noqa: E402
from switch_network import Switch  # noqa: E402

ROUNDS = 18
SETTLE_S = 0.7  # between rounds: mounts send again what the last leader may have lost


def leads_now(cloud, what):
    def led():
        told = cloud.leader()
        return told and any(d["leads"] and d["name"] == cloud.leading.name
                            for d in told["daemons"])
    wait_for(led, 60, f"{cloud.leading.name} to lead after {what}")


def kill(cloud, rng):
    cloud.leading.kill()
    cloud.swap()
    if rng.random() < 0.5:
        leads_now(cloud, "a kill")
    cloud.other.start()  # perhaps before the standby has noticed: it stands by all the same


def kill_both(cloud, rng):
    for daemon in rng.sample([cloud.leading, cloud.other], 2):
        daemon.kill()
    for daemon in rng.sample([cloud.leading, cloud.other], 2):
        daemon.start()
    cloud.find_leader()


def end(cloud, rng):
    cloud.leading.end()
    cloud.swap()
    leads_now(cloud, "an end")
    cloud.other.start()


def stop(cloud, rng):
    """It wakes up when another one leads already."""
    cloud.leading.stop()
    cloud.swap()
    leads_now(cloud, "a stop")
    time.sleep(rng.random() / 2)
    cloud.other.wake()


def pause(cloud, rng):
    """It wakes up about when it is taken for dead: whoever leads then, programs go on."""
    cloud.leading.stop()
    time.sleep(0.3 + 2 * rng.random())
    cloud.leading.wake()
    cloud.find_leader()


def cut(cloud, rng):
    """It reaches the sites, and nobody reaches it: it leads on, and the cable is mended."""
    machine = cloud.leading.machine
    machine.cut()
    time.sleep(0.5 + 1.5 * rng.random())
    machine.mend()
    cloud.find_leader()


def cut_sites(cloud, rng):
    """Mounts reach it, and it reaches no site: it answers nobody, and the other one leads."""
    cloud.leading.cut_from_sites()
    cloud.swap()
    leads_now(cloud, "a cut from the sites")
    mounts = [node.point for node in cloud.nodes]
    for i, (one, two) in enumerate([mounts, mounts[::-1]]):
        text = f"{rng.random()}"
        (one / f"seen{i}").write_text(text)
        check_equal((two / f"seen{i}").read_text(), text, "what one mount wrote the other one reads")
    cloud.other.mend_sites()


def move(cloud, rng):
    began = time.monotonic()
    cloud.tool("leader", "move", cloud.other.name)
    cloud.swap()
    note(f"leader move took {time.monotonic() - began:.2f} s")


def standby_goes(cloud, rng):
    cloud.other.kill()
    time.sleep(rng.random())
    cloud.other.start()


EVENTS = [kill, stop, end, move, cut, cut_sites, pause, standby_goes, kill_both]


def knows_only_the_dead(cloud, node, expected):
    """The other daemon leads, and the mount has never heard of it."""
    known = node.directory / "test.daemons"
    check(known.exists(), "a node keeps what it was told of the daemons")
    check_equal(known.stat().st_mode & 0o777, 0o600, "for itself alone")
    dead = f"tls://{cloud.other.machine.there}:7411"
    text = known.read_text()
    known.write_text(text.split("[[daemon]]")[0] + f'[[daemon]]\nname = "{cloud.other.name}"\n'
                     f'leads = true\naddresses = ["{dead}"]\n')
    config = node.config.read_text()
    node.config.write_text(re.sub(r"\ndaemon = \[.*\]", f'\ndaemon = ["{dead}"]', config))
    cloud.other.kill()
    began = time.monotonic()
    point = node.mount()
    note(f"mounted by what the sites say in {time.monotonic() - began:.1f} s")
    check_equal((point / "last").read_text(), expected, "the cloud is there")
    wait_for(lambda: cloud.leading.machine.there in known.read_text(), 20,
             "the node to keep where the leader is")
    node.unmount()


def test(options):
    rng = random.Random(options.seed)
    with Switch(4) as switch, StandbyCloud(switch, nodes=2) as cloud:
        one, two = (node.mount() for node in cloud.nodes)
        programs = [Writer(one / "writer", rng.randrange(1 << 32)),
                    Untar(one / "untar", rng.randrange(1 << 32)),
                    Writer(two / "writer2", rng.randrange(1 << 32))]
        for program in programs:
            program.directory.mkdir()
            program.start()
        rounds = options.rounds or ROUNDS
        events = (EVENTS * (rounds // len(EVENTS) + 1))[:rounds]
        rng.shuffle(events)
        for number, event in enumerate(events):
            since = {p: p.done for p in programs}
            for program in programs:
                program.longest_s = 0.0
            began = time.monotonic()
            event(cloud, rng)
            moves_on(programs, event.__name__, since)
            pauses = ", ".join(f"{p.longest_s:.1f}" for p in programs)
            note(f"round {number + 1}, {event.__name__}: longest pauses {pauses} s; "
                 f"{time.monotonic() - began:.1f} s in all; {cloud.leading.name} leads")
            cloud.wait_for_standby()
            time.sleep(SETTLE_S)
        for program in programs:
            program.stopping.set()
        for program in programs:
            program.join(60)
            check(not program.is_alive() and program.error is None, "a program saw no error",
                  program.error)
        (two / "last").write_text("the end")
        compare(programs, one, "one mount")
        for node in cloud.nodes:
            node.unmount()
        drop_caches()
        cloud.nodes[1].mount()
        compare(programs, two, "a new mount of the other node")
        cloud.nodes[1].unmount()
        knows_only_the_dead(cloud, cloud.nodes[1], "the end")
        cloud.other.start()
        cloud.wait_for_standby()
        done = cloud.run_tool("fsck", "-n")
        check(done.returncode == 0, "fsck finds nothing", done.stdout + done.stderr)
        problems = cloud.status()["problems"]
        check(not any("has gone back" in str(p) or "put back" in str(p) for p in problems),
              "no mount was ever told of what was not there", problems)


if __name__ == "__main__":
    harness.main(test, 200)
