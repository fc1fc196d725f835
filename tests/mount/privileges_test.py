"""Set-user-id, set-group-id and file capabilities: what writing, truncating and giving away takes from a file, as on
the local file system; and that the kernel does not ask for capabilities before every write."""

import itertools
import os
import re
import stat
import struct
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal  # noqa: E402
from read_counts import free_port  # noqa: E402

STRANGER = 12345
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # version 2: cap_net_bind_service
MODES = (0o644, 0o4777, 0o2777, 0o6777, 0o2767, 0o6767)


def opened(path, flags, work):
    fd = os.open(path, flags)
    try:
        work(fd)
    finally:
        os.close(fd)


def copy_from(path):
    source = path.with_name("source")

    def work(fd):
        opened(source, os.O_RDONLY, lambda other: os.copy_file_range(other, fd, 4096, 0, 0))
    return work


CHANGES = {
    "write": lambda p: opened(p, os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "write nothing": lambda p: opened(p, os.O_WRONLY, lambda fd: os.write(fd, b"")),
    "append": lambda p: opened(p, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "ftruncate": lambda p: opened(p, os.O_WRONLY, lambda fd: os.ftruncate(fd, 100)),
    "truncate": lambda p: os.truncate(p, 100),
    "O_TRUNC": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "copy_file_range": lambda p: opened(p, os.O_WRONLY, copy_from(p)),
    "chown to oneself": lambda p: os.chown(p, os.stat(p).st_uid, os.stat(p).st_gid),
    "chown of nothing": lambda p: os.chown(p, -1, -1),
    "chmod": lambda p: os.chmod(p, 0o4755),
    "utime": os.utime,
    "read": Path.read_bytes,
}
FOR_THE_OWNER = ("chown to oneself", "chown of nothing", "chmod", "utime")


def as_user(uid, work):
    """In a process of its own, which gives up root's capabilities."""
    child = os.fork()
    if child == 0:
        try:
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(directory, change, mode, uid, capable, note_too):
    path = directory / "file"
    path.unlink(missing_ok=True)
    path.write_bytes(bytes(8192))
    if change in FOR_THE_OWNER:
        os.chown(path, uid, uid)
    if note_too:
        os.setxattr(path, "user.note", b"kept")
    os.chmod(path, mode)
    if capable:
        os.setxattr(path, "security.capability", CAPABILITY)
    code = as_user(uid, lambda: CHANGES[change](path))
    return code, oct(stat.S_IMODE(os.stat(path).st_mode)), sorted(os.listxattr(path))


def as_on_a_local_disk(mount, local):
    different = []
    for directory in (mount, local):
        directory.chmod(0o777)
        (directory / "source").write_bytes(bytes(4096))
    count = 0
    for change, mode, uid, capable, note_too in itertools.product(CHANGES, MODES, (0, STRANGER), (False, True),
                                                                  (False, True)):
        if note_too and not capable:
            continue
        # The kernel asks for both in the same words (docs/posix.md).
        if change == "chown of nothing" and uid == 0:
            continue
        count += 1
        seen, expected = (outcome(d, change, mode, uid, capable, note_too) for d in (mount, local))
        if seen != expected:
            different.append((change, oct(mode), uid, capable, note_too, seen, expected))
    check(not different, f"{count} changes leave what a local disk leaves", different[:5])


def another_mounts_bits(one, two):
    """A mount that knew a file without them learns of them before it writes."""
    path, there = one / "shared", two / "shared"
    path.write_bytes(b"first")
    path.chmod(0o777)
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"x")
    os.setxattr(there, "security.capability", CAPABILITY)
    os.write(fd, b"y")
    check_equal(os.listxattr(there), [], "a capability that another mount has given goes with a write")
    os.chmod(there, 0o4777)

    def write():
        opened(path, os.O_WRONLY, lambda other: os.write(other, b"z"))
    check_equal(as_user(STRANGER, write), 0, "a stranger writes")
    check_equal(oct(os.stat(there).st_mode & 0o7777), "0o777", "and set-user-id of the other mount goes")
    os.close(fd)


def without_questions(mount, port):
    """One request for each write: also of a file that has other attributes."""
    path = mount / "many"
    path.write_bytes(bytes(4096))
    os.setxattr(path, "user.note", b"kept")
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"x", 0)

    def operations():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = re.search(r"^datacloud_mount_operations_total(?:\{.*\})? (\S+)$", answer.read().decode(), re.M)
        return float(found[1])
    before = operations()
    for i in range(500):
        os.pwrite(fd, b"y", i)
    seen = operations() - before
    os.close(fd)
    check(500 <= seen < 600, "500 writes are 500 requests", seen)


def test(options):
    port = free_port()
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(f"metrics=127.0.0.1:{port}", name="one"), cloud.mount(name="two")
        local = cloud.root / "local"
        local.mkdir()
        (one / "d").mkdir()
        as_on_a_local_disk(one / "d", local)
        another_mounts_bits(one, two)
        without_questions(one, port)


if __name__ == "__main__":
    harness.main(test, 240)
