"""Copies of images that may be written to; asked for by what damages or makes images only."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator

from wofs.device import FileDevice

_FICLONE = 0x40049409
_PIECE = 8 << 20

Progress = Callable[[int, int], None]
"""Told (bytes copied, bytes in all)."""


class Writer:
    """A file that is written to; the caller owns it and closes it."""

    def __init__(self, path: str, create: bool, durable: bool = True) -> None:
        """Open `path`, which must not exist with `create`; raises `OSError` of the system.

        One that is not `durable` is not written out when it is closed.
        """
        self._durable = durable
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        self._fd = os.open(path, flags, 0o644)

    def copy(self, device: FileDevice, told: Progress | None = None) -> None:
        """Become a copy of `device`: by reflink where the disk can, else with its holes."""
        try:
            fcntl.ioctl(self._fd, _FICLONE, device.fileno())
            return
        except OSError:
            pass  # another filesystem, or one without shared blocks
        os.ftruncate(self._fd, device.size)
        for start, end in _stored(device):
            while start < end:
                piece = device.pread(start, min(_PIECE, end - start))
                if not piece:
                    return
                self.write(start, piece)
                start += len(piece)
                if told is not None:
                    told(start, device.size)

    def write(self, offset: int, value: bytes) -> None:
        """Write bytes at `offset`, all of them."""
        view = memoryview(value)
        while view:
            done = os.pwrite(self._fd, view, offset)
            offset, view = offset + done, view[done:]

    def cut(self, size: int) -> None:
        """End the file at byte `size`."""
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Write everything out."""
        if self._durable:
            os.fsync(self._fd)
        os.close(self._fd)


def _stored(device: FileDevice) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the bytes that are stored; all of them where holes are not told."""
    fd, at = device.fileno(), 0
    while at < device.size:
        try:
            hole = os.lseek(fd, at, os.SEEK_HOLE)
        except OSError:  # a block device has none
            hole = device.size
        if hole > at:
            yield at, hole
        try:
            at = os.lseek(fd, hole, os.SEEK_DATA) if hole < device.size else hole
        except OSError:  # nothing is stored behind it
            return
