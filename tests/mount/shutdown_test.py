"""FS_IOC_SHUTDOWN: a mount that root has shut down gives EIO, keeps to itself, and may be unmounted and
mounted again; other mounts go on."""

import errno
import fcntl
import os
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno  # noqa: E402

FS_IOC_SHUTDOWN, FLUSH, KEEP_COMMITTED, DROP = 0x8004587D, 0, 1, 2


def shut_down(directory, flags):
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, bytearray(struct.pack("=I", flags)))
    finally:
        os.close(fd)


def as_nobody(call):
    """The errno of a call by another user; 0."""
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            call()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def everything_fails(mount, file):
    for name, call in {
            "stat": lambda: os.stat(mount / "old"), "open": lambda: os.open(mount / "old", os.O_RDONLY),
            "create": lambda: (mount / "new").touch(), "unlink": lambda: os.unlink(mount / "old"),
            "rename": lambda: os.rename(mount / "old", mount / "new"), "mkdir": lambda: os.mkdir(mount / "d"),
            "list": lambda: os.listdir(mount.point), "statfs": lambda: os.statvfs(mount.point),
            "write": lambda: os.pwrite(file, b"x", 0), "fsync": lambda: os.fsync(file),
            "truncate": lambda: os.ftruncate(file, 1), "chmod": lambda: os.fchmod(file, 0o600),
            "xattr": lambda: os.setxattr(mount / "old", "user.x", b"1")}.items():
        expect_errno(errno.EIO, f"{name} of a mount that was shut down", call)

    # The kernel drops what it has cached behind the answer.
    def read_fails():
        try:
            os.pread(file, 10, 0)
        except OSError as error:
            return error.errno == errno.EIO
        return False

    wait_for(read_fails, 20, "cached pages to go")


def test(options):
    del options
    with Cloud() as cloud:
        cloud.start_daemon()
        two = cloud.mount(name="two")
        for flags, kept in ((FLUSH, b"new" * 10_000), (KEEP_COMMITTED, b"old" * 10_000),
                            (DROP, b"old" * 10_000)):
            one = cloud.mount(name=f"one{flags}")
            (one / "old").write_bytes(b"old" * 10_000)
            with open(one / "old", "rb") as file:
                os.fsync(file.fileno())
            check_equal(as_nobody(lambda: shut_down(one.point, flags)), errno.EPERM, "not for everybody")
            expect_errno(errno.EINVAL, "unknown flags", shut_down, one.point, 7)
            file = os.open(one / "old", os.O_RDWR)
            began = time.monotonic()
            os.pwrite(file, b"new" * 10_000, 0)
            check_equal(os.pread(file, 3, 0), b"new", "cached")
            shut_down(one.point, flags)
            # What is open for long is stored in the background.
            soon = time.monotonic() - began < 0.5
            everything_fails(one, file)
            expect_errno(errno.EIO, "close", os.close, file)
            seen = (two / "old").read_bytes()
            check(seen == kept or (not soon and seen == b"new" * 10_000),
                  f"flags {flags}: another mount sees what was stored")
            (two / "old").write_bytes(b"changed")
            (two / "more").mkdir(exist_ok=True)
            check_equal(os.listdir(two.point).count("more"), 1, "and goes on")
            one.unmount()
            again = cloud.mount(name=f"again{flags}")
            check_equal((again / "old").read_bytes(), b"changed", "mounted again it works")
            again.unmount()
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")
        two.unmount()


if __name__ == "__main__":
    harness.main(test, 120)
