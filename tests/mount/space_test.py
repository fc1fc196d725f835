"""No space, wherever it may run out: at all sites, at one of them, on the daemon's disk. Programs get
ENOSPC, soon, and once; nothing durable is lost, nothing is stored that a program was told is lost;
and with room again everything goes on by itself."""

import errno
import mmap
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud, tail, wait_for  # noqa: E402
from cloud_sites import DirectorySite  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402

SOON = 4 * SLOWNESS  # seconds; every deadline is longer
BACK = 30 * SLOWNESS
MIB = 1 << 20


class SmallDisk:
    """A tmpfs that others can fill."""

    def __init__(self, path, bytes_total):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={bytes_total}", "tmpfs", self.path],
                       check=True)
        self.filler = self.path / "others"

    def free(self):
        space = os.statvfs(self.path)
        return space.f_bavail * space.f_frsize

    def fill(self, leave=0):
        with open(self.filler, "ab", buffering=0) as file:
            while (rest := self.free() - leave) > 0:
                try:
                    file.write(b"\xa5" * min(rest, MIB))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def make_room(self):
        self.filler.unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "-l", self.path], check=False)


class SmallSite(DirectorySite):
    """A directory site on a disk of its own."""

    def __init__(self, name, root):
        self.disk = SmallDisk(root / "disks" / name, 96 * MIB)
        super().__init__(name, root)
        self.path.rmdir()
        self.path = self.disk.path / "site"
        self.path.mkdir()
        self.elsewhere = self.disk.path / "away"

    def remove(self):
        self.disk.remove()


def attempt(path, data):
    """(errno name of what failed first or "ok", seconds, what failed) of a new file, synced and
    closed."""
    began = time.monotonic()
    outcome, step = "ok", "open"
    try:
        with open(path, "xb", buffering=0) as file:
            step = "write"
            view = memoryview(data)
            while view:
                view = view[file.write(view[:MIB]):]
            step = "fsync"
            os.fsync(file.fileno())
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    return outcome, time.monotonic() - began, step


class Files:
    """Files of random bytes in a directory of the mount, and what must be in them."""

    def __init__(self, mount, rng):
        self.directory, self.rng, self.count = mount / "files", rng, 0
        self.kept, self.lost = {}, []
        os.makedirs(self.directory, exist_ok=True)

    def write(self, size):
        """The outcome and the seconds of one more file."""
        name = f"f{self.count}"
        self.count += 1
        data = self.rng.randbytes(size)
        outcome, seconds, step = attempt(self.directory / name, data)
        if outcome == "ok":
            self.kept[name] = data
        elif step == "fsync":
            self.lost.append(name)  # what write had taken before it failed is another matter
        return outcome, seconds

    def write_until_refused(self, size):
        for _ in range(1000):
            outcome, seconds = self.write(size)
            if outcome != "ok":
                return outcome, seconds
        raise harness.CheckFailed("the sites never became full")

    def write_until_ok(self, size):
        began = time.monotonic()
        wait_for(lambda: self.write(size)[0] == "ok", BACK / SLOWNESS, "a write to succeed again")
        return time.monotonic() - began

    def delete_half(self):
        for name in sorted(self.kept)[::2]:
            os.unlink(self.directory / name)
            del self.kept[name]

    def check_lost(self, what):
        """Files whose fsync had failed have nothing."""
        sizes = {name: os.path.getsize(self.directory / name) for name in self.lost}
        check_equal(set(sizes.values()), {0}, f"the {len(sizes)} files whose fsync failed are "
                    f"empty {what}")

    def check(self, what):
        for name, data in self.kept.items():
            if (self.directory / name).read_bytes() != data:
                raise harness.CheckFailed(f"{what}: {name} differs")
        note(f"ok: {what}: all {len(self.kept)} files that were synced are exact")


