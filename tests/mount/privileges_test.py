"""Set-user-id, set-group-id and file capabilities: what writing, truncating and giving away takes from a file, as on
the local file system."""

import itertools
import os
import stat
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check  # noqa: E402

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
    "chown of nothing, by whoever": lambda p: os.chown(p, -1, -1),
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
        # The kernel lets it pass (docs/posix.md).
        if change.endswith("whoever") and uid and mode == 0o2767:
            continue
        count += 1
        seen, expected = (outcome(d, change, mode, uid, capable, note_too) for d in (mount, local))
        if seen != expected:
            different.append((change, oct(mode), uid, capable, note_too, seen, expected))
    check(not different, f"{count} changes leave what a local disk leaves", different[:5])


def test(options):
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        local = cloud.root / "local"
        local.mkdir()
        (mount / "d").mkdir()
        as_on_a_local_disk(mount / "d", local)


if __name__ == "__main__":
    harness.main(test, 240)
