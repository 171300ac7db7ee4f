"""Read and verify the headers of every AG: AGF, AGI, AGFL.

A damaged header costs what is reached through it and nothing else: it is reported, its
object in the slab stays all zero, and `AgHeaders` gives None for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from wofs.errors import ImageError
from wofs.ondisk.ag import AGF_KIND, AGFL_KIND, AGI_KIND, Agf, Agfl, Agi
from wofs.ondisk.kind import Kind
from wofs.record import Record, check
from wofs.xfs.buffer import Buffers
from wofs.xfs.geometry import MAX_TREE_LEVEL, Geometry, ag_length, agb_to_daddr

H = TypeVar("H", Agf, Agi, Agfl)
Row = tuple[int | bytes | tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Header:
    """One type of AG header: its sector within the AG, its record and its kind of block."""

    sector: int
    record: type[Record]
    kind: Kind


AGF = Header(1, Agf, AGF_KIND)
AGI = Header(2, Agi, AGI_KIND)
AGFL = Header(3, Agfl, AGFL_KIND)


class AgHeaders(Sequence[H | None], Generic[H]):
    """The handles of one header type by agno; None where that AG's header is damaged."""

    def __init__(self, handles: Sequence[H], agcount: int) -> None:
        self._handles: Sequence[H] = handles
        self._agcount = agcount

    def __len__(self) -> int:
        return self._agcount

    @overload
    def __getitem__(self, agno: int) -> H | None: ...
    @overload
    def __getitem__(self, agno: slice) -> Sequence[H | None]: ...
    def __getitem__(self, agno: int | slice) -> H | Sequence[H | None] | None:
        if isinstance(agno, slice):
            return [self[i] for i in range(*agno.indices(self._agcount))]
        if not 0 <= agno < self._agcount:
            raise IndexError(agno)
        if agno >= len(self._handles):
            return None
        handle = self._handles[agno]
        return handle if handle.magicnum else None


def ags_present(geo: Geometry, device_bytes: int) -> int:
    """Return how many AGs start within a device of that size."""
    ag_bytes = geo.agblocks << geo.blocklog
    return min(geo.agcount, -(-device_bytes // ag_bytes))


def header_rows(
    buffers: Buffers,
    geo: Geometry,
    header: Header,
    present: int,
    report: Callable[[ImageError], None],
) -> Iterator[Row]:
    """Yield one header type's field values for each AG from 0; zeros for a damaged one.

    `present` is how many AGs the device holds; `report` is told of each damaged header.
    """
    sectsize = geo.sectsize
    for agno in range(present):
        daddr = agb_to_daddr(geo, agno, 0) + header.sector * (sectsize >> 9)
        try:
            yield _one(buffers, header, daddr, sectsize, _context(geo, agno))
        except ImageError as error:
            report(error)
            yield _row(header.record())


def _one(
    buffers: Buffers,
    header: Header,
    daddr: int,
    sectsize: int,
    context: dict[str, object],
) -> Row:
    """Read, prove and check one header."""
    obj = f"{header.kind.name} {context['agno']}"
    block = buffers.prove(header.kind, buffers.raw(daddr, sectsize, obj), daddr, obj)
    rec = header.record.decode(block.data)
    check(rec, buffers.where(obj, daddr, sectsize), **context)
    return _row(rec)


def _row(rec: Record) -> Row:
    return tuple(getattr(rec, field.name) for field in rec.spec.fields)


def _context(geo: Geometry, agno: int) -> dict[str, object]:
    """Return the values that the headers' rules name."""
    length = ag_length(geo, agno)
    return {
        "agno": agno,
        "ag_length": length,
        "max_level": MAX_TREE_LEVEL,
        "agfl_size": geo.agfl_size,
        "meta_uuid": geo.meta_uuid,
        "first_block": geo.ag_header_blocks,
        "last_block": length - 1,
    }


def read_agi(buffers: Buffers, geo: Geometry, agno: int) -> Agi:
    """Return the verified AGI of one AG, decoded outside the slab (before it exists)."""
    daddr = agb_to_daddr(geo, agno, 0) + AGI.sector * (geo.sectsize >> 9)
    row = _one(buffers, AGI, daddr, geo.sectsize, _context(geo, agno))
    return Agi(**dict(zip((f.name for f in Agi.spec.fields), row, strict=True)))
