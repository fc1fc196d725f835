"""Mounts near and afar lose their daemon in every way that there is, for shorter and for longer than
their leases. Programs wait and see no error, and both mounts together stay one file system: one by
one, and then at random against a directory of the local disk (--rounds for more)."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud, tail, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402
from node_network import NodeNetwork  # noqa: E402
from nodes_test import Node, free_port, invite, listen_on  # noqa: E402
from outage_model import Model  # noqa: E402

LEASE_MS = 2000
LEASE_S = LEASE_MS / 1000
LONG_S = 1.75 * LEASE_S  # a tenth more, and the daemon looks once a second


class Program(threading.Thread):
    """Makes, writes, renames and removes; whatever it is told must be true, and no error is."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.random = Path(directory), random.Random(seed)
        self.stopping, self.error, self.steps, self.longest_s = threading.Event(), None, 0, 0.0
        self.files = {}

    def run(self):
        try:
            self.directory.mkdir()
            while not self.stopping.is_set():
                began = time.monotonic()
                self.step()
                self.steps += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)
        except Exception as error:  # told to the main thread
            self.error = error

    def step(self):
        rng, name = self.random, f"f{self.random.randrange(5)}"
        path, made = self.directory / name, self.directory / f"d{self.steps}"
        data = rng.randbytes(rng.choice([10, 5000, 70_000]))
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            if rng.random() < 0.3:
                os.fsync(file.fileno())
        self.files[name] = data
        os.mkdir(made)
        os.rmdir(made)
        other = f"g{rng.randrange(5)}"
        os.rename(path, self.directory / other)
        self.files[other] = self.files.pop(name)
        os.link(self.directory / other, self.directory / name)
        self.files[name] = data
        os.unlink(self.directory / other)
        del self.files[other]
        os.setxattr(path, "user.step", b"%d" % self.steps, os.XATTR_CREATE)
        os.removexattr(path, "user.step")
        if path.read_bytes() != data:
            raise RuntimeError(f"{name} reads back different")
        if set(os.listdir(self.directory)) != set(self.files):
            raise RuntimeError("a listing differs from what was made")

    def finish(self, what):
        self.stopping.set()
        self.join(60 * SLOWNESS)
        check(not self.is_alive() and self.error is None, f"no program saw an error: {what}",
              repr(self.error))
        return {name: data for name, data in self.files.items()}


class Rig:
    """A mount on the daemon's machine and one behind a cable."""

    def __init__(self, cloud, network):
        self.cloud, self.network = cloud, network
        self.node = Node(cloud, network, "far")
        check_equal(self.node.join(invite(cloud, "far", "mount")).returncode, 0, "the node joins")
        self.slept, self.slept_ns = cloud.root / "suspended", 0
        self.slept.write_bytes(bytes(8))
        os.environ.update(LD_PRELOAD=str(BUILD / "tests" / "suspended_clock.so"),
                          DATACLOUD_SUSPENDED=str(self.slept))
        self.far = self.node.mount()
        del os.environ["LD_PRELOAD"], os.environ["DATACLOUD_SUSPENDED"]
        self.near = cloud.mount(name="near")

    def sleep(self, seconds):
        """The far mount's monotonic clock falls behind, as if its machine had been suspended."""
        self.slept_ns += int(seconds * 1e9)
        with open(self.slept, "r+b") as file:
            file.write(self.slept_ns.to_bytes(8, sys.byteorder))

    def process(self, mount):
        return self.node.process if mount == self.far else self.near.process

    def session(self, far):
        for row in self.cloud.status()["mounts"]:
            if bool(row["node"]) == far:
                return row["session"], row["address"]
        return None, None

    def restart_daemon(self, pause_s=0.0):
        self.cloud.kill_daemon()
        time.sleep(pause_s)
        self.cloud.start_daemon()


def outage(rig, program, what, begin, end, seconds):
    """The program goes on afterwards, by itself."""
    wait_for(lambda: program.steps > 3 or program.error, 30, "the program to work")
    begin()
    time.sleep(seconds)
    end()
    before = program.steps
    wait_for(lambda: program.steps > before + 3 or program.error, 25,
             f"the program to go on after {what}")
    check(program.error is None, f"no error: {what}", repr(program.error))


