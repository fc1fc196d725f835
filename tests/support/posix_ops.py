"""Seeded random file system operations, run alike on two directories, with everything seen.

A Script is a list of operations on a small pool of names, so that they meet each other. run()
executes it below a root, each operation as its user, and returns what a program can see: result
or errno, then (as root) the attributes of the names concerned, and now and then the whole tree.
Two file systems that behave alike give equal lists.
"""

import ctypes
import errno
import hashlib
import os
import random
import stat
import time

USERS = {0: (0, []), 1001: (1001, [1001, 3000]), 1002: (1002, [1002, 3000]), 1003: (1003, [1003])}
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def make_script(seed, length):
    rng = random.Random(seed)
    return [_random_operation(rng) for _ in range(length)]


def _name(rng):
    return rng.choice(["a", "b", "c", "d", "e", "f"])


def _path(rng):
    """Mostly short paths below three directories; sometimes deep, dotted or absurd."""
    dice = rng.random()
    if dice < 0.45:
        return _name(rng)
    if dice < 0.85:
        return f"{_name(rng)}/{_name(rng)}"
    if dice < 0.93:
        return f"{_name(rng)}/{_name(rng)}/{_name(rng)}"
    return rng.choice([".", "./a", "a/..", "a/../b", "x" * 255, "y" * 256, "a/" + "z" * 255,
                       "a/", "a/b/", "missing/a", "a/./b", "sticky/a", "setgid/a", "setgid/b"])


_MODES = [0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o000, 0o444, 0o4755, 0o2755, 0o6777, 0o1777,
          0o2775, 0o640, 0o111]
_FLAGS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]
_EXTRA_FLAGS = [0, 0, os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC,
                os.O_CREAT | os.O_TRUNC, os.O_APPEND, os.O_CREAT | os.O_APPEND, os.O_NOFOLLOW,
                os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW]
_XATTRS = ["user.one", "user.two", "user.three", "trusted.t", "user." + "n" * 250,
           "user." + "n" * 251, "unknown.x", "user."]


def _random_operation(rng):
    user = rng.choices([0, 1001, 1002, 1003], [4, 4, 3, 2])[0]
    kind = rng.choices(
        ["open", "write", "read", "close", "truncate", "ftruncate", "mkdir", "rmdir", "unlink",
         "rename", "renameat2", "link", "symlink", "readlink", "chmod", "chown", "utimes",
         "setxattr", "getxattr", "removexattr", "listxattr", "listdir", "mknod", "access", "umask",
         "stat", "fsync", "fchmod", "seek", "fallocate", "statvfs", "tmpfile", "linkfd"],
        [16, 12, 8, 5, 5, 4, 8, 4, 8, 8, 3, 5, 4, 2, 7, 5, 4,
         5, 4, 2, 3, 4, 3, 4, 1, 4, 2, 2, 2, 2, 1, 4, 5])[0]
    path, other = _path(rng), _path(rng)
    slot = rng.randrange(6)
    size = rng.choice([0, 1, 10, 511, 4096, 5000, 65536, 70000, 200_000])
    arguments = {
        "open": (path, rng.choice(_FLAGS) | rng.choice(_EXTRA_FLAGS), rng.choice(_MODES), slot),
        "write": (slot, rng.choice([None, 0, 3, 4096, 65530, 65536, 150_000]), size,
                  rng.randrange(1, 256)),
        "read": (slot, rng.choice([None, 0, 100, 65530, 300_000]), size),
        "close": (slot,),
        "truncate": (path, rng.choice([0, 1, 4095, 4096, 65536, 100_000, 10_000_000, -1])),
        "ftruncate": (slot, rng.choice([0, 5, 65535, 70_001, 1_000_000])),
        "mkdir": (path, rng.choice(_MODES + [0o755, 0o777, 0o777, 0o775])),
        "rmdir": (path,), "unlink": (path,), "rename": (path, other),
        "renameat2": (path, other, rng.choice([_RENAME_NOREPLACE, _RENAME_EXCHANGE])),
        "link": (path, other), "symlink": (rng.choice([other, "nowhere", "t" * 300]), path),
        "readlink": (path,), "chmod": (path, rng.choice(_MODES)),
        "chown": (path, rng.choice([-1, 0, 1001, 1002]), rng.choice([-1, 0, 1001, 3000]),
                  rng.random() < 0.7),
        "utimes": (path, rng.choice([None, (0, 0), (1_600_000_000_123_456_789, 17),
                                     (-1_000_000_000, 4_000_000_000_000_000_001)]),
                   rng.random() < 0.7),
        "setxattr": (path, rng.choice(_XATTRS), rng.choice([b"", b"v", b"w" * 200, b"x" * 1000]),
                     rng.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])),
        "getxattr": (path, rng.choice(_XATTRS)), "removexattr": (path, rng.choice(_XATTRS)),
        "listxattr": (path,), "listdir": (path,),
        "mknod": (path, rng.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR])
                  | rng.choice(_MODES), os.makedev(1, 3)),
        "access": (path, rng.choice([os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK])),
        "umask": (rng.choice([0o000, 0o022, 0o027, 0o077]),),
        "stat": (path,), "fsync": (slot,), "fchmod": (slot, rng.choice(_MODES)),
        "seek": (slot, rng.choice([0, 10, 65536, 300_000])),
        "fallocate": (slot, rng.choice([0, 4096]), rng.choice([1, 4096, 100_000])),
        "statvfs": (path,),
        "tmpfile": (path, rng.choice([os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_EXCL, os.O_RDONLY]),
                    rng.choice(_MODES), slot),
        "linkfd": (slot, path),
    }[kind]
    return user, kind, arguments


