"""Images in files and on block devices, opened read-only and read by `pread`.

Never through a mapping: a truncated image would raise SIGBUS, which looks like a stray write.
"""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 30
"""Most bytes asked for in one system call; Linux moves at most 2 GiB - 4 KiB."""


class FileDevice:
    """A regular file or block device, opened O_RDONLY."""

    def __init__(self, path: str | bytes | os.PathLike[str], name: str | None = None) -> None:
        """Open `path`; raises `OSError` as the system does, and for a directory."""
        self.name = os.fsdecode(os.path.basename(os.fsencode(path))) if name is None else name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = _size_of(self._fd, path)
        except BaseException:
            os.close(self._fd)
            raise

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`, fewer only at the device's end."""
        data = os.pread(self._fd, min(length, _CHUNK), offset)
        if len(data) == length or not data:
            return data
        return self._rest(offset, length, data)

    def _rest(self, offset: int, length: int, first: bytes) -> bytes:
        """Go on after a short read until the length or the end of the device is reached."""
        parts, got = [first], len(first)
        while got < length:
            data = os.pread(self._fd, min(length - got, _CHUNK), offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _size_of(fd: int, path: str | bytes | os.PathLike[str]) -> int:
    """Return the size in bytes of an open file or block device."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{os.fsdecode(path)} is a directory, not an image")
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise OSError(f"{os.fsdecode(path)} is neither a file nor a block device")
    return os.lseek(fd, 0, os.SEEK_END)
