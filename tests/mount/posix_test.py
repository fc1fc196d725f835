"""The same seeded operations on the mount and on the local file system: everything seen is equal.

Sixty scripts of random operations by four users; then scripts that also compare which times each
operation changed; then cases that random scripts hardly meet. Known and wanted differences are in
docs/posix.md; there are no others.
"""

import errno
import fcntl
import mmap
import os
import pickle
import random
import shutil
import stat
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import SLOWNESS, Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from posix_ops import Runner, make_script  # noqa: E402


def run_apart(root, script, times):
    """In a process of its own, which changes users and directories; the list of what it saw."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            seen = Runner(root, times).run(script)
            with os.fdopen(write, "wb") as out:
                pickle.dump(seen, out)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        data = source.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"the runner on {root} failed with status {status}")
    return pickle.loads(data)


def first_difference(script, ours, theirs):
    for number, (mine, other) in enumerate(zip(ours, theirs)):
        if mine != other:
            what = script[number] if number < len(script) else "the tree at the end"
            return number, what, mine, other
    return None


def describe(number, what, ours, theirs):
    """Only what differs."""
    lines = [f"operation {number}: {what}"]
    if isinstance(ours, dict):
        ours, theirs = (ours,), (theirs,)
    for mine, other in zip(ours, theirs):
        if mine == other:
            continue
        if isinstance(mine, dict):
            for key in sorted(set(mine) | set(other), key=str):
                if mine.get(key) != other.get(key):
                    lines.append(f"  {key}: mount {mine.get(key)!r}, local {other.get(key)!r}")
        else:
            lines.append(f"  mount {mine!r}, local {other!r}")
    return "\n".join(lines)


def compare(seed, length, mount, local, times):
    script = make_script(seed, length)
    name = f"script-{seed}"
    roots = [Path(base) / name for base in (mount.point, local)]
    for root in roots:
        root.mkdir()
    ours, theirs = (run_apart(root, script, times) for root in roots)
    difference = first_difference(script, ours, theirs)
    for root in roots:
        shutil.rmtree(root)
    if difference is None:
        return ""
    history = "\n".join(f"    {i}: {script[i]} -> {theirs[i][0]!r}"
                        for i in range(max(0, difference[0] - 12), difference[0]))
    return f"script seed {seed}, {describe(*difference)}\n  before it:\n{history}"


def random_scripts(mount, local, rng, count, length, times):
    failures = []
    for _ in range(count):
        failure = compare(rng.randrange(1 << 32), length, mount, local, times)
        if failure:
            failures.append(failure)
            print(failure, file=sys.stderr, flush=True)
            if len(failures) >= 5:
                break
    what = f"{count} scripts of {length} operations" + (" with times" if times else "")
    check(not failures, f"{what}: no difference", f"{len(failures)} scripts differ")


IMMUTABLE, APPEND, NODUMP, NOATIME = 0x10, 0x20, 0x40, 0x80
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR = 0x80086601, 0x40086602, 0x801C581F


def ioctl(path, command, data):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return fcntl.ioctl(fd, command, data)
    finally:
        os.close(fd)


def flags_of(path):
    """Of those that are kept here: ext4 has others of its own."""
    return struct.unpack("=Q", ioctl(path, FS_IOC_GETFLAGS, bytes(8)))[0] & 0xF0


def extended_flags(path):
    return struct.unpack("=I", ioctl(path, FS_IOC_FSGETXATTR, bytes(28))[:4])[0] & 0xD8


def set_flags(path, flags):
    """As chattr: those that it does not know stay as they are."""
    now = struct.unpack("=Q", ioctl(path, FS_IOC_GETFLAGS, bytes(8)))[0]
    ioctl(path, FS_IOC_SETFLAGS, struct.pack("=Q", (now & ~0xF0) | flags))


FS_IOC_FSSETXATTR = 0x401C5820
XFLAGS = {0x08: IMMUTABLE, 0x10: APPEND, 0x40: NOATIME, 0x80: NODUMP}


def set_extended(path, flags, project=0):
    """As xfs_io's chattr: those that it does not know stay as they are."""
    now = struct.unpack("=IIIII8x", ioctl(path, FS_IOC_FSGETXATTR, bytes(28)))
    ioctl(path, FS_IOC_FSSETXATTR, struct.pack("=IIIII8x", (now[0] & ~0xD8) | flags, *now[1:3], project, now[4]))