def one_by_one(rig, rng):
    network, near, far = rig.network, rig.near.point, rig.far
    program = Program(far / "work", rng.randrange(1 << 32))
    program.start()
    first, _ = rig.session(True)
    outage(rig, program, "a short cut of the cable", network.cut, network.mend, 0.4 * LEASE_S)
    outage(rig, program, "a change of address", rig.network.change_address, lambda: None, 0)
    session, address = rig.session(True)
    check(address.startswith(rig.network.there + ":"), "it came from its new address", address)
    note(f"session {first} before, {session} now")
    outage(rig, program, "a cut for longer than the lease", network.cut, network.mend, LONG_S)
    later, _ = rig.session(True)
    check(later != session, "it has another session")
    stop = rig.node.process.send_signal
    outage(rig, program, "SIGSTOP for longer than the lease", lambda: stop(signal.SIGSTOP),
           lambda: stop(signal.SIGCONT), LONG_S)

    def half_open():  # the daemon's end is gone, and the mount does not hear of it
        network.cut()
        rig.restart_daemon()

    outage(rig, program, "a half-open connection", half_open, network.mend, LONG_S)
    outage(rig, program, "the daemon killed", rig.cloud.kill_daemon, rig.cloud.start_daemon, 0.3)
    outage(rig, program, "the daemon away for longer than the lease", rig.cloud.kill_daemon,
           rig.cloud.start_daemon, LONG_S)
    expected = program.finish("cable, address, SIGSTOP, half-open, daemon")
    seen = {name: (near / "work" / name).read_bytes() for name in os.listdir(near / "work")}
    check_equal(seen, expected, "the other mount sees all that it was told")
    check(program.longest_s < 25 * SLOWNESS, f"the longest pause was {program.longest_s:.1f} s")


def killed_behind_a_cut_cable(rig):
    """kill -9 of a mount whose machine cannot tell: the daemon holds a half-open connection."""
    held = rig.far / "held"
    held.write_bytes(b"of the dead")
    with open(held, "r+b", buffering=0) as file:
        os.fsync(file.fileno())
        file.write(b"dirty")
        rig.network.cut()
        rig.node.process.kill()
        rig.node.process.wait()
        began = time.monotonic()
        (rig.near / "held").write_bytes(b"mine")
        seconds = time.monotonic() - began
        try:
            file.close()
        except OSError:
            pass
    check(seconds < 10 * SLOWNESS, f"a dead mount afar is waited for as long as its lease: {seconds:.1f} s")
    subprocess.run(["umount", "-l", rig.far], check=False)
    rig.network.mend()
    rig.far = rig.node.mount()
    check_equal(held.read_bytes(), b"mine", "a new mount sees what was written meanwhile")
    (rig.near / "held2").write_bytes(b"of the dead")
    rig.near.kill()
    began = time.monotonic()
    (rig.far / "held2").write_bytes(b"mine")
    check(time.monotonic() - began < 10 * SLOWNESS, "and one beside the daemon not longer")
    rig.near = rig.cloud.mount(name="near")


def reads_under_its_lease(rig):
    """Cut off, a mount reads what it holds a lease on, waits when that has ended, and is right."""
    (rig.near / "read").write_bytes(b"one" * 5000)
    with open(rig.far / "read", "rb", buffering=0) as file:
        file.read()
        time.sleep(0.2)
        rig.network.cut()
        began = time.monotonic()
        check_equal(os.pread(file.fileno(), 3, 0), b"one", "a mount that is cut off reads")
        check(time.monotonic() - began < 0.5 * LEASE_S * SLOWNESS, "at once, under its lease")
        mender = threading.Timer(LONG_S + 1, rig.network.mend)
        mender.start()
        with open(rig.near / "read", "r+b") as other:
            other.write(b"two" * 5000)  # waits for the lease to end
        waited = time.monotonic() - began
        seen = os.pread(file.fileno(), 3, 0)
        mender.join()
        check_equal(seen, b"two", f"after the lease ({waited:.1f} s) it waits for what is true")


