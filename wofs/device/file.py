"""Images in files and on block devices, opened read-only and read by `pread`.

Never through a mapping: a truncated image would raise SIGBUS, which looks like a stray write.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from wofs.errors import StaleHandle

_CHUNK = 1 << 30
"""Most bytes asked for in one system call; Linux moves at most 2 GiB - 4 KiB."""


class FileDevice:
    """A regular file or block device, opened O_RDONLY."""

    def __init__(self, path: str | bytes | os.PathLike[str], name: str | None = None) -> None:
        """Open `path`; raises `OSError` as the system does, and for what is no image file."""
        self._take(open_image(path), base_name(path) if name is None else name)

    @classmethod
    def of(cls, fd: int, name: str) -> FileDevice:
        """Return a device of an open file, which it owns from now on."""
        device = cls.__new__(cls)
        device._take(fd, name)
        return device

    def _take(self, fd: int, name: str) -> None:
        self._open: _Descriptor | None = _Descriptor(fd)
        self.name = name
        self.size = os.lseek(fd, 0, os.SEEK_END)

    def fileno(self) -> int:
        """Return the descriptor's number; StaleHandle when the device is closed."""
        return self._held().number

    def _held(self) -> _Descriptor:
        held = self._open
        if held is None:
            raise StaleHandle(f"{self.name}: is closed")
        return held

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`, fewer only at the device's end."""
        held = self._held()  # so that the number is not another file's before the read is done
        data = os.pread(held.number, min(length, _CHUNK), offset)
        if len(data) == length or not data:
            return data
        return _rest(held.number, offset, length, data)

    def expect(self, offset: int, length: int) -> None:
        """Let the system read a range into its cache meanwhile."""
        with suppress(OSError):
            os.posix_fadvise(self._held().number, offset, length, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Give the file back, once the reads under way are done; a second call does nothing."""
        self._open = None


class _Descriptor:
    """A descriptor that is closed when the last who holds this object lets it go."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


def _rest(fd: int, offset: int, length: int, first: bytes) -> bytes:
    """Go on after a short read until the length or the end of the device is reached."""
    parts, got = [first], len(first)
    while got < length:
        data = os.pread(fd, min(length - got, _CHUNK), offset + got)
        if not data:
            break
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def base_name(path: str | bytes | os.PathLike[str]) -> str:
    """Return what messages call the image at `path`."""
    return os.path.basename(os.fsdecode(path))


def open_image(path: str | bytes | os.PathLike[str]) -> int:
    """Return a descriptor, read-only, of a regular file or block device.

    Raises `OSError` as the system does, and for anything else; a pipe does not make it wait.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    fd = os.open(path, flags | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{os.fsdecode(path)}: is a directory, not an image")
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise OSError(f"{os.fsdecode(path)}: is neither a file nor a block device")
        if stat.S_ISBLK(mode):
            again = os.open(path, flags)  # so that a drive looks for its medium
            os.close(fd)
            fd = again
    except BaseException:
        os.close(fd)
        raise
    return fd
