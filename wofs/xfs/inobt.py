"""The inode btrees: which inode numbers are in use.

A second witness beside the inode itself. A damaged tree costs nothing: it is reported, and
the inodes' own evidence (magic, number, checksum, mode) stands alone. Source:
`xfs_ialloc.c: xfs_inobt_check_irec`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, MutableSequence

from wofs.errors import BadField, ImageError
from wofs.ondisk.ag import Agi
from wofs.ondisk.btree import InobtFullRecord, InobtRecord
from wofs.xfs.btree import INOBT, Tree, leaves
from wofs.xfs.buffer import Block, Buffers
from wofs.xfs.geometry import INODES_PER_CHUNK, Geometry, ag_length
from wofs.xfs.kept import KIND_OF, Form
from wofs.xfs.volume import Volume

CACHED_BYTES = 8 << 20
"""Most that chunk tables take up, over all AGs; the AG in use is always kept."""

_ALL = (1 << INODES_PER_CHUNK) - 1

Chunk = tuple[int, int, int]
"""(startino, holemask, free) of one record; the free mask has holes set too."""


class ChunkTable:
    """All chunk records of one AG, in columns, ordered by their first inode."""

    __slots__ = ("free", "holemask", "startino")

    def __init__(self) -> None:
        self.startino: MutableSequence[int] = array("I")
        self.holemask: MutableSequence[int] = array("H")
        self.free: MutableSequence[int] = array("Q")

    def __len__(self) -> int:
        return len(self.startino)

    def __iter__(self) -> Iterator[Chunk]:
        return zip(self.startino, self.holemask, self.free, strict=True)

    def chunk(self, agino: int) -> tuple[int, int]:
        """Return the first inode of the chunk that holds `agino` and a mask of those not in use.

        Where no chunk holds it: the inode itself and a mask with all bits set.
        """
        at = bisect_right(self.startino, agino) - 1
        if at < 0 or agino - self.startino[at] >= INODES_PER_CHUNK:
            return agino, _ALL
        return self.startino[at], self.free[at] | spread(self.holemask[at])

    def problem(self, agino: int) -> str:
        """Say why an inode is not in use by this table; "" if it is."""
        at = bisect_right(self.startino, agino) - 1
        bit = agino - self.startino[at] if at >= 0 else INODES_PER_CHUNK
        if bit >= INODES_PER_CHUNK:
            return "in no chunk of the inode btree"
        if self.holemask[at] >> (bit >> 2) & 1:
            return "in a hole of a sparse chunk"
        if self.free[at] >> bit & 1:
            return "free by the inode btree"
        return ""


def _weight(table: ChunkTable) -> int:
    """Return about how many bytes a table holds."""
    return 400 + 14 * len(table)


_CHUNK_BYTES = 14


def _encode(table: ChunkTable) -> bytes:
    """Write a table down: one column after the other, in native words."""
    columns = (("Q", table.free), ("I", table.startino), ("H", table.holemask))
    return b"".join([array(code, iter(column)).tobytes() for code, column in columns])


def _decode(_agno: int, written: memoryview) -> ChunkTable:
    """Return the table that was written down; it reads the bytes where they lie."""
    table = ChunkTable.__new__(ChunkTable)
    n = len(written) // _CHUNK_BYTES
    table.free = written[: 8 * n].cast("Q")  # type: ignore[assignment]
    table.startino = written[8 * n : 12 * n].cast("I")  # type: ignore[assignment]
    table.holemask = written[12 * n :].cast("H")  # type: ignore[assignment]
    return table


def _identify(agno: int) -> tuple[int, int, int]:
    return KIND_OF["inobt chunks"], agno, 0


_FORM = Form("inobt chunks", _identify, _encode, _decode)


class Inobt:
    """The inode btrees of all AGs, read when first needed."""

    def __init__(self, vol: Volume) -> None:
        self._vol = vol
        self._tables = vol.keeper.cache(CACHED_BYTES, _weight, _FORM)
        self._damaged: set[int] = set()

    def table(self, agno: int) -> ChunkTable | None:
        """Return the chunks of AG `agno`; None where its tree is damaged (then reported)."""
        found = self._tables.get(agno)
        if found is not None or agno in self._damaged:
            return found
        agi = self._vol.agi[agno]
        try:
            if agi is None:
                table = None
            else:
                table = read_chunks(self._vol.buffers, self._vol.geo, agno, agi)
        except ImageError as error:
            self._vol.report(error)
            table = None
        if table is None:
            self._damaged.add(agno)
        else:
            self._tables.put(agno, table)
        return table

    def chunk(self, ino: int) -> tuple[int, int]:
        """Return the first inode of the chunk that holds `ino` and a mask of those not in use.

        Where the AG's tree is damaged, the inodes' own evidence stands: the mask is 0.
        """
        log, mask = self._vol.geo.agino_log, self._vol.geo.agino_mask
        table = self.table(ino >> log)
        if table is None:
            return ino, 0
        start, unused = table.chunk(ino & mask)
        return (ino & ~mask) + start, unused

    def problem(self, ino: int) -> str:
        """Say why an inode is not in use by its AG's tree; "" if it is."""
        geo = self._vol.geo
        table = self.table(ino >> geo.agino_log)
        return table.problem(ino & geo.agino_mask) if table is not None else ""