def suspended_machine(rig):
    """By its monotonic clock, which has stood still, all leases hold. Others have gone on."""
    process = rig.node.process
    (rig.near / "held").write_bytes(b"one" * 5000)
    (rig.near / "early").write_bytes(b"")
    (rig.far / "held").read_bytes()
    os.stat(rig.far / "early"), os.listdir(rig.far)
    rig.network.cut()  # so that nothing but its own clocks can tell
    process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    (rig.near / "held").write_bytes(b"two" * 5000)  # waits for the lease to end
    os.rename(rig.near / "early", rig.near / "late")
    check(time.monotonic() - began > 0.5 * LEASE_S, "others wait for the leases of who is suspended")
    rig.sleep(time.monotonic() - began)
    process.send_signal(signal.SIGCONT)
    mender = threading.Timer(0.5 * LEASE_S, rig.network.mend)
    mender.start()
    seen = (rig.far / "held").read_bytes()
    mender.join()
    check_equal(seen, b"two" * 5000, "awake, it reads what is true, as soon as it can")
    check_equal(((rig.far / "early").exists(), (rig.far / "late").exists()), (False, True),
                "and sees the names of now")
    with open(rig.far / "unsynced", "wb", buffering=0) as file, \
            open(rig.far / "overtaken", "wb", buffering=0) as loser:
        for each in (file, loser):
            os.write(each.fileno(), b"first" * 1000)
            os.fsync(each.fileno())
            os.pwrite(each.fileno(), b"later" * 1000, 0)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        (rig.near / "overtaken").write_bytes(b"other")
        rig.sleep(time.monotonic() - began)
        process.send_signal(signal.SIGCONT)
        os.fsync(file.fileno())
        check_equal((rig.near / "unsynced").read_bytes(), b"later" * 1000,
                    "what it had not stored is kept where nobody has changed the file")
        expect_errno(errno.EIO, "and told to be lost where somebody has", os.fsync, loser.fileno())
        os.fsync(loser.fileno())
        check_equal(os.stat(loser.fileno()).st_size, 5, "once; the file is as the other has left it")


def silent_holders_are_waited_for_once(rig):
    """Both kinds of mounts: all that a silent one holds is freed at once."""
    for holder, other in ((rig.far, rig.near.point), (rig.near.point, rig.far)):
        names = [f"silent{i}" for i in range(30)]
        for name in names:
            (other / name).write_bytes(b"x")
            (holder / name).read_bytes()
        os.stat(other / names[0])
        process = rig.process(holder) if holder == rig.far else rig.near.process
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for name in names:
            (other / name).unlink()
        seconds = time.monotonic() - began
        process.send_signal(signal.SIGCONT)
        check(seconds < 5 * LEASE_S * SLOWNESS + 2,
              f"30 files held by a silent mount are waited for once: {seconds:.1f} s")
        wait_for(lambda: not any((holder / name).exists() for name in names), 20,
                 "it to go on with what is true")


def lost_tail(rig, rng):
    """The daemon's machine fails: what was answered in the last moment is gone from its disk, and
    the mounts make it again. Whether the moment was short enough is seen by their sessions."""
    cloud, state, copy = rig.cloud, rig.cloud.root / "state", rig.cloud.root / "copy"
    for attempt in range(10):
        place = f"tail{attempt}"
        # Each in a directory of its own: what one mount shows the other is made durable at once.
        for mount, who in ((rig.far, "far"), (rig.near.point, "near")):
            os.mkdir(mount / f"{place}-{who}")
            (mount / f"{place}-{who}" / "first").write_bytes(b"1" * 70_000)
        os.listdir(rig.far), os.listdir(rig.near)
        time.sleep(1.2)
        sessions = [rig.session(True)[0], rig.session(False)[0]]
        shutil.copytree(state, copy)  # everything is durable, and nothing is going on
        content = {}
        for mount, who in ((rig.far, "far"), (rig.near.point, "near")):
            own = mount / f"{place}-{who}"
            for i in range(4):
                content[f"{place}-{who}/{i}"] = data = rng.randbytes(rng.choice([10, 70_000]))
                (own / f"draft{i}").write_bytes(data)
                os.rename(own / f"draft{i}", own / f"{i}")
        open_file = os.open(rig.far / f"{place}-far" / "0", os.O_RDWR)
        number = os.fstat(open_file).st_ino
        time.sleep(0.1)  # the data are committed 20 ms after the close
        cloud.kill_daemon()
        shutil.rmtree(state)
        os.rename(copy, state)
        cloud.start_daemon()
        wait_for(lambda: all(row["connected"] for row in cloud.status()["mounts"]), 20, "the mounts")
        if [rig.session(True)[0], rig.session(False)[0]] != sessions:
            note("the records had been made durable meanwhile: once more")
            try:
                os.close(open_file)
            except OSError:
                pass  # it has lost its data, and says so
            continue
        os.pwrite(open_file, b"more", 0)
        os.fsync(open_file)
        content[f"{place}-far/0"] = b"more" + content[f"{place}-far/0"][4:]
        check_equal(os.fstat(open_file).st_ino, number, "an open file is the same file")
        os.close(open_file)
        for mount in (rig.near.point, rig.far):
            seen = {name: (mount / name).read_bytes() for name in content}
            check(seen == content, "what the power cut took is there again")
            for who in ("far", "near"):
                check_equal(set(os.listdir(mount / f"{place}-{who}")), {"first", *"0123"}, "and no more")
        check_equal((rig.near / f"{place}-far" / "0").stat().st_ino, number,
                    "inodes have the numbers that they had")
        return
    raise harness.CheckFailed("no attempt was quick enough")


