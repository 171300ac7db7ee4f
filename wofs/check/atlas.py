"""A map of an image: which part of each AG is what, and where the findings lie.

Gathered at the end of a check that is asked for it, from the owners it has noted anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wofs.check.findings import Finding
from wofs.check.owners import (
    ATTR,
    BMBT,
    OWN_AG,
    OWN_COW,
    OWN_FREE,
    OWN_FS,
    OWN_INOBT,
    OWN_INODES,
    OWN_LOG,
    OWN_REFC,
    Spans,
)
from wofs.check.state import TYPE_DIR, State
from wofs.xfs.geometry import ag_length

COLUMNS = 240
"""Pieces that a row of the map is cut into."""

ROWS = 64
"""Rows at most; of more AGs some share one."""

FREE, DATA, FOLDERS, INODES, ATTRIBUTES, TREES, LOG, HEADERS, NOBODY = KINDS = (
    "free space", "file data", "directories", "inodes", "attributes", "btrees and reserves",
    "log", "AG headers", "not known",
)  # fmt: skip
METADATA = (FOLDERS, INODES, ATTRIBUTES, TREES, LOG, HEADERS)

_KIND_OF = {
    OWN_FREE: FREE, OWN_FS: HEADERS, OWN_LOG: LOG, OWN_AG: TREES, OWN_INOBT: TREES,
    OWN_INODES: INODES, OWN_REFC: TREES, OWN_COW: TREES,
}  # fmt: skip


@dataclass(slots=True)
class Mark:
    """A finding on the map: the piece it lies in."""

    finding: Finding
    row: int
    column: int


@dataclass(slots=True)
class Atlas:
    """The map; empty until a check has filled it.

    `rows` are the AGs of each row (first, end), `pieces` the blocks of each kind in each piece
    of a row, `totals` those of the whole image, `marks` the findings that have a place.
    """

    blocksize: int = 0
    blocks: int = 0
    agcount: int = 0
    inodes: int = 0
    rows: list[tuple[int, int]] = field(default_factory=list)
    pieces: list[list[Counter[str]]] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    marks: list[Mark] = field(default_factory=list)

    def fill(self, state: State) -> None:
        """Draw what a check that is done has found."""
        geo = state.mount.geo
        self.blocksize, self.blocks, self.agcount = geo.blocksize, geo.dblocks, geo.agcount
        self.inodes = sum(len(i.type) - i.type.count(0) for i in state.inodes if i is not None)
        share = -(-geo.agcount // ROWS)
        starts = range(0, geo.agcount, share)
        self.rows = [(first, min(first + share, geo.agcount)) for first in starts]
        for first, end in self.rows:
            pieces: list[Counter[str]] = [Counter() for _ in range(COLUMNS)]
            for agno in range(first, end):
                part = slice(*(COLUMNS * (n - first) // (end - first) for n in (agno, agno + 1)))
                _paint(state, state.spans[agno], ag_length(geo, agno), pieces[part])
            self.pieces.append(pieces)
            for piece in pieces:
                self.totals += piece
        self.marks = [m for f in state.report.findings if (m := self._mark(state, f))]

    def _mark(self, state: State, finding: Finding) -> Mark | None:
        """Return where a finding lies: its byte, its inode, or else its AG's first."""
        geo, byte = state.mount.geo, finding.offset
        if byte is None and finding.ino is not None:
            byte = state.inode_offset(finding.ino)
        if byte is None and finding.agno is not None:
            byte = finding.agno * geo.agblocks << geo.blocklog
        if byte is None or not 0 <= byte >> geo.blocklog < geo.dblocks:
            return None
        agno, agbno = divmod(byte >> geo.blocklog, geo.agblocks)
        row = next(n for n, (first, end) in enumerate(self.rows) if first <= agno < end)
        first, end = self.rows[row]
        left, right = (COLUMNS * (n - first) // (end - first) for n in (agno, agno + 1))
        column = left + agbno * (right - left) // ag_length(geo, agno)
        return Mark(finding, row, column)


def _paint(state: State, spans: Spans, length: int, pieces: Sequence[Counter[str]]) -> None:
    """Add the blocks of an AG of that length to the pieces of a row that are its."""
    count = len(pieces)
    starts = [length * number // count for number in range(count + 1)]
    reached = 0
    for start, blocks, owner, offset in spans:
        end = min(start + blocks, length)
        start = max(start, reached)  # what is shared counts once
        if start >= end:
            continue
        kind = _KIND_OF.get(owner) or _kind_of_file(state, owner, offset)
        _add(pieces, starts, reached, start, NOBODY)
        _add(pieces, starts, start, end, kind)
        reached = end
    _add(pieces, starts, reached, length, NOBODY)


def _add(
    pieces: Sequence[Counter[str]], starts: list[int], start: int, end: int, kind: str
) -> None:
    """Add blocks from `start` to `end` to the pieces they lie in."""
    at = start * len(pieces) // starts[-1]
    while start < end:
        while starts[at + 1] <= start:
            at += 1
        stop = min(end, starts[at + 1])
        pieces[at][kind] += stop - start
        start = stop


def _kind_of_file(state: State, ino: int, offset: int) -> str:
    if offset & BMBT:
        return TREES
    if offset & ATTR:
        return ATTRIBUTES
    inventory, slot = state.find(ino)
    if inventory is None or slot < 0:
        return DATA
    return FOLDERS if inventory.type[slot] == TYPE_DIR else DATA
