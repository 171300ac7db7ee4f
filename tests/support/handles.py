"""File handles, as an NFS server uses them: name_to_handle_at(2), open_by_handle_at(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_ROOM = 128


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def of(path: Path) -> bytes:
    """Return the handle of a file."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", _ROOM, 0), 8 + _ROOM)
    mount = ctypes.c_int()
    _checked(_libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), 0))
    length = struct.unpack_from("=I", buffer.raw)[0]
    return buffer.raw[: 8 + length]


def opened(top: Path, handle: bytes) -> int:
    """Open the file of a handle, on the mount at `top`; return its descriptor."""
    mount = os.open(top, os.O_RDONLY)
    try:
        buffer = ctypes.create_string_buffer(handle, len(handle))
        return _checked(_libc.open_by_handle_at(mount, buffer, os.O_RDONLY))
    finally:
        os.close(mount)


def of_fuse(node: int, generation: int) -> bytes:
    """Return the handle that FUSE makes of a node (`fs/fuse/inode.c: fuse_encode_fh`)."""
    return struct.pack("=IiIII", 12, 0x81, node >> 32, node & 0xFFFFFFFF, generation)