def read_chunks(
    buffers: Buffers,
    geo: Geometry,
    agno: int,
    agi: Agi,
    tree: Tree = INOBT,
    visited: set[int] | None = None,
) -> ChunkTable:
    """Read and verify every record of one AG's inode btree, or of its finobt if that is `tree`.

    `visited` collects the tree's blocks.
    """
    table = ChunkTable()
    whole = tree is INOBT
    obj = f"{'inobt' if whole else 'finobt'} {agno}"
    root, level = (agi.root, agi.level) if whole else (agi.free_root, agi.free_level)
    first, limit = geo.ag_header_blocks << geo.inopblog, (ag_length(geo, agno) << geo.inopblog) - 1
    sparse = bool(geo.has_sparse)
    align = min(INODES_PER_CHUNK, geo.inopblock)
    last = -INODES_PER_CHUNK
    walk = leaves(buffers, geo, tree, [root], level - 1, agno, obj, visited=visited)
    for block, numrecs in walk:
        for start, hole, count, freecount, free in _records(block, numrecs, sparse):
            problem = _record_problem(start, hole, count, freecount, free, align)
            if start - last < INODES_PER_CHUNK:
                problem = f"overlaps or precedes the record at {last}"
            if start > limit or (not hole and start + INODES_PER_CHUNK - 1 > limit):
                problem = f"leaves the AG, whose last inode is {limit}"
            if start < first:
                problem = f"lies in the AG's headers, before inode {first}"
            if problem:
                place = buffers.where(block.obj, block.daddr, len(block.data), "startino")
                raise BadField(place, f"the record {problem}", found=start)
            last = start
            table.startino.append(start)
            table.holemask.append(hole)
            table.free.append(free)
    return table


def _records(block: Block, numrecs: int, sparse: bool) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (startino, holemask, count, freecount, free) of a leaf's records."""
    if sparse:
        yield from InobtRecord.iter(block.data, INOBT.header, numrecs)
        return
    for start, freecount, free in InobtFullRecord.iter(block.data, INOBT.header, numrecs):
        yield start, 0, INODES_PER_CHUNK, freecount, free


def _record_problem(
    start: int, hole: int, count: int, freecount: int, free: int, align: int
) -> str:
    """Say which rule a record breaks by itself; "" if none."""
    if start % align:
        return f"does not start at a multiple of {align} inodes"
    missing = hole.bit_count() * 4
    if count != INODES_PER_CHUNK - missing:
        return f"counts {count} inodes, its holemask leaves {INODES_PER_CHUNK - missing}"
    really_free = (free & present(hole)).bit_count()
    if freecount != really_free:
        return f"counts {freecount} free inodes, its mask has {really_free}"
    return ""


def present(hole: int) -> int:
    """Return the mask of inodes of a chunk that a hole mask does not leave out."""
    return _ALL & ~spread(hole)


def spread(hole: int) -> int:
    """Return the mask of inodes that a hole mask, one bit for four of them, leaves out."""
    mask = 0
    for bit in range(16 if hole else 0):
        if hole >> bit & 1:
            mask |= 0xF << bit * 4
    return mask


def first_inode(buffers: Buffers, geo: Geometry, agi: Agi) -> int:
    """Return the lowest inode of AG 0: mkfs makes the root directory there."""
    table = read_chunks(buffers, geo, 0, agi)
    if not len(table):
        raise BadField(buffers.where("inobt 0"), "has no record: the root cannot be found")
    return table.startino[0]
