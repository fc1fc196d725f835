"""Locks of two mounts: flock, POSIX and OFD locks exclude each other's programs everywhere, end with
their program, descriptor, mount or session, and cost no request while one mount uses the file."""

import errno
import signal
import sqlite3
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from lock_actor import Actor  # noqa: E402

QUIET_S = 0.3 * SLOWNESS  # long enough to see that somebody waits


def requests(cloud, *kinds):
    seen = cloud.status()["operations"]
    return sum(seen.get(kind, 0) for kind in kinds)


class Pair:
    """A program on each mount, both with a file open."""

    def __init__(self, one, two, name):
        self.a, self.b, self.name = Actor(), Actor(), name
        self.a.do("open", "f", str(one / name))
        self.b.do("open", "f", str(two / name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.a.kill()
        self.b.kill()


def one_kind(one, two, kind):
    with Pair(one, two, f"kind-{kind}") as p:
        check_equal([p.a.do(kind, "f", "r"), p.b.do(kind, "f", "r")], [None, None],
                    f"{kind}: readers on both mounts")
        check_equal(p.b.do(kind, "f", "w"), "EAGAIN", f"{kind}: no writer beside a reader elsewhere")
        p.b.do(kind, "f", "u")
        check_equal(p.a.do(kind, "f", "w"), None, f"{kind}: the last reader becomes a writer")
        check_equal(p.b.do(kind, "f", "r"), "EAGAIN", f"{kind}: no reader beside a writer elsewhere")
        p.b.send(kind, "f", "w", *([True] if kind == "flock" else [0, 0, True]))
        check(not p.b.answered(QUIET_S), f"{kind}: a second writer waits")
        p.a.do(kind, "f", "u")
        check_equal(p.b.answer(), None, f"{kind}: and gets the lock when the first lets go")
        p.a.send(kind, "f", "w", *([True] if kind == "flock" else [0, 0, True]))
        check(not p.a.answered(QUIET_S), f"{kind}: now the other one waits")
        p.b.do("close", "f")
        check_equal(p.a.answer(), None, f"{kind}: closing the file gives the lock up")
        p.b.do("open", "f", str(two / p.name))
        p.b.send(kind, "f", "w", *([True] if kind == "flock" else [0, 0, True]))
        check(not p.b.answered(QUIET_S), f"{kind}: waits again")
        p.a.kill()
        check_equal(p.b.answer(), None, f"{kind}: kill -9 of the holder gives the lock up")


def ranges(one, two):
    with Pair(one, two, "ranges") as p:
        p.a.do("posix", "f", "w", 100, 50)
        check_equal(p.b.do("posix", "f", "w", 0, 100), None, "a range beside another's")
        check_equal(p.b.do("posix", "f", "w", 149, 1), "EAGAIN", "the last byte of another's")
        check_equal(p.b.do("test", "f", "w", 0, 0), ["w", 100, 50, p.a.pid],
                    "F_GETLK tells who is in the way on the other mount")
        p.a.do("posix", "f", "u", 120, 10)
        check_equal(p.b.do("posix", "f", "w", 120, 10), None, "a hole in the other's lock")
        check_equal(p.a.do("test", "f", "r", 120, 1), ["w", 120, 10, p.b.pid], "and back")
        check_equal(p.b.do("test", "f", "r", 200, 0)[0], "u", "nobody is in the way there")
        check_equal(p.b.do("flock", "f", "w"), None, "flock does not see POSIX locks")
        # A second descriptor of one process takes all its POSIX locks along, and no OFD lock.
        p.a.do("ofd", "f", "w", 1000, 1)
        p.a.do("open", "g", str(one / "ranges"))
        p.a.do("close", "g")
        check_equal(p.b.do("posix", "f", "w", 100, 20), None, "POSIX locks go at the first close")
        check_equal(p.b.do("posix", "f", "w", 1000, 1), "EAGAIN", "OFD locks stay")


def ofd_locks_of_one_process(one):
    actor = Actor()
    for name in "fg":
        actor.do("open", name, str(one / "ofd"))
    check_equal(actor.do("ofd", "f", "w"), None, "an OFD lock")
    check_equal(actor.do("ofd", "g", "w"), "EAGAIN", "excludes another open of the same process")
    actor.do("close", "f")
    wait_for(lambda: actor.do("ofd", "g", "w") is None, 5,
             "an OFD lock goes with its descriptor, though the kernel sends no unlock")
    actor.kill()


def waits_end(one, two):
    with Pair(one, two, "waits") as p:
        p.a.do("posix", "f", "w")
        p.b.do("alarm", QUIET_S)
        check_equal(p.b.do("posix", "f", "w", 0, 0, True), "EINTR", "a signal ends F_SETLKW")
        p.b.send("posix", "f", "w", 0, 0, True)
        check(not p.b.answered(QUIET_S), "it waits again")
        began = time.monotonic()
        p.b.kill()
        check(time.monotonic() - began < 5 * SLOWNESS, "a program that waits is killed at once")
        p.a.do("posix", "f", "u")
        wait_for(lambda: p.a.do("test", "f", "w")[0] == "u", 5, "no lock for the dead")
    with Pair(one, two, "circle") as p:
        p.a.do("posix", "f", "w", 0, 1)
        p.b.do("posix", "f", "w", 1, 1)
        p.a.send("posix", "f", "w", 1, 1, True)
        check(not p.a.answered(QUIET_S), "the first of a circle waits")
        check_equal(p.b.do("posix", "f", "w", 0, 1, True), errno.errorcode[errno.EDEADLK], "the second is told")
        p.b.do("posix", "f", "u")
        check_equal(p.a.answer(), None, "and lets the first go on")
    # Many that wait hold no thread of the mount.
    holder, many = Actor(), [Actor() for _ in range(20)]
    holder.do("open", "f", str(one / "many"))
    holder.do("flock", "f", "w")
    for actor in many:
        actor.do("open", "f", str(one / "many"))
        actor.send("flock", "f", "r", True)
    check(not any(actor.answered(0.1) for actor in many), "20 programs wait for one lock")
    (one / "other").write_bytes(b"x")
    holder.do("flock", "f", "u")
    check_equal([actor.answer() for actor in many], [None] * 20, "and all go on")
    for actor in [holder, *many]:
        actor.kill()


def counting(one, two):
    actors = [Actor() for _ in range(4)]
    for i, actor in enumerate(actors):
        actor.do("open", "f", str((one, two)[i % 2] / "counter"))
    for actor in actors:
        actor.send("count", "f", 25)
    for actor in actors:
        check_equal(actor.answer(60 * SLOWNESS), None, "25 additions under a lock")
    check_equal(actors[0].do("read", "f"), "%08d" % 100, "nothing is lost between two mounts")
    for actor in actors:
        actor.kill()


def a_dead_mount(cloud, one, two):
    with Pair(one, two, "dead") as p:
        p.a.do("flock", "f", "w")
        p.b.send("flock", "f", "w", True)
        check(not p.b.answered(QUIET_S), "a lock on the mount that will die")
        one.kill()
        check_equal(p.b.answer(30 * SLOWNESS), None, "kill -9 of a mount frees its locks")
    return cloud.mount(name="one")


def a_new_daemon(cloud, one, two):
    with Pair(one, two, "restart") as p, Pair(one, two, "alone") as q:
        p.a.do("posix", "f", "w", 0, 10)
        check_equal(p.b.do("posix", "f", "w", 0, 10), "EAGAIN", "a lock that the daemon keeps")
        q.a.do("posix", "f", "w", 0, 10)
        p.b.send("posix", "f", "w", 5, 1, True)
        check(not p.b.answered(QUIET_S), "and one that waits for it")
        cloud.kill_daemon()
        cloud.start_daemon()
        check_equal(q.b.do("posix", "f", "w", 0, 1), "EAGAIN",
                    "after a restart: a lock that one mount decided about by itself")
        check(not p.b.answered(QUIET_S), "the one that waited waits")
        p.a.do("posix", "f", "u", 0, 6)
        check_equal(p.b.answer(), None, "and gets it")


def a_lost_session(cloud, one, two):
    with Pair(one, two, "lost") as p:
        p.a.do("write", "f", "mine")
        p.a.do("posix", "f", "w")
        one.process.send_signal(signal.SIGSTOP)
        try:
            check_equal(p.b.do("posix", "f", "w", 0, 0, True, seconds=60 * SLOWNESS), None,
                        "a stopped mount loses its session, and its locks")
        finally:
            one.process.send_signal(signal.SIGCONT)
        wait_for(lambda: p.a.do("read", "f") == "EIO", 20, "who lost a lock cannot read on")
        check_equal(p.a.do("write", "f", "over"), "EIO", "nor write")
        p.a.do("close", "f")
        p.a.do("open", "f", str(one / "lost"))
        check_equal(p.a.do("read", "f"), "mine", "a new open works")
        check_equal(p.a.do("posix", "f", "w"), "EAGAIN", "and sees the other's lock")


def sqlite_alone(cloud, one):
    """Several locks for each transaction, and none of them asks the daemon. The journal is kept, so
    that its names cost nothing either."""
    base = sqlite3.connect(one / "alone.db", isolation_level=None)
    base.execute("pragma journal_mode=persist")
    base.execute("create table t(x)")
    base.execute("insert into t values(0)")
    before = requests(cloud, "lock", "lease")
    for i in range(50):
        base.execute("begin immediate")
        base.execute("insert into t values(?)", (i,))
        base.execute("commit")
    check_equal(requests(cloud, "lock", "lease") - before, 0,
                "50 transactions of sqlite on one mount ask for no lock")
    base.close()


def sqlite_on_both(one, two):
    bases = [sqlite3.connect(m / "both.db", timeout=30, isolation_level=None) for m in (one, two)]
    bases[0].execute("create table t(x)")
    for i in range(20):
        bases[i % 2].execute("insert into t values(?)", (i,))
    seen = [[row[0] for row in base.execute("select x from t order by x")] for base in bases]
    check_equal(seen, [list(range(20))] * 2, "sqlite on two mounts, in turn")
    check_equal(bases[1].execute("pragma integrity_check").fetchone()[0], "ok", "and is sound")
    for base in bases:
        base.close()


def nolock(cloud, two):
    local = cloud.mount("nolock", name="local")
    a, b, c = Actor(), Actor(), Actor()
    for actor, mount in ((a, local), (b, local), (c, two)):
        actor.do("open", "f", str(mount / "nolock"))
    a.do("posix", "f", "w")
    a.do("flock", "f", "w")
    check_equal([b.do("posix", "f", "w"), b.do("flock", "f", "w")], ["EAGAIN"] * 2,
                "-o nolock: locks hold on the mount")
    check_equal([c.do("posix", "f", "w"), c.do("flock", "f", "w")], [None] * 2, "and nowhere else")
    for actor in (a, b, c):
        actor.kill()
    local.unmount()


def test(options):
    with Cloud(daemon={"lease_ms": 4000}) as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        for kind in ("posix", "ofd", "flock"):
            one_kind(one, two, kind)
        ranges(one, two)
        ofd_locks_of_one_process(one)
        waits_end(one, two)
        counting(one, two)
        sqlite_alone(cloud, one)
        sqlite_on_both(one, two)
        nolock(cloud, two)
        a_new_daemon(cloud, one, two)
        one = a_dead_mount(cloud, one, two)
        a_lost_session(cloud, one, two)
        one.unmount()
        two.unmount()
        note("done")


if __name__ == "__main__":
    harness.main(test, 150)
