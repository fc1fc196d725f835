"""name_to_handle_at(2) and open_by_handle_at(2)."""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_BYTES_MAX = 128


def handle_of(path, flags=0):
    """(type, bytes) of what is at the path; symlinks are not followed."""
    data = ctypes.create_string_buffer(struct.pack("=Ii", _BYTES_MAX, 0), 8 + _BYTES_MAX)
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(-100, os.fsencode(str(path)), data, ctypes.byref(mount_id), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    size, kind = struct.unpack_from("=Ii", data.raw)
    return kind, data.raw[8:8 + size]


def open_handle(mount_point, handle, flags=os.O_RDONLY):
    """A descriptor. OSError ESTALE where there is nothing."""
    kind, content = handle
    data = ctypes.create_string_buffer(struct.pack("=Ii", len(content), kind) + content)
    at = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = _libc.open_by_handle_at(at, data, flags)
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return fd
    finally:
        os.close(at)
