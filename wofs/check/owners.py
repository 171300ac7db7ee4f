"""Who owns which blocks: per AG three columns of numbers, sorted when all are known.

Owners are those of the rmapbt (`xfs_format.h: XFS_RMAP_OWN_*`): an inode number, or one of
the special values near 2^64. An extent takes 24 bytes here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

U64 = 1 << 64
OWN_FREE = U64 - 1
OWN_FS, OWN_LOG, OWN_AG, OWN_INOBT, OWN_INODES, OWN_REFC, OWN_COW = (U64 - n for n in range(3, 10))
OWNER_NAMES = {
    OWN_FREE: "free space",
    OWN_FS: "AG headers",
    OWN_LOG: "the log",
    OWN_AG: "the free-space or owner btrees",
    OWN_INOBT: "the inode btrees",
    OWN_INODES: "inode chunks",
    OWN_REFC: "the share btree",
    OWN_COW: "copy-on-write reserve",
}
ATTR, BMBT, UNWRITTEN = 1 << 63, 1 << 62, 1 << 61
OFFSET_MASK = (1 << 54) - 1

Span = tuple[int, int, int, int]
"""(first agbno, blocks, owner, offset with the flags ATTR, BMBT, UNWRITTEN)."""


def owner_name(owner: int, offset: int) -> str:
    """Return an owner in words."""
    if owner in OWNER_NAMES:
        return OWNER_NAMES[owner]
    fork = "attribute" if offset & ATTR else "data"
    return f"inode {owner} ({fork} fork{' btree' if offset & BMBT else ''})"


Columns = tuple[bytes, bytes, bytes]
"""The three columns of `Spans`, as bytes."""


class Spans:
    """The owned extents of one AG."""

    __slots__ = ("offset", "owner", "place")

    def __init__(self) -> None:
        self.place = array("Q")
        self.owner = array("Q")
        self.offset = array("Q")

    def add(self, agbno: int, count: int, owner: int, offset: int = 0) -> None:
        """Note that `count` blocks from `agbno` are `owner`'s."""
        self.place.append(agbno << 32 | count)
        self.owner.append(owner)
        self.offset.append(offset)

    def __len__(self) -> int:
        return len(self.place)

    def take(self) -> Columns:
        """Take everything out."""
        out = self.place.tobytes(), self.owner.tobytes(), self.offset.tobytes()
        for column in (self.place, self.owner, self.offset):
            del column[:]
        return out

    def extend(self, columns: Columns) -> None:
        """Put in what was taken out elsewhere."""
        for column, more in zip((self.place, self.owner, self.offset), columns, strict=True):
            column.frombytes(more)

    def __iter__(self) -> Iterator[Span]:
        for index in sorted(range(len(self.place)), key=self.place.__getitem__):
            place = self.place[index]
            yield place >> 32, place & 0xFFFFFFFF, self.owner[index], self.offset[index]


def may_share(owner: int, offset: int) -> bool:
    """Whether this owner's blocks may be others' too: file data alone."""
    return owner < OWN_COW and not offset & (ATTR | BMBT)


def runs_of(spans: Iterator[Span]) -> list[tuple[int, int, int, int]]:
    """Return spans joined where they continue each other: (owner, key, start, end), sorted.

    The key is the offset's flags and the distance of file offset and block, so that two
    descriptions of the same mapping give equal lists however they are cut.
    """
    keyed = []
    for start, count, owner, offset in spans:
        flags = offset & (ATTR | BMBT | UNWRITTEN)
        plain = owner >= OWN_COW or offset & BMBT
        key = flags if plain else flags | ((offset & OFFSET_MASK) - start) & OFFSET_MASK
        keyed.append((owner, key, start, start + count))
    keyed.sort()
    out: list[tuple[int, int, int, int]] = []
    for owner, key, start, end in keyed:
        if out and out[-1][:2] == (owner, key) and start <= out[-1][3]:
            out[-1] = (owner, key, out[-1][2], max(end, out[-1][3]))
        else:
            out.append((owner, key, start, end))
    return out


def sharing(cluster: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, how many) of what two or more of the (start, end) spans cover."""
    edges = sorted([(start, 1) for start, _ in cluster] + [(end, -1) for _, end in cluster])
    depth, last = 0, 0
    for at, step in edges:
        if depth > 1 and at > last:
            yield last, at, depth
        depth, last = depth + step, at
