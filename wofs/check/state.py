"""What the passes of one check share: the mounted image, the report, tables by AG."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

from wofs.check.findings import Report
from wofs.check.owners import Spans
from wofs.check.trees import RMAPBT, AgTree
from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import INODES_PER_CHUNK, agb_to_daddr, ino_to_byte
from wofs.xfs.inobt import ChunkTable, present
from wofs.xfs.mount import Mount

Tell = Callable[[int, int], None]
"""Told how much is done, of how much."""


class Inventory:
    """The inodes of one AG in columns, 64 to a chunk: what they say and what was found."""

    __slots__ = ("links", "names", "table", "type")

    def __init__(self, table: ChunkTable) -> None:
        slots = len(table) * INODES_PER_CHUNK
        self.table = table
        self.links = array("I", bytes(4 * slots))
        self.names = array("I", bytes(4 * slots))
        self.type = bytearray(slots)

    def slot(self, agino: int) -> int:
        """Return the slot of an inode, -1 if no chunk holds it."""
        start = self.table.startino
        at = bisect_right(start, agino) - 1
        if at < 0 or agino - start[at] >= INODES_PER_CHUNK:
            return -1
        return at * INODES_PER_CHUNK + agino - start[at]

    def aginos(self) -> Iterator[tuple[int, int]]:
        """Yield (slot, agino) of the sound inodes in use."""
        starts = self.table.startino
        for slot, kind in enumerate(self.type):
            if kind:
                at, bit = divmod(slot, INODES_PER_CHUNK)
                yield slot, starts[at] + bit


DAMAGED = 0xFF
"""The type of an inode in use that could not be decoded."""


class State:
    """One check of one image."""

    def __init__(self, mount: Mount, report: Report, tell: Tell) -> None:
        geo = mount.geo
        self.mount = mount
        self.report = report
        self.tell = tell
        self.agcount = geo.agcount
        self.spans = [Spans() for _ in range(geo.agcount)]
        self.inodes: list[Inventory | None] = [None] * geo.agcount
        self.parents: dict[int, int] = {}
        self.dotdot: dict[int, int] = {}
        self.names_hidden = False
        self.unlinked: set[int] = set()
        self.rmaps: set[int] = set()
        self.shares: dict[int, list[tuple[int, int, int]]] = {}
        self._agino_log, self._agino_mask = geo.agino_log, geo.agino_mask
        self._agblklog, self._ag_mask = geo.agblklog, geo.ag_mask

    def own(self, fsblock: int, count: int, owner: int, offset: int = 0) -> None:
        """Note who owns `count` blocks from `fsblock`."""
        spans = self.spans[fsblock >> self._agblklog]
        spans.add(fsblock & self._ag_mask, count, owner, offset)

    def rmap_tree(self, agno: int) -> AgTree:
        """Return the owner tree of an AG whose AGF is sound."""
        agf = self.mount.agf[agno]
        assert agf is not None
        return AgTree(self.mount, RMAPBT, agno, agf.rmap_root, agf.rmap_level)

    def find(self, ino: int) -> tuple[Inventory | None, int]:
        """Return the inventory of an inode's AG (None: unknown) and its slot in it (-1: none)."""
        agno = ino >> self._agino_log
        if agno >= self.agcount:
            return None, -1
        inventory = self.inodes[agno]
        if inventory is None:
            return None, 0
        return inventory, inventory.slot(ino & self._agino_mask)

    def follow(self, ino: int) -> int | None:
        """Count a name of an inode; return its type, 0 if it is not in use, None if unknown."""
        inventory, slot = self.find(ino)
        if inventory is None:
            return None if slot == 0 else 0
        if slot < 0:
            return 0
        inventory.names[slot] += 1
        return inventory.type[slot]

    def inode_offset(self, ino: int) -> int:
        """Return the byte of the image at which an inode lies."""
        return ino_to_byte(self.mount.geo, ino)

    def sector_offset(self, agno: int, sector: int) -> int:
        """Return the byte at which a header sector of an AG lies."""
        geo = self.mount.geo
        return agb_to_daddr(geo, agno, 0) * SECTOR_BYTES + sector * geo.sectsize

    def chunks(self, agno: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first ino, mask of those in use, mask of those free) of each chunk of an AG."""
        inventory = self.inodes[agno]
        if inventory is None:
            return
        high = agno << self._agino_log
        for start, hole, free in inventory.table:
            there = present(hole)
            yield high | start, there & ~free, there & free
