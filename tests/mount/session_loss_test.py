"""A mount loses its session with unwritten data: paused, with the daemon away, with restored records.
What nobody else has changed is kept; the rest reads as committed, and is told once and counted."""

import errno
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

LEASE_MS = 2000
PAGE = 4096


class Status:
    """Asks for the status from a shell without open files of ours: a child would close them at exec,
    and that waits for an answer of the stopped mount."""

    def __init__(self, cloud):
        self.command = f"'{BUILD}/bin/datacloud' --config '{cloud.config}' status --json; echo; echo END\n"
        self.shell = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True)

    def __call__(self):
        self.shell.stdin.write(self.command)
        self.shell.stdin.flush()
        lines = list(iter(self.shell.stdout.readline, "END\n"))
        return json.loads("".join(lines))


def session_of(cloud, mount):
    """The number of the mount's session; None when the daemon has ended it."""
    for row in cloud.ask()["mounts"]:
        if row["pid"] == mount.process.pid:
            return row["session"]
    return None


class Paused:
    """The mount process is stopped until its session has ended."""

    def __init__(self, cloud, mount):
        self.cloud, self.mount = cloud, mount

    def __enter__(self):
        os.kill(self.mount.process.pid, signal.SIGSTOP)
        wait_for(lambda: session_of(self.cloud, self.mount) is None, 60, "the session to end")

    def __exit__(self, *_):
        os.kill(self.mount.process.pid, signal.SIGCONT)


def half_written(mount, name, rng):
    """An open file with a synced and an unsynced part."""
    file = os.open(mount / name, os.O_RDWR | os.O_CREAT)
    synced, unsynced = rng.randbytes(100_000), rng.randbytes(150_000)
    os.pwrite(file, synced, 0)
    os.fsync(file)
    os.pwrite(file, unsynced, len(synced))
    return file, synced, synced + unsynced


def expect_kept(file, expected, what):
    os.fsync(file)
    size = os.fstat(file).st_size
    check((size, os.pread(file, len(expected) + 1, 0)) == (len(expected), expected),
          f"kept: {what}", f"{size} bytes of {len(expected)}")


def fails_with(call, *arguments):
    try:
        call(*arguments)
        return 0
    except OSError as error:
        return error.errno


def expect_lost(file, committed, what):
    """EIO once, and the file is as committed."""
    told = [fails_with(os.fsync, file) for _ in range(3)]
    check_equal(told, [errno.EIO, 0, 0], f"told once: {what}")
    check(os.pread(file, 1 << 20, 0) == committed, f"reads as committed: {what}")
    check_equal(os.fstat(file).st_size, len(committed), f"its size is the committed one: {what}")


def losses(cloud, mount):
    for row in cloud.ask()["mounts"]:
        if row["pid"] == mount.process.pid:
            return row["data_losses"]
    return None


def synced_before(cloud, one, two, rng):
    file, _, expected = half_written(one, "twice", rng)
    with Paused(cloud, one):
        pass
    expect_kept(file, expected, "data written after an fsync, by a mount paused beyond its session")
    os.close(file)
    check((two / "twice").read_bytes() == expected, "the other mount reads it")


def mapping_of(file, size):
    view = mmap.mmap(file, size)
    view[0:size]  # faulted in: writing it then needs no answer of the mount
    view[0] = view[0]
    return view


def all_kinds_kept(cloud, one, two, rng):
    """Everything dirty at once, nobody else changes contents; names may change."""
    renamed, _, content = half_written(one, "renamed-here", rng)
    os.rename(one / "renamed-here", one / "new-name")
    moved, _, moved_content = half_written(one, "renamed-elsewhere", rng)
    cut = os.open(one / "cut", os.O_RDWR | os.O_CREAT)
    os.pwrite(cut, b"c" * 200_000, 0)
    os.fsync(cut)
    os.ftruncate(cut, 70_001)
    mapped = os.open(one / "mapped", os.O_RDWR | os.O_CREAT)
    os.pwrite(mapped, b"m" * (16 * PAGE), 0)
    os.fsync(mapped)
    view = mapping_of(mapped, 16 * PAGE)
    fresh = os.open(one / "fresh", os.O_RDWR | os.O_CREAT)
    os.pwrite(fresh, b"f" * 5000, 0)
    before = losses(cloud, one)
    with Paused(cloud, one):
        view[3 * PAGE:3 * PAGE + 5] = b"dirty"
        os.rename(two / "renamed-elsewhere", two / "its-new-name")
        os.chmod(two / "new-name", 0o600)
    expect_kept(renamed, content, "a file renamed before")
    expect_kept(moved, moved_content, "a file that another mount has renamed meanwhile")
    expect_kept(cut, b"c" * 70_001, "a truncate")
    expect_kept(fresh, b"f" * 5000, "a file never synced")
    view.flush()
    expect_kept(mapped, b"m" * (3 * PAGE) + b"dirty" + b"m" * (13 * PAGE - 5), "a dirty mapping")
    check((two / "its-new-name").read_bytes() == moved_content, "the other mount has it")
    check_equal(os.stat(one / "new-name").st_mode & 0o777, 0o600, "a mode set elsewhere is seen")
    check_equal(losses(cloud, one), before, "nothing is counted as lost")
    view.close()
    for file in (renamed, moved, cut, mapped, fresh):
        os.close(file)


