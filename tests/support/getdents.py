"""Directories as getdents64(2) gives them: entry by entry, with cookie and type."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

Dirent = tuple[int, int, int, bytes]
"""(inode number, cookie of what follows, d_type, name)"""


def once(fd: int, size: int = 65536) -> list[Dirent]:
    """Return what one call with a buffer of `size` bytes gives; [] at the end."""
    buffer = ctypes.create_string_buffer(size)
    got = _libc.getdents64(fd, buffer, ctypes.c_size_t(size))
    if got < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return list(_parsed(buffer.raw[:got]))


def _parsed(raw: bytes) -> Iterator[Dirent]:
    at = 0
    while at < len(raw):
        ino, offset, length, kind = struct.unpack_from("=QqHB", raw, at)
        yield ino, offset, kind, raw[at + 19 : at + length].split(b"\0")[0]
        at += length


def whole(path: Path | bytes, size: int = 65536) -> list[Dirent]:
    """Return all entries of a directory, read with buffers of `size` bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = []
        while part := once(fd, size):
            found += part
        return found
    finally:
        os.close(fd)
