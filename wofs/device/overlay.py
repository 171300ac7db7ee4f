"""A device with other bytes laid over some of its own; nothing is written anywhere."""

from __future__ import annotations

from wofs.device.base import Device


class Overlay:
    """What `below` holds, changed in memory: later changes cover earlier ones.

    Closing leaves the device below open: it is its owner's.
    """

    def __init__(self, below: Device, name: str | None = None) -> None:
        self.name = below.name if name is None else name
        self.size = below.size
        self._below = below
        self._over: list[tuple[int, bytes]] = []

    def pread(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from byte `offset`."""
        length = max(0, min(length, self.size - offset))
        data = self._below.pread(offset, length)
        end = offset + len(data)
        for start, value in self._over:
            if start < end and start + len(value) > offset:
                whole = bytearray(data)
                low, high = max(start, offset), min(start + len(value), end)
                whole[low - offset : high - offset] = value[low - start : high - start]
                data = bytes(whole)
        return data

    def put(self, offset: int, value: bytes) -> None:
        """Lay `value` over what is at byte `offset`; ValueError beyond the end."""
        if offset < 0 or offset + len(value) > self.size:
            raise ValueError(f"bytes {offset} to {offset + len(value)} are not in {self.name}")
        self._over.append((offset, bytes(value)))

    def cut(self, size: int) -> None:
        """End the device at byte `size`."""
        self.size = min(self.size, size)

    def restore(self) -> None:
        """Take all changes back."""
        self._over.clear()
        self.size = self._below.size

    def expect(self, offset: int, length: int) -> None:
        """Pass the hint on."""
        self._below.expect(offset, length)

    def close(self) -> None:
        """Leave the device below to its owner."""
