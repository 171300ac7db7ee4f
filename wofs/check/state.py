"""What the passes of one check share: the mounted image, the report, tables by AG."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from wofs.check.findings import Report, Rows
from wofs.check.owners import Columns, Spans
from wofs.check.trees import RMAPBT, AgTree
from wofs.ondisk import features as feat
from wofs.units import SECTOR_BYTES
from wofs.xfs.geometry import INODES_PER_CHUNK, agb_to_daddr, ino_to_byte
from wofs.xfs.inobt import ChunkTable, present
from wofs.xfs.mount import Mount

Tell = Callable[[int, int], None]
"""Told how much is done, of how much."""


class Inventory:
    """The inodes of one AG in columns, 64 to a chunk: what they say and what was found."""

    __slots__ = ("links", "names", "parents", "table", "type")

    def __init__(self, table: ChunkTable, with_parents: bool) -> None:
        slots = len(table) * INODES_PER_CHUNK
        self.table = table
        self.links = array("I", bytes(4 * slots))
        self.names = array("I", bytes(4 * slots))
        self.parents = array("Q", bytes(8 * slots if with_parents else 0))
        """Sums over entries and parent pointers (`attrs.py`), empty without that feature."""
        self.type = bytearray(slots)

    def slot(self, agino: int) -> int:
        """Return the slot of an inode, -1 if no chunk holds it."""
        start = self.table.startino
        at = bisect_right(start, agino) - 1
        if at < 0 or agino - start[at] >= INODES_PER_CHUNK:
            return -1
        return at * INODES_PER_CHUNK + agino - start[at]

    def agino(self, slot: int) -> int:
        """Return the inode of a slot."""
        at, bit = divmod(slot, INODES_PER_CHUNK)
        return self.table.startino[at] + bit

    def of_type(self, kind: int, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (slot, agino) of the inodes of a type in the slots from `first` to `end`."""
        slot = self.type.find(kind, first, end)
        while slot >= 0:
            yield slot, self.agino(slot)
            slot = self.type.find(kind, slot + 1, end)


_U64 = (1 << 64) - 1

TYPE_DIR = 4
"""The type of a directory."""

DAMAGED = 0xFF
"""The type of an inode in use that could not be decoded."""


class Folders:
    """All directories in ascending order of their inodes: '..' of each, and who has its name.

    0 stands for what is not known. `children` are the pairs (directory, who has a name of it)
    that were met, as one column.
    """

    __slots__ = ("children", "dotdot", "ino", "parent")

    def __init__(self) -> None:
        self.ino = array("Q")
        self.dotdot = array("Q")
        self.parent = array("Q")
        self.children = array("Q")

    def rank(self, ino: int) -> int:
        """Return the place of a directory in the columns, -1 if it is none."""
        at = bisect_left(self.ino, ino)
        return at if at < len(self.ino) and self.ino[at] == ino else -1

    def parent_of(self, ino: int) -> int:
        """Return the directory that has the name of a directory; 0 if that is not known."""
        at = self.rank(ino)
        return self.parent[at] if at >= 0 else 0


Common = tuple[Rows, list[tuple[int, Columns]], dict[int, tuple[str, int, int]], int, bytes]
"""What every unit of work may find: findings, who owns blocks of which AG, what is ahead, the
first inode with attributes, pairs of inodes and the next unlinked ones they name."""


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
        self.folders = Folders()
        self.lost_names = array("Q")
        """Directories of which some names could not be read."""
        self.no_folders = array("Q")
        """Damaged inodes that an entry says are no directories."""
        self.unlinked: set[int] = set()
        self.rmaps: set[int] = set()
        self.shares: dict[int, list[tuple[int, int, int]]] = {}
        self.ahead: dict[int, tuple[str, int, int]] = {}
        """Blocks that say they were written later than the log ends, by sector: (name, offset of
        that in bytes, when)."""
        self.first_attr = 0
        """The first inode that has attributes, 0 for none."""
        self.with_next = array("Q")
        """Pairs (inode, next unlinked one that it names)."""
        self.done = self.total = 0
        self.with_parents = bool(geo.incompat & feat.INCOMPAT_PARENT)
        self._agino_log, self._agino_mask = geo.agino_log, geo.agino_mask
        self._agblklog, self._ag_mask = geo.agblklog, geo.ag_mask

    def step(self, more: int) -> None:
        """Tell that so much more is done."""
        self.done += more
        self.tell(self.done, self.total)

    def take(self) -> Common:
        """Take out the findings and the owners noted up to now."""
        spans = [(agno, spans.take()) for agno, spans in enumerate(self.spans) if len(spans)]
        ahead, self.ahead = self.ahead, {}
        first, self.first_attr = self.first_attr, 0
        waiting, self.with_next = self.with_next.tobytes(), array("Q")
        return self.report.take(), spans, ahead, first, waiting

    def add(self, found: Common) -> None:
        """Add what another process took out of its state."""
        rows, spans, ahead, first, waiting = found
        self.report.extend(rows)
        self.ahead.update(ahead)
        self.note_attributes(first)
        self.with_next.frombytes(waiting)
        for agno, columns in spans:
            self.spans[agno].extend(columns)

    def note_attributes(self, ino: int) -> None:
        """Note that an inode (0: none) has attributes."""
        if ino and not 0 < self.first_attr < ino:
            self.first_attr = ino

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

    def count_parent(self, ino: int, parent: int, generation: int, name: bytes, sign: int) -> None:
        """Add an entry that leads to an inode to its sum (`sign` 1), or take one away (-1)."""
        inventory, slot = self.find(ino)
        if inventory is not None and slot >= 0 and inventory.parents:
            number = sign * hash((parent, generation, name))
            inventory.parents[slot] = inventory.parents[slot] + number & _U64

    def inode_offset(self, ino: int) -> int:
        """Return the byte of the image at which an inode lies."""
        return ino_to_byte(self.mount.geo, ino)

    def sector_offset(self, agno: int, sector: int) -> int:
        """Return the byte at which a header sector of an AG lies."""
        geo = self.mount.geo
        return agb_to_daddr(geo, agno, 0) * SECTOR_BYTES + sector * geo.sectsize

    def chunks(self, agno: int, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first ino, mask of those in use, mask of those free) of chunks of an AG."""
        inventory = self.inodes[agno]
        assert inventory is not None
        high, table = agno << self._agino_log, inventory.table
        for number in range(first, end):
            there, free = present(table.holemask[number]), table.free[number]
            yield high | table.startino[number], there & ~free, there & free
