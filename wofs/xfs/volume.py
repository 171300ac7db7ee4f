"""What every reader of a mounted image shares: its device, its blocks, its mount structures.

The mount structures (`sb`, `geo`, `log`, `options`, `agf`, `agi`, `agfl`) are handles of
objects in write-once memory and their only copy: read a field where it is needed, keep it in
a local for one operation at most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from wofs.device.base import Device
from wofs.errors import ImageError, Where
from wofs.ondisk.ag import Agf, Agfl, Agi
from wofs.ondisk.sb import Superblock
from wofs.record import Record
from wofs.slab import Arena
from wofs.xfs.buffer import Buffers
from wofs.xfs.geometry import Geometry
from wofs.xfs.kept import Keeper
from wofs.xfs.log import LogState
from wofs.xfs.options import MountOptions

log = logging.getLogger("wofs.image")

_REPORTS_KEPT = 10_000
"""Damaged places remembered so as to be logged once; beyond that the log may repeat."""


class Volume:
    """A verified image: the state that readers of inodes, extents and directories share."""

    def __init__(
        self,
        device: Device,
        buffers: Buffers,
        arena: Arena,
        sb: Superblock,
        geo: Geometry,
        log_state: LogState,
        options: MountOptions,
        agf: Sequence[Agf | None],
        agi: Sequence[Agi | None],
        agfl: Sequence[Agfl | None],
        keeper: Keeper,
    ) -> None:
        self.device = device
        self.buffers = buffers
        self.arena = arena
        self.sb = sb
        self.geo = geo
        self.log = log_state
        self.options = options
        self.agf = agf
        self.agi = agi
        self.agfl = agfl
        self.keeper = keeper
        self._reported: set[str] = set()

    def structures(self) -> Iterator[tuple[str, Record]]:
        """Yield (name, handle) of every sound mount structure; names as in crash reports."""
        singles = {"superblock": self.sb, "geometry": self.geo, "log": self.log}
        yield from {**singles, "options": self.options}.items()
        headers: dict[str, Sequence[Record | None]]
        headers = {"agf": self.agf, "agi": self.agi, "agfl": self.agfl}
        for name, handles in headers.items():
            for agno, handle in enumerate(handles):
                if handle is not None:
                    yield f"{name}[{agno}]", handle

    def where(
        self,
        obj: str,
        daddr: int | None = None,
        length: int | None = None,
        field: str | None = None,
    ) -> Where:
        """Return the place of `obj` on this image, for an error."""
        return Where(self.device.name, obj, daddr, length, field)

    def report(self, error: ImageError) -> None:
        """Log a damaged object once: one line naming place, field, found and expected."""
        line = str(error)
        if line in self._reported:
            return
        if len(self._reported) < _REPORTS_KEPT:
            self._reported.add(line)
        log.warning("%s", line)
