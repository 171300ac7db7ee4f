"""What wofs reads images from: anything with a name, a size and `pread`."""

from __future__ import annotations

from typing import Protocol

from wofs.errors import StaleHandle


class Device(Protocol):
    """A read-only source of bytes.

    `name` is what messages call it, `size` its length in bytes. `pread` returns exactly the
    bytes asked for, fewer only at the end of the device; an `OSError` of the system passes
    unchanged. Safe for concurrent readers.
    """

    name: str
    size: int

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`."""
        ...

    def expect(self, offset: int, length: int) -> None:
        """Take the hint that a range will be read soon; whatever is wrong with it, no error."""
        ...

    def close(self) -> None:
        """Give the source back; reading afterwards raises."""
        ...


class BytesDevice:
    """An image held in memory, for tests and small sources."""

    def __init__(self, data: bytes, name: str = "bytes") -> None:
        self.name = name
        self.size = len(data)
        self._data: bytes | None = data

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`."""
        data = self._data
        if data is None:
            raise StaleHandle(f"{self.name}: is closed")
        return data[offset : offset + length]

    def expect(self, offset: int, length: int) -> None:
        """They are in memory."""

    def close(self) -> None:
        """Drop the bytes."""
        self._data = None
