"""chattr +i and +a over two mounts: what one sets holds on the other at once, for descriptors that are
open there as well; it outlives the daemon, and needs the cloud's feature."""

import errno
import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno  # noqa: E402

IMMUTABLE, APPEND, FS_IOC_SETFLAGS = 0x10, 0x20, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820


def set_flags(path, flags):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=Q", flags))
    finally:
        os.close(fd)


def immutable(cloud, one, two):
    path, there = one / "f", two / "f"
    path.write_bytes(b"before" * 20_000)
    fd = os.open(there, os.O_RDWR)
    os.pwrite(fd, b"DIRTY", 0)  # of the other mount, not stored yet
    set_flags(path, IMMUTABLE)
    check_equal(path.read_bytes()[:8], b"DIRTYebe", "what was written before is there")
    for name, call in {
            "write": lambda: os.pwrite(fd, b"after", 0), "append": lambda: os.pwrite(fd, b"x", 120_000),
            "truncate": lambda: os.ftruncate(fd, 3), "chmod": lambda: os.fchmod(fd, 0o600),
            "utime": lambda: os.utime(fd), "setxattr": lambda: os.setxattr(fd, "user.x", b"1"),
            "unlink": lambda: os.unlink(there), "rename": lambda: os.rename(there, two / "g"),
            "link": lambda: os.link(there, two / "h"),
            "replace": lambda: os.rename(two / "other", there),
            "open": lambda: os.open(there, os.O_WRONLY)}.items():
        (one / "other").touch()
        expect_errno(errno.EPERM, f"{name} of an immutable file on the other mount", call)
    os.fsync(fd)
    cloud.kill_daemon()
    cloud.start_daemon()
    expect_errno(errno.EPERM, "and after the daemon's end", os.pwrite, fd, b"after", 0)
    check_equal(path.read_bytes(), b"DIRTY" + (b"before" * 20_000)[5:], "nothing has changed")
    set_flags(path, 0)
    os.pwrite(fd, b"after", 0)
    os.fsync(fd)
    check_equal(path.read_bytes()[:5], b"after", "without the flag the same descriptor writes again")
    os.close(fd)


def append_only(one, two):
    path, there = one / "log", two / "log"
    path.write_bytes(b"0123456789")
    end, fd = os.open(there, os.O_WRONLY | os.O_APPEND), os.open(there, os.O_RDWR)
    set_flags(path, APPEND)
    os.write(end, b"abc")
    os.fsync(end)
    for name, call in {"overwrite": lambda: os.pwrite(fd, b"x", 3),
                       "truncate": lambda: os.ftruncate(fd, 3),
                       "unlink": lambda: os.unlink(there),
                       "open": lambda: os.open(there, os.O_WRONLY)}.items():
        expect_errno(errno.EPERM, f"{name} of an append-only file on the other mount", call)
    check_equal(path.read_bytes(), b"0123456789abc", "it has grown at its end")
    os.close(end)
    set_flags(path, 0)
    os.pwrite(fd, b"x", 3)
    os.close(fd)
    check_equal(path.read_bytes(), b"012x456789abc", "and is an ordinary file again")


def extended(one):
    """What is not kept is refused as a whole; which flags are the same as on ext4: mount.posix_test."""
    path = one / "extended"
    path.touch()
    with open(path) as file:
        for what, fields in {"a project": (0x80, 0, 0, 7, 0), "an extent size": (0x80, 4096, 0, 0, 0),
                             "real time": (0x81, 0, 0, 0, 0), "DAX": (0x8080, 0, 0, 0, 0)}.items():
            expect_errno(errno.EOPNOTSUPP, f"FSSETXATTR with {what}", fcntl.ioctl, file, FS_IOC_FSSETXATTR,
                         struct.pack("=IIIII8x", *fields))
        check_equal(fcntl.ioctl(file, FS_IOC_FSGETXATTR, bytes(28)), bytes(28), "nothing of it was set")


def programs(one):
    (one / "c").write_bytes(b"x")
    done = subprocess.run(["chattr", "+i", one / "c"], capture_output=True, text=True, check=False)
    check_equal(done.returncode, 0, f"chattr works {done.stderr}")
    done = subprocess.run(["lsattr", one / "c"], capture_output=True, text=True, check=False)
    check("i" in done.stdout.split()[0], f"and lsattr: {done.stdout.strip()}")
    subprocess.run(["chattr", "-i", one / "c"], check=True)
    os.unlink(one / "c")


def test(options):
    del options
    with Cloud(features="times,trees") as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        (one / "f").touch()
        expect_errno(errno.EOPNOTSUPP, "a cloud without the feature keeps none", set_flags, one / "f",
                     IMMUTABLE)
        cloud.tool("feature", "enable", "file-flags")
        # A mount hears of features with its next keepalive.
        wait_for(lambda: can_set(one / "f") and can_set(two / "f"), 20, "the mounts to know the feature")
        immutable(cloud, one, two)
        append_only(one, two)
        extended(one)
        programs(one)
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")
        one.unmount()
        two.unmount()


def can_set(path):
    try:
        set_flags(path, IMMUTABLE)
    except OSError:
        return False
    set_flags(path, 0)
    return True


if __name__ == "__main__":
    harness.main(test, 120)
