"""Idmapped mounts of the kernel (mount_setattr(2)), which mount(8) makes only from util-linux 2.39 on."""

import ctypes
import os
import signal
import subprocess
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all architectures but alpha
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _AT_EMPTY_PATH = 1, 4, 0x1000
_MOUNT_ATTR_IDMAP = 0x100000
_AT_FDCWD = -100


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


def _call(number, *arguments):
    done = _libc.syscall(ctypes.c_long(number), *arguments)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def _user_namespace(uids, gids):
    """A file descriptor of a new user name space with these lines "INSIDE OUTSIDE COUNT"."""
    holder = subprocess.Popen(["unshare", "--user", "sleep", "60"])
    try:
        place = Path(f"/proc/{holder.pid}")
        own = os.readlink("/proc/self/ns/user")
        while os.readlink(place / "ns/user") == own:
            if holder.poll() is not None:
                raise OSError("unshare --user failed")
        (place / "uid_map").write_text(uids)
        (place / "gid_map").write_text(gids)
        return os.open(place / "ns/user", os.O_RDONLY)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


def mount_idmapped(source, point, uids, gids):
    """Shows the directory `source` at `point`; lines "ON-DISK SHOWN COUNT". Undone by umount(8)."""
    namespace = _user_namespace(uids, gids)
    tree = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC))
    try:
        attr = _MountAttr(set=_MOUNT_ATTR_IDMAP, userns_fd=namespace)
        _call(_MOUNT_SETATTR, tree, b"", ctypes.c_uint(_AT_EMPTY_PATH), ctypes.byref(attr),
              ctypes.c_size_t(ctypes.sizeof(attr)))
        _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(point),
              ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
    finally:
        os.close(tree)
        os.close(namespace)
