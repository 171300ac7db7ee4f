"""The log as a ring of 512-byte blocks: bounded reads and cycle numbers.

Source of the layout: `xfs_log_format.h: xlog_get_cycle`.
"""

from __future__ import annotations

import struct

from wofs.device.base import Device
from wofs.errors import Truncated, Where
from wofs.ondisk.log import BLOCK_BYTES, LOG_MAGIC

_FIRST_WORDS = struct.Struct(">II504x")


class LogArea:
    """The blocks of a log; block numbers are relative to it and wrap round its end.

    `daddr` is its start on `device`, `blocks` its length, `uuid` that of the filesystem.
    """

    def __init__(self, device: Device, daddr: int, blocks: int, uuid: bytes) -> None:
        self.device = device
        self.daddr = daddr
        self.blocks = blocks
        self.uuid = uuid

    def where(self, block: int, field: str | None = None, length: int = BLOCK_BYTES) -> Where:
        """Return the place of a block of the log, for an error."""
        obj = f"log block {block}"
        return Where(self.device.name, obj, self.daddr + block, length, field)

    def read(self, block: int, count: int) -> bytes:
        """Return `count` blocks from `block`, going on at the log's start past its end.

        `count` is at most `blocks`. Raises Truncated where the device ends first.
        """
        block %= self.blocks
        first = min(count, self.blocks - block)
        data = self._read(block, first)
        return data if first == count else data + self._read(0, count - first)

    def _read(self, block: int, count: int) -> bytes:
        want = count * BLOCK_BYTES
        data = self.device.pread((self.daddr + block) * BLOCK_BYTES, want)
        if len(data) < want:
            place = self.where(block, length=want)
            raise Truncated(place, "the image ends first", f"{want} bytes", len(data))
        return data

    def is_header(self, block: int) -> bool:
        """Whether a record header starts in `block`."""
        return int.from_bytes(self.read(block, 1)[:4], "big") == LOG_MAGIC

    def cycle(self, block: int) -> int:
        """Return the cycle that wrote `block`."""
        first, second = _FIRST_WORDS.unpack(self.read(block, 1))
        return int(second if first == LOG_MAGIC else first)

    def first_with_cycle(self, block: int, count: int, cycle: int) -> int | None:
        """Return the first of `count` blocks that `cycle` wrote, or None.

        Source: `xfs_log_recover.c: xlog_find_verify_cycle`.
        """
        words = _FIRST_WORDS.iter_unpack(self.read(block, count)) if count else ()
        for at, (first, second) in enumerate(words):
            if (second if first == LOG_MAGIC else first) == cycle:
                return block + at
        return None

    def headers(self, block: int, count: int) -> list[int]:
        """Return which of `count` blocks from `block` are record headers, in reading order."""
        words = _FIRST_WORDS.iter_unpack(self.read(block, count)) if count else ()
        return [
            (block + at) % self.blocks for at, (first, _) in enumerate(words) if first == LOG_MAGIC
        ]

    def distance(self, start: int, end: int) -> int:
        """Return the blocks from `start` forward to `end`; a whole round when equal."""
        return (end - start) % self.blocks or self.blocks
