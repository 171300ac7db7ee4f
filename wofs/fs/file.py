"""Files of the image as Python's binary files: readable, seekable, holes and all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

from wofs.errors import ImageError
from wofs.fs.image import Image
from wofs.xfs.inode import Inode

BUFFER_BYTES = 128 << 10
CHUNK_BYTES = 1 << 20
"""Bytes that copying asks for at once."""

Segment = tuple[int, int]
"""(start, end) in bytes of a run of data."""


def add_path(error: ImageError, path: str) -> None:
    """Note on an error which path led to the damage, once."""
    note = f"path: {path}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


class RawFile(io.RawIOBase):
    """The data of one regular file; every read goes to the image."""

    def __init__(self, image: Image, inode: Inode, name: str) -> None:
        super().__init__()
        self.name = name
        self._image = image
        self._inode = inode
        self._at = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    # typeshed's Buffer has no name at run time before Python 3.12
    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Fill `buffer` from the position; 0 at the end of the file."""
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Return everything from the position to the end of the file."""
        return self._read(max(0, self._inode.size - self._at))

    def _read(self, length: int) -> bytes:
        if self.closed:
            raise ValueError("read of a closed file")
        try:
            data = self._image.mount.data.read(self._inode, self._at, length)
        except ImageError as error:
            add_path(error, self.name)
            raise
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it; knows SEEK_DATA and SEEK_HOLE."""
        size = self._inode.size
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += size
        elif whence in (os.SEEK_DATA, os.SEEK_HOLE):
            offset = self._seek_map(offset, whence == os.SEEK_DATA)
        elif whence != os.SEEK_SET:
            raise ValueError(f"invalid whence {whence}")
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        self._at = offset
        return offset

    def _seek_map(self, offset: int, data: bool) -> int:
        """Return where data, or a hole, begins at or behind `offset`; `lseek(2)`."""
        size = self._inode.size
        if not 0 <= offset < size:
            raise OSError(f"{self.name}: no data or hole at {offset}, beyond the end of the file")
        for start, end in self.segments():
            if end > offset:
                if data:
                    return max(start, offset)
                if start > offset:
                    return offset
                offset = end
        if data:
            raise OSError(f"{self.name}: no data behind {offset}")
        return min(offset, size)

    def segments(self) -> Iterator[Segment]:
        """Yield (start, end) in bytes of each run of data; all else are holes."""
        return self._image.mount.data.segments(self._inode)


class File(io.BufferedReader):
    """A buffered binary file of the image."""

    def __init__(self, raw: RawFile, buffer_size: int = BUFFER_BYTES) -> None:
        super().__init__(raw, buffer_size)
        self._file = raw

    def segments(self) -> Iterator[Segment]:
        """Yield (start, end) in bytes of each run of data; all else are holes."""
        return self._file.segments()
