"""POSIX ACLs as bytes, random operations with them, and what is seen of a tree that has them."""

import errno
import os
import stat
import struct

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NO_ID = 0xFFFFFFFF
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHERS = 1, 2, 4, 8, 16, 32
USERS = (0, 1001, 1002)  # each with a group of the same number; 1002 is in 1001's as well
PATHS = ("a", "b", "c", "a/x", "a/y", "b/x", "b/z", "a/x/p", "a/x/q", "b/x/p")


def encode(entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def decode(data):
    return [struct.unpack_from("<HHI", data, at) for at in range(4, len(data), 8)]


def acl(owner, group, others, users=(), groups=(), mask=7):
    """users, groups: pairs of id and permissions."""
    entries = [(OWNER, owner, NO_ID)] + [(USER, bits, who) for who, bits in users]
    entries += [(OWNING_GROUP, group, NO_ID)] + [(GROUP, bits, who) for who, bits in groups]
    if users or groups:
        entries.append((MASK, mask, NO_ID))
    return encode(entries + [(OTHERS, others, NO_ID)])


def random_acl(rng):
    some = [(who, rng.randrange(8)) for who in rng.sample((0, 1001, 1002, 77), rng.randrange(3))]
    more = [(who, rng.randrange(8)) for who in rng.sample((1001, 1002, 78), rng.randrange(3))]
    data = acl(*(rng.randrange(8) for _ in range(3)), users=some, groups=more, mask=rng.randrange(8))
    if rng.random() < 0.12:  # most of these are none
        data = bytearray(data)
        data[rng.randrange(len(data))] = rng.randrange(256)
        data = bytes(data)
    return data


def random_script(rng, length):
    kinds = ("mkdir", "create", "create", "mkdir", "fifo", "symlink", "unnamed", "chmod", "chown", "set", "set",
             "set_default", "set_default", "remove", "read", "write", "search", "rename", "link", "unlink",
             "umask", "look", "truncate")
    script = [("mkdir", 0, "a", "b", 0o777, b""), ("mkdir", 0, "b", "a", 0o777, b"")]
    for _ in range(length):
        script.append((rng.choice(kinds), rng.choice(USERS + (0, 0)), rng.choice(PATHS), rng.choice(PATHS),
                       rng.choice((0o777, 0o666, 0o640, 0o2775, 0o700, 0o022, 0o007, rng.randrange(0o10000))),
                       random_acl(rng)))
    return script


def attribute(path, name, **named):
    """Its entries; an errno's name."""
    try:
        return decode(os.getxattr(path, name, **named))
    except OSError as error:
        return errno.errorcode[error.errno]


def look(path):
    seen = os.lstat(path)
    link = stat.S_ISLNK(seen.st_mode)
    return (oct(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_nlink,
            [] if link else [attribute(path, ACCESS), attribute(path, DEFAULT)],
            sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("system.")))


def operate(kind, path, other, mode, data):
    if kind == "mkdir":
        os.mkdir(path, mode & 0o1777)
    elif kind == "create":
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    elif kind == "fifo":
        os.mkfifo(path, mode & 0o777)
    elif kind == "symlink":
        os.symlink("nowhere", path)
    elif kind == "unnamed":
        fd = os.open(os.path.dirname(path) or ".", os.O_TMPFILE | os.O_RDWR, mode & 0o777)
        try:
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)  # AT_SYMLINK_FOLLOW
        finally:
            os.close(fd)
    elif kind == "chmod":
        os.chmod(path, mode)
    elif kind == "chown":
        os.chown(path, USERS[mode % 3], USERS[mode // 3 % 3])
    elif kind == "set":
        os.setxattr(path, ACCESS, data)
    elif kind == "set_default":
        os.setxattr(path, DEFAULT, data)
    elif kind == "remove":
        os.removexattr(path, ACCESS if mode % 2 else DEFAULT)
    elif kind in ("read", "write"):
        flags = os.O_RDONLY if kind == "read" else os.O_WRONLY
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW))
    elif kind == "search":
        return os.path.exists(path + "/x"), sorted(os.listdir(path))
    elif kind == "rename":
        os.rename(path, other)
    elif kind == "link":
        os.link(path, other)
    elif kind == "unlink":
        (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
    elif kind == "umask":
        os.umask(mode & 0o777)
    elif kind == "truncate":
        os.truncate(path, 5)
    elif kind == "look":
        return look(path)
    return "done"


def run(root, script):
    """In a process of its own. What each operation gave, and all there is at the end."""
    os.chdir(root)
    os.umask(0o022)
    seen = []
    for kind, user, path, other, mode, data in script:
        os.setgroups([1001] if user == 1002 else [])
        os.setegid(user)
        os.seteuid(user)
        try:
            seen.append(operate(kind, path, other, mode, data))
        except OSError as error:
            seen.append(errno.errorcode[error.errno])
        os.seteuid(0)
        os.setegid(0)
    for at, directories, files in os.walk("."):
        directories.sort()
        seen += [(os.path.join(at, name), look(os.path.join(at, name))) for name in sorted(directories + files)]
    return seen