def tried(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode.get(error.errno)


class Cases:
    """Hand-written cases; each returns what it saw, to be equal on both file systems."""

    def unlinked_but_open(self, root):
        fd = os.open(root / "f", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x" * 100_000)
        os.unlink(root / "f")
        os.pwrite(fd, b"y" * 10, 99_995)
        seen = os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.pread(fd, 100, 99_990)
        os.fsync(fd)
        os.close(fd)
        return seen

    def renamed_over_while_open(self, root):
        (root / "old").write_bytes(b"old" * 1000)
        (root / "new").write_bytes(b"new" * 1000)
        with open(root / "old", "rb") as old:
            os.rename(root / "new", root / "old")
            return old.read(10), (root / "old").read_bytes()[:10], os.fstat(old.fileno()).st_nlink

    def removed_directory_as_cwd(self, root):
        (root / "d").mkdir()
        fd = os.open(root / "d", os.O_RDONLY)
        os.rmdir(root / "d")
        try:
            os.mkdir("x", dir_fd=fd)
            made = "made"
        except OSError as error:
            made = error.errno
        seen = os.fstat(fd).st_nlink, os.listdir(fd), made
        os.close(fd)
        return seen

    def sparse(self, root):
        with open(root / "f", "wb") as file:
            file.seek(5_000_000_000)
            file.write(b"end")
        with open(root / "f", "rb") as file:
            head = file.read(100_000)
            file.seek(4_999_999_990)
            return head == bytes(100_000), file.read(), os.path.getsize(root / "f")

    def shrink_and_grow_reads_zeros(self, root):
        path = root / "f"
        path.write_bytes(b"z" * 200_000)
        os.truncate(path, 70_000)
        os.truncate(path, 140_000)
        data = path.read_bytes()
        return data[:70_000] == b"z" * 70_000, data[70_000:] == bytes(70_000)

    def append_goes_to_the_end(self, root):
        first = os.open(root / "f", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        second = os.open(root / "f", os.O_WRONLY | os.O_APPEND)
        for i in range(100):
            os.write(first if i % 2 else second, b"%03d," % i)
        os.lseek(first, 0, os.SEEK_SET)
        os.write(first, b"last")
        os.close(first)
        os.close(second)
        return (root / "f").read_bytes()

    def write_clears_setuid(self, root):
        path = root / "f"
        path.write_bytes(b"x")
        os.chown(path, 1001, 1001)
        os.chmod(path, 0o6777)
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(1002)
            os.setuid(1002)
            with open(path, "r+b") as file:
                file.write(b"y")
            os._exit(0)
        os.waitpid(pid, 0)
        mode = oct(path.stat().st_mode)
        os.chmod(path, 0o6777)
        os.chown(path, 1002, 1002)
        return mode, oct(path.stat().st_mode)

    def names(self, root):
        seen = []
        for name in ["n" * 255, "ü" * 127, os.fsdecode(b"\xff\xfe\x01"), "a b\nc", "*?", "-rf", "..."]:
            (root / name).write_bytes(b"1")
            seen.append(name in os.listdir(root))
        try:
            (root / ("ü" * 128)).write_bytes(b"1")
        except OSError as error:
            seen.append(error.errno)
        return seen

    def many_links(self, root):
        (root / "f").write_bytes(b"shared")
        for i in range(200):
            os.link(root / "f", root / f"l{i}")
        os.unlink(root / "f")
        os.truncate(root / "l7", 3)
        return (root / "l199").read_bytes(), os.stat(root / "l0").st_nlink

    def directory_listing_while_it_changes(self, root):
        for i in range(2000):
            (root / f"f{i:04d}").touch()
        seen = []
        for number, entry in enumerate(os.scandir(root)):
            seen.append(entry.name)
            if number % 10 == 0:
                os.unlink(entry.path)
        return len(seen) == len(set(seen)), len([n for n in seen if n.startswith("f")]), \
            len(os.listdir(root))

    def rename_directory_into_itself(self, root):
        (root / "d" / "e").mkdir(parents=True)
        try:
            os.rename(root / "d", root / "d" / "e" / "f")
        except OSError as error:
            return error.errno

    def deep_path(self, root):
        fd = os.open(root, os.O_RDONLY)
        for _ in range(100):
            os.mkdir("deeper", dir_fd=fd)
            below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
        return len(list(os.walk(root)))

    def write_of_nothing_keeps_times(self, root):
        (root / "f").write_bytes(b"x")
        before = os.stat(root / "f").st_mtime_ns
        fd = os.open(root / "f", os.O_WRONLY)
        os.write(fd, b"")
        os.close(fd)
        return os.stat(root / "f").st_mtime_ns == before

    def file_size_limits(self, root):
        fd = os.open(root / "f", os.O_RDWR | os.O_CREAT)
        seen = []
        for size in (1 << 40, 0):
            os.ftruncate(fd, size)
            seen.append(os.fstat(fd).st_size)
        for call in (lambda: os.ftruncate(fd, -1), lambda: os.pwrite(fd, b"x", (1 << 63) - 1)):
            try:
                call()
                seen.append("done")
            except OSError as error:
                seen.append(error.errno in (errno.EINVAL, errno.EFBIG))
        os.close(fd)
        return seen

    def extended_flags_by_ioctl(self, root):
        (root / "d").mkdir()
        (root / "f").write_bytes(b"x")
        seen = []
        for path in (root / "f", root / "d"):
            for extended, plain in XFLAGS.items():
                seen.append(tried(lambda path=path, flag=extended: set_extended(path, flag)))
                seen += [extended_flags(path), flags_of(path) == plain, tried(lambda path=path: os.chmod(path, 0o700))]
                set_extended(path, 0)
                set_flags(path, plain)  # set one way, seen the other
                seen.append(extended_flags(path) == extended)
                set_extended(path, 0)
                seen.append(flags_of(path))
            set_extended(path, 0xD8)
            seen += [extended_flags(path), struct.unpack("=IIIII8x", ioctl(path, FS_IOC_FSGETXATTR, bytes(28)))[3]]
            set_extended(path, 0)
        set_extended(root / "d", 0xC0)
        (root / "d" / "g").touch()
        (root / "d" / "e").mkdir()
        seen += [extended_flags(root / "d" / "g"), extended_flags(root / "d" / "e")]
        return seen

    def xattr_sizes(self, root):
        (root / "f").touch()
        os.setxattr(root / "f", "user.x", b"v" * 1000)
        seen = [len(os.getxattr(root / "f", "user.x")), os.listxattr(root / "f")]
        os.symlink("f", root / "l")
        for call in (lambda: os.setxattr(root / "l", "user.y", b"v", follow_symlinks=False),
                     lambda: os.getxattr(root / "f", "user.none"),
                     lambda: os.removexattr(root / "f", "user.none"),
                     lambda: os.setxattr(root / "f", "user.x", b"", os.XATTR_CREATE)):
            try:
                seen.append(call())
            except OSError as error:
                seen.append(error.errno)
        return seen

    def set_ids_after_a_truncation_by_a_stranger(self, root):
        seen = []
        for mode in (0o2700, 0o6700, 0o6770, 0o4700):
            with open(root / "f", "wb") as file:
                os.chmod(root / "f", mode)
                os.setgroups([])
                os.setegid(1001)
                os.seteuid(1001)
                try:
                    os.ftruncate(file.fileno(), 70_000)
                finally:
                    os.seteuid(0)
                    os.setegid(0)
                    os.setgroups([0])
            seen.append(oct(os.stat(root / "f").st_mode))
        return seen

    def files_without_names(self, root):
        seen = []
        for flags in (os.O_RDWR, os.O_RDWR | os.O_EXCL):
            fd = os.open(root, flags | os.O_TMPFILE, 0o640)
            seen += [os.write(fd, b"z" * 150_000), os.fstat(fd).st_nlink, oct(os.fstat(fd).st_mode),
                     os.listdir(root)]
            os.ftruncate(fd, 140_000)
            os.fsync(fd)
            os.setxattr(fd, "user.x", b"of none")
            # Its first name, its second, and a third when it has none again.
            for name in ("one", "two", None, "three"):
                try:
                    if name is None:
                        seen.append([os.unlink(root / n) for n in sorted(os.listdir(root))])
                    else:
                        os.link(f"/proc/self/fd/{fd}", root / name, src_dir_fd=fd)
                except OSError as error:
                    seen.append(error.errno)
                seen += [sorted(os.listdir(root)), os.fstat(fd).st_nlink]
                if name and os.path.exists(root / name):
                    data = (root / name).read_bytes()
                    seen += [len(data), data.count(b"z"), os.getxattr(root / name, "user.x")]
            os.close(fd)
        (root / "gone").mkdir()
        fd = os.open(root / "gone", os.O_RDONLY)
        os.rmdir(root / "gone")
        for where in (f"/proc/self/fd/{fd}", root / "nowhere", "/proc/self/exe"):
            try:
                os.close(os.open(where, os.O_RDWR | os.O_TMPFILE))
            except OSError as error:
                seen.append(error.errno)
        os.close(fd)
        return seen

    def time_of_birth(self, root):
        def born(path):
            return subprocess.run(["stat", "-c", "%.9W", path], capture_output=True, text=True,
                                  check=True).stdout.strip()
        before = time.time() - 2
        (root / "f").write_bytes(b"x")
        (root / "d").mkdir()
        os.symlink("f", root / "l")
        first = [born(root / name) for name in ("f", "d", "l")]
        seen = [before < float(text) < time.time() + 2 for text in first]
        os.utime(root / "f", (1, 1))
        (root / "f").write_bytes(b"y")
        os.chmod(root / "f", 0o600)
        os.rename(root / "f", root / "g")
        os.link(root / "g", root / "h")
        return seen + [born(root / name) == first[0] for name in ("g", "h")] \
            + [float(born(root)) > before - 5]

    def flags_of_files(self, root):
        seen = []
        for flag in (IMMUTABLE, APPEND):
            path = root / f"f{flag}"
            path.write_bytes(b"x" * 100_000)
            os.setxattr(path, "user.x", b"1")
            (root / "other").write_bytes(b"other")
            fd, end = os.open(path, os.O_RDWR), os.open(path, os.O_WRONLY | os.O_APPEND)
            set_flags(path, flag | NODUMP)
            seen += [flags_of(path), extended_flags(path), os.pread(fd, 3, 0)]
            tries = [lambda: os.close(os.open(path, os.O_WRONLY)),
                     lambda: os.close(os.open(path, os.O_RDONLY)),
                     lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)),
                     lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)),
                     lambda: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
                     lambda: os.write(end, b"more"), lambda: os.ftruncate(fd, 5),
                     lambda: os.ftruncate(fd, 500_000), lambda: os.truncate(path, 5),
                     lambda: os.chmod(path, 0o600), lambda: os.chown(path, 5, 5),
                     lambda: os.chown(path, -1, -1), lambda: os.utime(path),
                     lambda: os.utime(path, (1, 1)), lambda: os.link(path, root / "second"),
                     lambda: os.unlink(path), lambda: os.rename(path, root / "moved"),
                     lambda: os.rename(root / "other", path),
                     lambda: os.setxattr(path, "user.x", b"2"),
                     lambda: os.removexattr(path, "user.x"), lambda: os.fsync(fd)]
            if flag == IMMUTABLE:
                tries.append(lambda: os.pwrite(fd, b"y", 10))
            seen += [tried(call) for call in tries]
            set_flags(path, NODUMP)
            seen += [tried(lambda: os.pwrite(fd, b"y", 10)), len(path.read_bytes()),
                     os.getxattr(path, "user.x"), sorted(os.listdir(root)), flags_of(path)]
            os.close(fd)
            os.close(end)
            os.unlink(path)
        return seen

    def flags_of_directories(self, root):
        seen = []
        (root / "out").write_bytes(b"x")
        for flag in (IMMUTABLE, APPEND):
            d = root / f"d{flag}"
            (d / "sub").mkdir(parents=True)
            (d / "f").write_bytes(b"x")
            set_flags(d, flag | NODUMP | NOATIME)
            seen += [flags_of(d), extended_flags(d)]
            seen += [tried(call) for call in (
                lambda: (d / "new").write_bytes(b"x") and 0, lambda: (d / "made").mkdir(),
                lambda: os.symlink("x", d / "l"), lambda: os.link(root / "out", d / "h"),
                lambda: os.unlink(d / "f"), lambda: os.rmdir(d / "sub"),
                lambda: os.rename(d / "f", d / "g"), lambda: os.rename(d / "f", root / "g"),
                lambda: os.rename(root / "out", d / "in"), lambda: os.rename(d, root / "e"),
                lambda: os.rmdir(d), lambda: os.chmod(d, 0o700), lambda: os.utime(d),
                lambda: os.setxattr(d, "user.x", b"1"), lambda: (d / "f").write_bytes(b"y") and 0,
                lambda: os.close(os.open(d, os.O_RDWR | os.O_TMPFILE)))]
            seen += [sorted(os.listdir(d)),
                     [flags_of(d / n) for n in sorted(os.listdir(d)) if n in ("new", "made")]]
            set_flags(d, 0)
            (root / "out").write_bytes(b"x")
            shutil.rmtree(d)
        return seen

    def flags_that_are_not_there(self, root):
        (root / "f").touch()
        os.chown(root / "f", 1001, 1001)
        os.symlink("f", root / "l")
        os.mkfifo(root / "p")
        seen = [tried(lambda: set_flags(root / "p", 0)), tried(lambda: flags_of(root / "p"))]
        for user in (1001, 1002):
            os.seteuid(user)
            try:
                seen += [tried(lambda flags=flags: set_flags(root / "f", flags))
                         for flags in (NODUMP, IMMUTABLE, APPEND, NODUMP | NOATIME, 0)]
                seen.append(flags_of(root / "f"))
            finally:
                os.seteuid(0)
        return seen

    def mmap_shared(self, root):
        (root / "f").write_bytes(bytes(200_000))
        with open(root / "f", "r+b") as file:
            with mmap.mmap(file.fileno(), 200_000) as area:
                area[100_000:100_005] = b"hello"
                area.flush()
                file.seek(99_999)
                seen = file.read(7)
        return seen, (root / "f").read_bytes()[99_999:100_006]


