"""Seeded operations on one of two mounts and in a directory of the local disk alike: both mounts
together must be what one local file system is, whatever happens to either.

What one mount has not synced the other rightly does not see while the first is away (`away`): such
files are left alone until it is back."""

import errno
import os
from pathlib import Path

import harness


class Model:
    """The same operation on one of the mounts and in a directory of the local disk."""

    NAMES = ["a", "b", "c", "d/a", "d/b", "e/a", "e/b"]

    def __init__(self, rig, local, rng):
        self.rig, self.local, self.rng = rig, Path(local), rng
        self.unsynced = {True: set(), False: set()}  # by far: names written there and not synced
        self.away = None  # the mount in trouble, far or not
        self.history = []
        for root in (self.local, rig.near.point / "model"):
            root.mkdir()
            for name in ("d", "e"):
                (root / name).mkdir()

    def root(self, far):
        return (self.rig.far if far else self.rig.near.point) / "model"

    def inode(self, name):
        try:
            return os.lstat(self.local / name).st_ino
        except OSError:
            return None

    def step(self):
        rng = self.rng
        far = rng.random() < 0.5
        kind = rng.choice(["write", "write", "append", "append", "truncate", "read", "stat", "unlink",
                           "rename", "link", "mkdir", "rmdir", "list", "setxattr", "chmod"])
        name, other = rng.choice(self.NAMES), rng.choice(self.NAMES)
        if self.away is not None and far != self.away:
            if self.inode(name) in self.unsynced[self.away]:
                return
        arguments = (name, other, rng.choice([1, 4000, 4096, 70_000, 200_000]),
                     rng.randrange(256), rng.random() < 0.25)
        self.history.append(("far" if far else "near", kind, *arguments))
        outcomes = []
        for root in (self.local, self.root(far)):
            try:
                outcomes.append(getattr(self, "do_" + kind)(root, *arguments))
            except OSError as error:
                outcomes.append(errno.errorcode.get(error.errno, error.errno))
        if outcomes[0] != outcomes[1]:
            self.fail(f"{outcomes[1]!r} instead of {outcomes[0]!r}")
        inode = self.inode(name)
        if kind in ("write", "append", "truncate") and outcomes[0] == "done":
            self.unsynced[far].add(inode)
            self.unsynced[not far].discard(inode)
            if arguments[4]:
                self.unsynced[far].discard(inode)

    def fail(self, what):
        lines = "\n".join(map(str, self.history[-12:]))
        raise harness.CheckFailed(f"the mounts and the model differ: {what}; the last steps:\n{lines}")

    def do_write(self, root, name, other, size, byte, sync):
        with open(root / name, "wb", buffering=0) as file:
            file.write(bytes([byte]) * size)
            if sync:
                os.fsync(file.fileno())
        return "done"

    def do_append(self, root, name, other, size, byte, sync):
        with open(root / name, "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes([byte]) * size)
            if sync:
                os.fsync(file.fileno())
        return "done"

    def do_truncate(self, root, name, other, size, byte, sync):
        with open(root / name, "r+b", buffering=0) as file:
            os.ftruncate(file.fileno(), size)
            if sync:
                os.fsync(file.fileno())
        return "done"

    def do_read(self, root, name, other, size, byte, sync):
        return (root / name).read_bytes()

    def do_stat(self, root, name, other, size, byte, sync):
        about = os.lstat(root / name)
        return oct(about.st_mode), about.st_nlink, about.st_size if name[-1:] in "abc" else 0

    def do_unlink(self, root, name, other, size, byte, sync):
        os.unlink(root / name)

    def do_rename(self, root, name, other, size, byte, sync):
        os.rename(root / name, root / other)

    def do_link(self, root, name, other, size, byte, sync):
        os.link(root / name, root / other)

    def do_mkdir(self, root, name, other, size, byte, sync):
        os.mkdir(root / "d" / "made")

    def do_rmdir(self, root, name, other, size, byte, sync):
        os.rmdir(root / "d" / "made")

    def do_list(self, root, name, other, size, byte, sync):
        return sorted(os.listdir(root / name.split("/")[0] if "/" in name else root))

    def do_setxattr(self, root, name, other, size, byte, sync):
        os.setxattr(root / name, "user.x", b"%d" % byte,
                    os.XATTR_CREATE if sync else 0)

    def do_chmod(self, root, name, other, size, byte, sync):
        os.chmod(root / name, 0o600 | byte & 0o77)

    def tree(self, root):
        found = {}
        for directory, _, files in os.walk(root):
            found[os.path.relpath(directory, root)] = None
            for name in files:
                path = Path(directory) / name
                about = path.lstat()
                found[str(path.relative_to(root))] = (
                    oct(about.st_mode), about.st_nlink, hash(path.read_bytes()),
                    sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)))
        return found

    def compare(self):
        expected = self.tree(self.local)
        for far in (True, False):
            seen = self.tree(self.root(far))
            if seen != expected:
                keys = [k for k in set(seen) | set(expected) if seen.get(k) != expected.get(k)]
                self.fail(f"the {'far' if far else 'near'} mount has "
                          + "; ".join(f"{k}: {seen.get(k)} instead of {expected.get(k)}" for k in keys[:4]))
        self.unsynced = {True: set(), False: set()}

    def sync(self, far):
        """All that is not synced there, so that a mount may die."""
        for directory, _, files in os.walk(self.root(far)):
            for name in files:
                file = os.open(os.path.join(directory, name), os.O_RDONLY)
                os.fsync(file)
                os.close(file)
        self.unsynced[far] = set()
