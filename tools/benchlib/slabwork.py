"""The same work over the same image, its structures in one kind of memory and in another.

Many short rounds in turn, the sides in changing order, each on a mount of its own, after a first
round that only warms. What is compared is the server's processor time and the wall clock,
by pairs: one round's ratio has the same machine above and below the line.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchlib.sides import Mounted, by_wofs, rotated
from benchlib.workloads import WORKLOADS

WORK = ("find", "tar", "random")

Side = tuple[str, ...]
"""Mount options, which also name a column: `slab=memfd`."""


@dataclass
class Rounds:
    """What one workload took, by side: wall and server seconds of each round."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, wall: float, cpu: float) -> None:
        """Note one run."""
        self.wall.setdefault(side, []).append(wall)
        self.cpu.setdefault(side, []).append(cpu)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each round, smallest first."""
    return sorted(a / b for a, b in zip(above, below, strict=True) if b)


def spread(found: Sequence[float]) -> tuple[float, float, float]:
    """Return (lower quartile, median, upper quartile)."""
    if len(found) < 2:
        return found[0], found[0], found[0]
    low, middle, high = statistics.quantiles(found, n=4)
    return low, middle, high


@contextlib.contextmanager
def sides(image: Path, options: Sequence[str]) -> Iterator[dict[str, Mounted]]:
    """Mount the image once for each column."""
    with contextlib.ExitStack() as stack:
        yield {words: stack.enter_context(by_wofs(image, words)) for words in options}


def measure(image: Path, rounds: int, options: Sequence[str]) -> dict[str, Rounds]:
    """Return what was measured, by workload; the sides must all see the same."""
    found = {name: Rounds() for name in WORK}
    for shift in range(rounds + 1):
        # Every other pair of rounds mounts them the other way round: the last one is slower.
        order = options[:: -1 if shift // 2 % 2 else 1]
        with sides(image, order) as mounts:
            for name in WORK:
                seen = set()
                for words in rotated(options, shift):
                    before = mounts[words].cpu()
                    wall, saw = WORKLOADS[name].work(mounts[words].top)
                    seen.add(saw)
                    if shift:  # the first round only warms
                        found[name].add(words, wall, mounts[words].cpu() - before)
                if len(seen) != 1:
                    raise RuntimeError(f"{name}: the sides saw different things")
    return found