def changed_elsewhere(cloud, one, two, rng):
    file, synced, _ = half_written(one, "changed", rng)
    closed, _, _ = half_written(one, "closed", rng)
    mapped = os.open(one / "mapped-too", os.O_RDWR | os.O_CREAT)
    os.pwrite(mapped, b"m" * (4 * PAGE), 0)
    os.fsync(mapped)
    view = mapping_of(mapped, 4 * PAGE)
    unlinked, _, _ = half_written(one, "unlinked", rng)
    os.unlink(one / "unlinked")
    before, inodes = losses(cloud, one), cloud.ask()["inodes"]
    with Paused(cloud, one):
        view[PAGE:PAGE + 5] = b"dirty"
        for name in ("changed", "closed", "mapped-too"):
            with open(two / name, "r+b") as other:
                other.write(b"theirs")
                other.truncate(3 * PAGE)
                other.flush()
                os.fsync(other.fileno())
        wait_for(lambda: cloud.ask()["inodes"] == inodes - 1, 20, "the file without a name to go")
    committed = b"theirs" + synced[6:3 * PAGE]
    expect_lost(file, committed, "a file that another mount has changed")
    check_equal(fails_with(os.close, closed), errno.EIO, "close tells, too")
    check_equal(fails_with(view.flush), errno.EIO, "msync tells, too")
    theirs = b"theirs" + b"m" * (3 * PAGE - 6)
    wait_for(lambda: view[:3 * PAGE] == theirs, 20, "the mapping to show what is committed")
    os.fsync(mapped)
    check((two / "mapped-too").read_bytes() == theirs, "old pages are not put on top of it")
    check_equal([fails_with(os.fsync, unlinked) for _ in range(2)], [errno.EIO, 0],
                "told once: a file without a name")
    check_equal(fails_with(os.pread, unlinked, 10, 0), errno.ESTALE, "and it is gone")
    wait_for(lambda: losses(cloud, one) == before + 4, 20, "status to count four losses")
    check("unwritten data of" in cloud.tool("status"), "the text of status tells")
    os.pwrite(file, b"again", 0)
    os.fsync(file)
    check((two / "changed").read_bytes()[:8] == b"again" + committed[5:8], "writing goes on")
    view.close()
    for open_file in (file, mapped, unlinked):
        os.close(open_file)


def daemon_away(cloud, one, rng):
    for how in ("the daemon away for longer than the session", "and the mount paused as well"):
        file, _, expected = half_written(one, f"away{len(how)}", rng)
        session = session_of(cloud, one)
        cloud.kill_daemon()
        time.sleep(2 * LEASE_MS / 1000)
        cloud.start_daemon()
        if "paused" in how:
            with Paused(cloud, one):
                pass
        expect_kept(file, expected, how)
        note(f"session {session} before, {session_of(cloud, one)} now")
        os.close(file)


def restored(cloud, one, rng):
    """The earlier records come back: what was committed since is gone, and told."""
    same, _, content = half_written(one, "same", rng)
    os.fsync(same)
    later, old, _ = half_written(one, "later", rng)
    os.ftruncate(later, len(old))
    os.fsync(later)
    cloud.stop_daemon()
    shutil.copytree(cloud.root / "state", cloud.root / "copy")
    cloud.start_daemon()
    # In another block: of what the restored records name nothing is collected.
    os.pwrite(later, b"committed after the copy", 1 << 20)
    os.fsync(later)
    os.pwrite(same, b"unwritten", 7)
    os.pwrite(later, b"unwritten", 1000)
    cloud.kill_daemon()
    shutil.rmtree(cloud.root / "state")
    os.rename(cloud.root / "copy", cloud.root / "state")
    cloud.start_daemon()
    expect_lost(later, old, "a file whose newest state is gone")
    # Numbers of objects written since the copy are given out again: such a put fails and is redone.
    wait_for(lambda: fails_with(os.fsync, same) == 0, 60, "the kept data to be written")
    content = content[:7] + b"unwritten" + content[16:]
    expect_kept(same, content, "a file that is as it was in the restored records")
    os.close(same)
    os.close(later)


def test(options):
    rng = random.Random(options.seed)
    # Nothing is written in the background while a test looks away.
    with Cloud(daemon={"lease_ms": LEASE_MS}, mount={"flush_after_ms": 60_000}) as cloud:
        cloud.ask = Status(cloud)
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        synced_before(cloud, one, two, rng)
        all_kinds_kept(cloud, one, two, rng)
        changed_elsewhere(cloud, one, two, rng)
        daemon_away(cloud, one, rng)
        restored(cloud, one, rng)


if __name__ == "__main__":
    harness.main(test, 240)