class Runner:
    def __init__(self, root, times=False):
        self.root, self.times = str(root), times
        self.slots = {}
        self.prepare()

    def prepare(self):
        os.umask(0)
        os.chmod(self.root, 0o777)
        for name, mode, gid in [("a", 0o777, 0), ("b", 0o775, 3000), ("sticky", 0o1777, 0),
                                ("setgid", 0o2777, 3000)]:
            os.mkdir(f"{self.root}/{name}")
            os.chown(f"{self.root}/{name}", 0, gid)
            os.chmod(f"{self.root}/{name}", mode)
        os.umask(0o022)

    def run(self, script, whole_tree_every=50):
        """[(operation, what was seen)]."""
        seen = []
        os.chdir(self.root)
        for number, (user, kind, arguments) in enumerate(script):
            concerned = self.concerned(arguments)
            before = self.attributes(concerned) if self.times else None
            if self.times:
                time.sleep(0.012)  # longer than the kernel's clock tick: a change of time shows
            outcome = self.execute(user, kind, arguments)
            after = self.attributes(concerned)
            changes = self.time_changes(before, after) if self.times else None
            seen.append((outcome, _timeless(after), changes))
            if number % whole_tree_every == whole_tree_every - 1:
                seen[-1] += (self.tree(),)
        for fd in self.slots.values():
            os.close(fd)
        seen.append(self.tree())
        os.chdir("/")
        return seen

    # --- one operation --------------------------------------------------------------------

    def execute(self, user, kind, arguments):
        gid, groups = USERS[user]
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(user)
        try:
            return getattr(self, "do_" + kind)(*arguments)
        except OSError as error:
            return errno.errorcode.get(error.errno, error.errno)
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([0])

    def fd(self, slot):
        if slot not in self.slots:
            raise OSError(errno.EBADF, "empty slot")
        return self.slots[slot]

    def do_open(self, path, flags, mode, slot):
        fd = os.open(path, flags | os.O_NONBLOCK, mode)
        if slot in self.slots:
            os.close(self.slots[slot])
        self.slots[slot] = fd
        return "open"

    def do_close(self, slot):
        fd = self.fd(slot)
        del self.slots[slot]
        os.close(fd)
        return "closed"

    def do_write(self, slot, at, size, byte):
        data = bytes([byte]) * size
        fd = self.fd(slot)
        return os.write(fd, data) if at is None else os.pwrite(fd, data, at)

    def do_read(self, slot, at, size):
        fd = self.fd(slot)
        if not stat.S_ISREG(os.fstat(fd).st_mode) and not stat.S_ISDIR(os.fstat(fd).st_mode):
            return "not read"  # pipes and devices are the kernel's business
        data = os.read(fd, size) if at is None else os.pread(fd, size, at)
        return len(data), hash_of(data)

    def do_seek(self, slot, at):
        fd = self.fd(slot)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "no seek"
        return os.lseek(fd, at, os.SEEK_SET)

    def do_truncate(self, path, size):
        os.truncate(path, size)

    def do_ftruncate(self, slot, size):
        os.ftruncate(self.fd(slot), size)

    def do_fallocate(self, slot, at, size):
        os.posix_fallocate(self.fd(slot), at, size)

    def do_mkdir(self, path, mode):
        os.mkdir(path, mode)

    def do_rmdir(self, path):
        os.rmdir(path)

    def do_unlink(self, path):
        os.unlink(path)

    def do_rename(self, path, other):
        os.rename(path, other)

    def do_renameat2(self, path, other, flags):
        if _libc.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def do_link(self, path, other):
        os.link(path, other, follow_symlinks=False)

    def do_tmpfile(self, path, flags, mode, slot):
        """A file without a name in that directory."""
        return self.do_open(path, flags | os.O_TMPFILE, mode, slot)

    def do_linkfd(self, slot, path):
        fd = self.fd(slot)
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)  # so it follows

    def do_symlink(self, target, path):
        os.symlink(target, path)

    def do_readlink(self, path):
        return os.readlink(path)

    def do_chmod(self, path, mode):
        os.chmod(path, mode)

    def do_fchmod(self, slot, mode):
        os.fchmod(self.fd(slot), mode)

    def do_chown(self, path, uid, gid, follow):
        os.chown(path, uid, gid, follow_symlinks=follow)

    def do_utimes(self, path, times, follow):
        if times is None:
            os.utime(path, follow_symlinks=follow)
        else:
            os.utime(path, ns=times, follow_symlinks=follow)
            now = os.stat(path, follow_symlinks=follow)
            return now.st_atime_ns, now.st_mtime_ns

    def do_setxattr(self, path, name, value, flags):
        os.setxattr(path, name, value, flags)

    def do_getxattr(self, path, name):
        return os.getxattr(path, name)

    def do_removexattr(self, path, name):
        os.removexattr(path, name)

    def do_listxattr(self, path):
        return sorted(os.listxattr(path))

    def do_listdir(self, path):
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink())
                      for e in os.scandir(path))

    def do_mknod(self, path, mode, device):
        os.mknod(path, mode, device if stat.S_ISCHR(mode) else 0)

    def do_access(self, path, mode):
        return os.access(path, mode, effective_ids=True)

    def do_umask(self, mask):
        os.umask(mask)

    def do_stat(self, path):
        return _visible(os.stat(path))

    def do_fsync(self, slot):
        fd = self.fd(slot)
        if stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISDIR(os.fstat(fd).st_mode):
            os.fsync(fd)

    def do_statvfs(self, path):
        return os.statvfs(path).f_namemax

    # --- what is seen ---------------------------------------------------------------------

    def concerned(self, arguments):
        """The names an operation is about, and their directories."""
        paths = set()
        for argument in arguments:
            if isinstance(argument, str) and not argument.startswith(("user.", "trusted.")):
                paths.add(argument)
                paths.add(os.path.dirname(argument.rstrip("/")) or ".")
        return sorted(paths)

    def attributes(self, paths):
        found = {}
        for path in paths:
            try:
                found[path] = os.lstat(path)
            except OSError as error:
                found[path] = errno.errorcode.get(error.errno)
        for slot, fd in self.slots.items():
            found[slot] = os.fstat(fd)
        return found

    def time_changes(self, before, after):
        """For each inode seen before and after: which of its times moved."""
        changes = {}
        for key, now in after.items():
            then = before.get(key)
            if isinstance(now, os.stat_result) and isinstance(then, os.stat_result) \
                    and now.st_ino == then.st_ino:
                changes[key] = ("m" if now.st_mtime_ns != then.st_mtime_ns else "") + \
                               ("c" if now.st_ctime_ns != then.st_ctime_ns else "")
        return changes

    def tree(self):
        paths = ["."]
        for directory, folders, files in os.walk("."):
            paths += [os.path.normpath(os.path.join(directory, n)) for n in folders + files]
        found = {}
        first_name = {}  # hard links are seen as classes of names, not by number
        for path in sorted(paths):
            status = os.lstat(path)
            first = first_name.setdefault(status.st_ino, path)
            entry = _visible(status) + (first,)
            if stat.S_ISLNK(status.st_mode):
                entry += (os.readlink(path),)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    entry += (hash_of(file.read()),)
            if not stat.S_ISLNK(status.st_mode):
                entry += (sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)
                                 if not n.startswith("security.")),)
            found[path] = entry
        return found


def hash_of(data):
    return hashlib.md5(data).hexdigest()


def _visible(status):
    """Mode, links, owner, device; size except of directories, which is the file system's own."""
    size = None if stat.S_ISDIR(status.st_mode) else status.st_size
    return (oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, size,
            status.st_rdev)


def _timeless(attributes):
    return {k: _visible(v) if isinstance(v, os.stat_result) else v for k, v in attributes.items()}