def hand_written_cases(mount, local):
    cases = Cases()
    for name in sorted(n for n in dir(cases) if not n.startswith("_")):
        seen = []
        for base in (mount.point, local):
            root = Path(base) / name
            root.mkdir(mode=0o777)
            os.chmod(root, 0o777)
            seen.append(getattr(cases, name)(root))
            shutil.rmtree(root)
        check_equal(seen[0], seen[1], name.replace("_", " "))


def everything_is_durable(cloud, mount, rng):
    """A tree made by random operations looks the same after a remount and a daemon restart."""
    root = mount / "durable"
    root.mkdir()
    run_apart(root, make_script(rng.randrange(1 << 32), 1500), False)

    def look():
        done = subprocess.run(["find", root, "-printf", "%P %y %m %n %U %G %T@ %C@ %l %i ", "(",
                               "-type", "d", "-printf", "-\n", "-o", "-printf", "%s\n", ")"],
                              capture_output=True, check=True, timeout=60)
        return set(done.stdout.decode(errors="surrogateescape").split("\n"))

    before = look()
    check(len(before) > 10, f"{len(before)} files and directories made")
    mount.remount()
    check_equal(look(), before, "the tree is the same after a remount, times included")
    cloud.stop_daemon()
    cloud.start_daemon()
    check_equal(look(), before, "and after a daemon restart")


def test(options):
    rng = random.Random(options.seed)
    rounds = options.rounds or (60 if SLOWNESS == 1 else 10)
    with Cloud() as cloud:
        local = cloud.root / "local"
        local.mkdir()
        kind = subprocess.run(["stat", "-f", "-c", "%T", local], capture_output=True, text=True)
        note(f"compared with {kind.stdout.strip()}")
        cloud.start_daemon()
        mount = cloud.mount()
        check(stat.S_ISDIR(os.stat(mount).st_mode), "mounted")
        hand_written_cases(mount, local)
        random_scripts(mount, local, rng, rounds, 400, times=False)
        random_scripts(mount, local, rng, max(1, rounds // 10), 300, times=True)
        everything_is_durable(cloud, mount, rng)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 360)