def all_sites_full(cloud, mount, rng):
    files = Files(mount, rng)
    files.write(300_000)
    for site in cloud.sites.values():
        site.disk.fill(leave=12 * MIB)
    precious = mount / "precious"
    old = rng.randbytes(700_000)
    precious.write_bytes(old)
    held = open(precious, "r+b", buffering=0)
    os.fsync(held.fileno())
    outcome, seconds = files.write_until_refused(2 * MIB)
    check_equal(outcome, "ENOSPC", f"all sites full after {len(files.kept)} files")
    check(seconds < SOON, f"told after {seconds:.2f} s")
    outcomes = [files.write(6 * MIB) for _ in range(12)]
    check_equal({o for o, _ in outcomes}, {"ENOSPC"}, "so are all later ones")
    check(max(s for _, s in outcomes) < SOON,
          f"the slowest after {max(s for _, s in outcomes):.2f} s")
    # An open file that is overwritten while there is no space is what it was, at once.
    held.seek(0)
    try:
        held.write(rng.randbytes(600_000))
        os.fsync(held.fileno())
        raise harness.CheckFailed("an overwrite needs space, too")
    except OSError as error:
        check_equal(error.errno, errno.ENOSPC, "an overwrite is refused the same way")
    os.fsync(held.fileno())
    note("ok: told once: the next fsync of it succeeds")
    check_equal(os.pread(held.fileno(), len(old) + 1, 0), old, "and the file is what it was")
    held.close()
    for site in cloud.sites.values():
        site.disk.fill()
    with open(precious, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[:400_000] = rng.randbytes(400_000)  # zeros would take no room
        expect_errno(errno.ENOSPC, "msync of a mapping", pages.flush)
    check_equal(precious.read_bytes(), old, "what was mapped is what it was")
    files.check_lost("at once")
    log_is_short(mount)
    status = cloud.status()
    named = [n for n in cloud.names if any(f"site {n} is full" in p for p in status["problems"])]
    check(len(named) >= 3, f"status names full sites: {named}", status["problems"])
    files.check("while full")
    return files


def log_is_short(mount):
    lines = [l for l in tail(mount.log, 2000).splitlines() if " error:" in l or " warning:" in l]
    said = [l for l in lines if "could not be written" in l]
    check(0 < len(said) <= 6, f"the log says in {len(said)} lines that files could not be written",
          "\n".join(said[:10]))
    check(any(re.search(r"no room at site\d, site\d, site\d.*free space", l) for l in said),
          "one names the sites and the remedy", said[:3])
    check(max(len(l) for l in lines) < 500, "no line is long", max(lines, key=len)[:600])


def room_comes_back(cloud, mount, files):
    files.delete_half()
    cloud.collect()
    note(f"ok: after deleting files writes succeed after {files.write_until_ok(MIB):.1f} s")
    for site in cloud.sites.values():
        site.disk.make_room()
    files.write_until_ok(6 * MIB)
    wait_for(lambda: not cloud.status()["mounts"][0]["dirty_bytes"], 20, "nothing to be unwritten")
    files.check_lost("with room, too: nothing is stored later")
    mount.remount()
    files.check_lost("after a remount")
    files.check("after a remount")


def one_site_full(cloud, mount, files):
    full, away = "site5", "site2"
    cloud.sites[full].disk.fill()
    outcomes = [files.write(2 * MIB) for _ in range(4)]
    check_equal({o for o, _ in outcomes}, {"ok"}, "one site full: writes succeed")
    check(max(s for _, s in outcomes) < SOON,
          f"the slowest took {max(s for _, s in outcomes):.2f} s")
    cloud.take_away(away)
    outcomes = [files.write(2 * MIB) for _ in range(4)]
    cloud.put_back_and_wait(away)
    check_equal({o for o, _ in outcomes}, {"ok"}, "and with one more away, too")
    before = len(cloud.object_locations(full))
    cloud.sites[full].disk.make_room()

    def used():
        files.write(MIB)
        return len(cloud.object_locations(full)) > before
    wait_for(used, BACK / SLOWNESS, "the full site to be used again")
    note("ok: with room it is used again by itself")
    files.check("one site full")


def reserve_of(cloud):
    return sorted((cloud.root / "state" / "metadata").glob("reserve.*"))


def daemon_disk_full(cloud, mount, disk, files):
    wait_for(lambda: len(reserve_of(cloud)) == 16, 30, "the reserve to be made")
    opened = open(files.directory / "opened", "xb", buffering=0)
    disk.fill()
    time.sleep(0.3 * SLOWNESS)  # it looks at its disk ten times a second
    began = time.monotonic()
    for what, call in (("create", lambda: open(mount / "new", "xb")),
                       ("mkdir", lambda: os.mkdir(mount / "dir")),
                       ("link", lambda: os.link(mount / "precious", mount / "other")),
                       ("setxattr", lambda: os.setxattr(mount / "precious", "user.a", b"x" * 99))):
        expect_errno(errno.ENOSPC, f"the daemon's disk full: {what}", call)
    try:
        opened.write(files.rng.randbytes(300_000))
        os.fsync(opened.fileno())
        raise harness.CheckFailed("there is no room for the records of new data")
    except OSError as error:
        check_equal(error.errno, errno.ENOSPC, "so does a write to an open file")
    opened.close()
    check(time.monotonic() - began < 3 * SOON, f"all after {time.monotonic() - began:.1f} s")
    files.check("the daemon's disk full")
    files.delete_half()
    os.chmod(mount / "precious", 0o600)
    os.truncate(mount / "precious", 0)
    note("ok: files are deleted, emptied and changed meanwhile")
    status = cloud.status()
    check_equal(status["health"], "failing", "status says failing")
    check(any("disk is full" in p and "state/metadata" in p for p in status["problems"]),
          "and names the directory", status["problems"])
    disk.make_room()
    note(f"ok: with room writes succeed after {files.write_until_ok(MIB):.1f} s")
    wait_for(lambda: len(reserve_of(cloud)) == 16, 30, "the reserve to be whole again")
    cloud.collect()
    files.check("with room again")


def reserve_used_up(cloud, disk, files):
    """Worse than others can do: the reserve is gone as well. Nothing more can be written."""
    for piece in reserve_of(cloud):
        piece.unlink()
    disk.fill()

    def changed():
        """None, or the errno name of a change of the metadata."""
        try:
            os.chmod(cloud.mounts[0] / "precious", files.rng.choice((0o600, 0o640, 0o644)))
        except OSError as error:
            return errno.errorcode[error.errno]
        return None

    def refused():
        disk.fill()
        return changed()
    outcome = wait_for(refused, 30, "the daemon's store to be unable to write")
    check_equal(outcome, "ENOSPC", "without a reserve every change is refused with the reason")
    files.check("nothing can be written")
    check(cloud.daemon.poll() is None, "the daemon serves")
    disk.make_room()
    began = time.monotonic()
    wait_for(lambda: changed() is None, BACK / SLOWNESS, "the daemon to write again")
    note(f"ok: with room again it does after {time.monotonic() - began:.1f} s, by itself")
    files.write_until_ok(MIB)
    check(cloud.daemon.poll() is None, "it is the same process")
    files.check("the daemon has started anew")


def read_only_state(cloud, mount, disk, files):
    mount.unmount()
    cloud.stop_daemon()
    subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
    done = subprocess.run([BUILD / "bin" / "datacloudd", "--config", cloud.config, "--foreground"],
                          capture_output=True, text=True, timeout=30 * SLOWNESS, check=False)
    subprocess.run(["mount", "-o", "remount,rw", disk.path], check=True)
    said = [l for l in done.stderr.splitlines() if l.startswith("datacloudd:")]
    check_equal(done.returncode, 1, "with a read-only state directory the daemon does not start")
    check(len(said) == 1 and str(cloud.root / "state") in said[0] and "remount,rw" in said[0],
          "one line names the directory and the remedy", done.stderr)
    cloud.start_daemon()
    mount.process = cloud.start_mount_process(mount.point, mount.log, mount.options)
    files.check("started again")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(stores=lambda names, root: [SmallSite(n, root) for n in names],
               create=False) as cloud:
        disk = SmallDisk(cloud.root / "state", 128 * MIB)
        cloud.tool("create")
        cloud.start_daemon()
        mount = cloud.mount("cache_bytes_max=1MiB")
        files = all_sites_full(cloud, mount, rng)
        room_comes_back(cloud, mount, files)
        one_site_full(cloud, mount, files)
        daemon_disk_full(cloud, mount, disk, files)
        reserve_used_up(cloud, disk, files)
        read_only_state(cloud, mount, disk, files)
        mount.unmount()
        cloud.stop_daemon()
        disk.remove()


if __name__ == "__main__":
    harness.main(test, 240)
