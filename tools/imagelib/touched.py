"""Whom the changes to an image touch: told by the headers of the sound image's own blocks.

Metadata of version 5 carries a magic number and the inode it belongs to, so that no reader is
needed. Source: `xfs_format.h`, `xfs_da_format.h`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARE_BYTES = 1 << 20
_STEP_BYTES = 512
_MAX_BLOCK_BYTES = 64 << 10
_MOST_CHANGED = 4096

_FORK_BLOCKS = (
    (0, b"BMA3", "extents", 24, 56),
    (0, b"XDB3", "entries", 8, 40),
    (0, b"XDD3", "entries", 8, 40),
    (0, b"XARM", "attributes", 40, 32),
    (0, b"XSLM", "target", 40, 32),
    (8, b"\x3b\xee", "attributes", 16, 48),
    (8, b"\x3d\xf1", "hashes", 16, 48),
    (8, b"\x3d\xff", "hashes", 16, 48),
    (8, b"\x3e\xbe", "node", 16, 48),
)
"""(where the magic lies, magic, what the block holds of its inode, where its own sector and
where the inode's number lie)."""

_SHOWN_BY_PART = {"extents": "hs", "target": "l", "attributes": "x"}
_COUNTS_AT = 56

_SHOWN_BY_FIELD = (
    (2, 4, ("m",)),
    (8, 12, ("u",)),
    (12, 16, ("g",)),
    (16, 20, ("n",)),
    (40, 48, ("mt",)),
    (48, 56, ("ct",)),
    (56, 64, ("z", "h", "s")),
    (64, 72, ("k",)),
    (76, 84, ("x", "h", "s", "l")),
    (120, 128, ("mt", "ct", "bt")),
    (144, 152, ("bt",)),
    (176, 1 << 16, ("h", "s", "l", "x", "r")),
)
"""Manifest keys that show bytes of an inode: (first, end, keys)."""


@dataclass(frozen=True)
class Touch:
    """A changed byte of an inode or of a block of its own.

    `part` is "inode", "extents", "entries", "target", "attributes", "hashes" (a leaf of a
    directory's index) or "node"; `offset` is the byte within that inode or block.
    """

    ino: int
    part: str
    offset: int

    @property
    def keys(self) -> frozenset[str]:
        """The manifest keys of the inode that may show the change."""
        if self.part != "inode":
            return frozenset(_SHOWN_BY_PART.get(self.part, ""))
        for start, end, keys in _SHOWN_BY_FIELD:
            if start <= self.offset < end:
                return frozenset(keys)
        return frozenset()

    @property
    def of_entries(self) -> bool:
        """Whether the change may move, rename or hide what a directory holds."""
        return self.part in ("entries", "extents") or (self.part == "inode" and self.offset >= 56)

    @property
    def of_hashes(self) -> bool:
        """Whether a name may not be found by its hash: only reading all names would tell."""
        return self.part == "hashes" and self.offset >= _COUNTS_AT


def touches(base: Path, image: Path, inode_bytes: int) -> set[Touch]:
    """Return whom the differing bytes of `image` belong to in the sound image `base`."""
    found: set[Touch] = set()
    if not base.stat().st_size or not image.stat().st_size:
        return found
    with base.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as sound:
        for at in _changed(sound, image):
            touch = _owner(sound, at, inode_bytes)
            if touch is not None:
                found.add(touch)
    return found


def _changed(sound: mmap.mmap, image: Path) -> Iterator[int]:
    """Yield every byte that differs, up to `_MOST_CHANGED`; the end of a cut file is none."""
    left = _MOST_CHANGED
    with image.open("rb") as f:
        size = min(len(sound), os.fstat(f.fileno()).st_size)
        for start in range(0, size, _COMPARE_BYTES):
            here = f.read(_COMPARE_BYTES)
            there = sound[start : start + len(here)]
            here = here[: len(there)]
            if here == there:
                continue
            for at, (a, b) in enumerate(zip(here, there, strict=True), start):
                if a != b and left:
                    left -= 1
                    yield at


def _owner(sound: mmap.mmap, at: int, inode_bytes: int) -> Touch | None:
    """Return what the byte at `at` belongs to, None for what belongs to no inode."""
    start = at - at % inode_bytes
    if sound[start : start + 2] == b"IN":
        number = int.from_bytes(sound[start + 152 : start + 160], "big")
        return Touch(number, "inode", at - start)
    first = max(0, at - _MAX_BLOCK_BYTES)
    for start in range(at - at % _STEP_BYTES, first - 1, -_STEP_BYTES):
        for magic_at, magic, part, address_at, owner_at in _FORK_BLOCKS:
            if sound[start + magic_at : start + magic_at + len(magic)] != magic:
                continue
            own = int.from_bytes(sound[start + address_at : start + address_at + 8], "big")
            if own * _STEP_BYTES == start:
                owner = int.from_bytes(sound[start + owner_at : start + owner_at + 8], "big")
                return Touch(owner, part, at - start)
    return None
