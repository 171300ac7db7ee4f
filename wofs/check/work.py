"""Passes cut into units of work, done one after the other here or by several processes.

What a unit finds goes into the state. A process beside this one takes it out again and sends
it; it is added here in the order of the units, so that a report does not depend on who did
what. With one job nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from wofs.check.state import State
from wofs.xfs.geometry import INODES_PER_CHUNK

U = TypeVar("U")

Piece = tuple[int, int, int]
"""(AG, first chunk, end): some chunks of inodes of one AG."""

_LEAST_CHUNKS, _MOST_CHUNKS = 64, 512
_PIECES_PER_JOB = 8


class Pass(Protocol[U]):
    """One pass over the image."""

    @property
    def units(self) -> Sequence[U]:
        """What there is to do, in the order in which findings are reported."""
        ...

    def begin(self) -> None:
        """Forget what was found before: in a process that shall send only what it finds."""
        ...

    def work(self, unit: U) -> None:
        """Do a part of it; all that is found goes into the state."""
        ...

    def take(self, unit: U) -> object:
        """Take what `work` found out of the state, in a form that can be pickled."""
        ...

    def add(self, unit: U, found: object) -> None:
        """Add what another process took out."""
        ...

    def take_rest(self) -> object:
        """Take out what was gathered over all units done in this process."""
        ...

    def add_rest(self, found: object) -> None:
        """Add what another process gathered."""
        ...


def pieces(state: State, jobs: int) -> list[Piece]:
    """Cut the chunks of all AGs whose inobt is sound into pieces."""
    sizes = {agno: len(i.table) for agno, i in enumerate(state.inodes) if i is not None}
    size = sum(sizes.values()) // (jobs * _PIECES_PER_JOB)
    size = max(_LEAST_CHUNKS, min(size, _MOST_CHUNKS))
    return [
        (agno, first, min(first + size, count))
        for agno, count in sizes.items()
        for first in range(0, count, size)
    ]


def slots(piece: Piece) -> tuple[int, int]:
    """Return the slots of an AG's inventory that a piece takes up: the first, and the end."""
    return piece[1] * INODES_PER_CHUNK, piece[2] * INODES_PER_CHUNK
