"""Files that are made without a name (O_TMPFILE), over two mounts, a daemon that is killed and a mount that
dies: who has one open keeps it, it gets its first name once, and what nobody has is freed."""

import errno
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno  # noqa: E402


def unnamed(directory, data, flags=0):
    fd = os.open(directory, os.O_RDWR | os.O_TMPFILE | flags, 0o644)
    os.write(fd, data)
    return fd


def name_it(fd, path):
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)  # AT_SYMLINK_FOLLOW


def inodes(cloud):
    return cloud.status()["inodes"]


def over_two_mounts(cloud, one, two, rng):
    (one / "d").mkdir()
    check_equal(os.listdir(two / "d"), [], "the other mount knows the directory, and that it is empty")
    mtime = os.stat(one / "d").st_mtime_ns
    data = rng.randbytes(300_000)
    fd = unnamed(one / "d", data)
    check_equal((os.listdir(one / "d"), os.listdir(two / "d")), ([], []), "it is in no listing")
    check_equal(os.stat(one / "d").st_mtime_ns, mtime, "and the directory has not changed")
    name_it(fd, one / "d" / "first")
    check_equal(os.stat(two / "d" / "first").st_nlink, 1, "the other mount sees its name")
    check((two / "d" / "first").read_bytes() == data, "and its contents, which nobody has synced")
    expect_errno(errno.EEXIST, "the name is taken", name_it, fd, two / "d" / "first")
    os.unlink(two / "d" / "first")
    check_equal(os.fstat(fd).st_nlink, 0, "removed there, it is nameless here")
    expect_errno(errno.ENOENT, "and cannot come back", name_it, fd, one / "d" / "again")
    check(os.pread(fd, 10, 0) == data[:10], "but be read")
    os.close(fd)
    wait_for(lambda: inodes(cloud) == 2, 20, "it to be freed")  # the root directory and d stay


def over_a_restart(cloud, one, two, rng):
    kept, named = rng.randbytes(200_000), rng.randbytes(200_000)
    before = inodes(cloud)
    fds = [unnamed(one / "d", data) for data in (kept, named)]
    os.fsync(fds[0])
    cloud.kill_daemon()
    cloud.start_daemon()
    check(os.pread(fds[0], len(kept), 0) == kept, "a synced one survives the daemon's end")
    name_it(fds[1], one / "d" / "named")
    check((two / "d" / "named").read_bytes() == named, "one that was not synced as well, and is named")
    cloud.kill_daemon()
    cloud.start_daemon()
    check((two / "d" / "named").read_bytes() == named, "its name stays")
    wait_for(lambda: inodes(cloud) == before + 2, 20, "both to be counted")
    for fd in fds:
        os.close(fd)
    wait_for(lambda: inodes(cloud) == before + 1, 20, "the one without a name to be freed")
    os.unlink(two / "d" / "named")
    wait_for(lambda: inodes(cloud) == before, 20, "the other one, too")


def of_a_dead_mount(cloud, two, rng):
    """What a mount that dies had open is freed, and what it had named stays."""
    before = inodes(cloud)
    three = cloud.mount(name="three")
    fds = [unnamed(three / "d", rng.randbytes(100_000)) for _ in range(5)]
    for fd in fds:
        os.fsync(fd)
    name_it(fds[0], three / "d" / "stays")
    check_equal(inodes(cloud), before + 5, "five inodes more")
    three.kill()
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass
    wait_for(lambda: inodes(cloud) == before + 1, 30, "four of them to be freed")
    check_equal(os.stat(two / "d" / "stays").st_size, 100_000, "the named one is whole")
    os.unlink(two / "d" / "stays")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        over_two_mounts(cloud, one, two, rng)
        over_a_restart(cloud, one, two, rng)
        of_a_dead_mount(cloud, two, rng)
        fd = unnamed(one / "d", b"x" * 100_000)
        os.fsync(fd)
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing, with one open")
        os.close(fd)
        wait_for(lambda: cloud.collect() is not None and not cloud.object_locations(), 60,
                 "nothing to be left at the sites")
        one.unmount()
        two.unmount()


if __name__ == "__main__":
    harness.main(test, 120)
