"""A device with other bytes laid over some of its own; nothing is written anywhere."""

from __future__ import annotations

from wofs.device.base import Device

_PAGE_BYTES = 4096


def _pages(offset: int, length: int) -> range:
    """Return the numbers of the pages that some bytes lie in."""
    return range(offset // _PAGE_BYTES, -(-(offset + length) // _PAGE_BYTES) if length else 0)


class Overlay:
    """What `below` holds, changed in memory: later changes cover earlier ones.

    Closing leaves the device below open: it is its owner's.
    """

    def __init__(self, below: Device, name: str | None = None) -> None:
        self.name = below.name if name is None else name
        self.size = below.size
        self._below = below
        self._pages: dict[int, bytearray] = {}

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`."""
        length = max(0, min(length, self.size - offset))
        data = self._below.pread(offset, length)
        changed = [number for number in _pages(offset, len(data)) if number in self._pages]
        if not changed:
            return data
        whole, end = bytearray(data), offset + len(data)
        for number in changed:
            start = number * _PAGE_BYTES
            low, high = max(start, offset), min(start + _PAGE_BYTES, end)
            whole[low - offset : high - offset] = self._pages[number][low - start : high - start]
        return bytes(whole)

    def put(self, offset: int, value: bytes) -> None:
        """Lay `value` over what is at byte `offset`; ValueError beyond the end."""
        end = offset + len(value)
        if offset < 0 or end > self.size:
            raise ValueError(f"bytes {offset} to {end} are not in {self.name}")
        for number in _pages(offset, len(value)):
            start = number * _PAGE_BYTES
            page = self._pages.get(number)
            if page is None:
                page = bytearray(self._below.pread(start, _PAGE_BYTES))
                self._pages[number] = page
            low, high = max(start, offset), min(start + _PAGE_BYTES, end)
            page[low - start : high - start] = value[low - offset : high - offset]

    def cut(self, size: int) -> None:
        """End the device at byte `size`."""
        self.size = min(self.size, size)

    def restore(self) -> None:
        """Take all changes back."""
        self._pages.clear()
        self.size = self._below.size

    def expect(self, offset: int, length: int) -> None:
        """Pass the hint on."""
        self._below.expect(offset, length)

    def close(self) -> None:
        """Leave the device below to its owner."""