def mishaps(rig, model):
    """Name: (which mount is in trouble, begin, end)."""
    def kill(far):
        def begin():
            model.sync(far)
            process = rig.node.process if far else rig.near.process
            process.kill()
            process.wait()
            subprocess.run(["umount", "-l", rig.far if far else rig.near.point], check=False)
            if far:
                rig.far = rig.node.mount()
            else:
                rig.near = rig.cloud.mount(name="near")
        return begin

    def signals(far, number):
        return lambda: (rig.node.process if far else rig.near.process).send_signal(number)

    def cut_and_restart():
        rig.network.cut()
        rig.restart_daemon()

    nothing = lambda: None  # noqa: E731
    return {
        "cable cut": (True, rig.network.cut, rig.network.mend),
        "half-open": (True, cut_and_restart, rig.network.mend),
        "far stopped": (True, signals(True, signal.SIGSTOP), signals(True, signal.SIGCONT)),
        "near stopped": (False, signals(False, signal.SIGSTOP), signals(False, signal.SIGCONT)),
        "far killed": (None, kill(True), nothing),
        "near killed": (None, kill(False), nothing),
        "address": (True, rig.network.change_address, nothing),
        "daemon killed": (None, rig.restart_daemon, nothing),
        "nothing": (None, nothing, nothing),
    }


def at_random(rig, rng, rounds):
    local = rig.cloud.root / "local"
    model = Model(rig, local, rng)
    steps = 0
    for number in range(rounds):
        name, (away, begin, end) = rng.choice(list(mishaps(rig, model).items()))
        seconds = rng.choice([0.1, 0.5 * LEASE_S, 1.2 * LEASE_S, LONG_S]) if end else 0
        model.history.append((f"round {number}", name, seconds))
        for _ in range(rng.randrange(15)):
            model.step()
        model.away = away
        begin()
        ending = threading.Timer(seconds, end)
        ending.start()
        for _ in range(rng.randrange(5, 25)):
            model.step()
            steps += 1
        ending.join()
        # Until it has its leases again what it has not synced may be behind.
        root = model.root(away) if away is not None else model.root(True)
        os.listdir(root)
        if away is not None:
            model.sync(away)
        model.away = None
        if number % 3 == 2:
            model.compare()
    model.compare()
    note(f"ok: {steps} operations during {rounds} mishaps, as on one local disk")


def test(options):
    rng = random.Random(options.seed)
    with NodeNetwork() as network, Cloud(daemon={"lease_ms": LEASE_MS}) as cloud:
        listen_on(cloud, f"tls://{network.here}:{free_port()}")
        cloud.start_daemon()
        rig = Rig(cloud, network)
        if not options.rounds:
            one_by_one(rig, rng)
            killed_behind_a_cut_cable(rig)
            reads_under_its_lease(rig)
            suspended_machine(rig)
            silent_holders_are_waited_for_once(rig)
            lost_tail(rig, rng)
        try:
            at_random(rig, rng, options.rounds or 12)
        except Exception:
            print(f"--- the far mount\n{tail(rig.node.log, 30)}", file=sys.stderr)
            raise
        rig.node.unmount()
        rig.near.unmount()
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")


if __name__ == "__main__":
    harness.main(test, 300)
