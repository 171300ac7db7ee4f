"""Two runs side by side: which faults have another outcome now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from wofs.campaign.report import BAD
from wofs.campaign.results import Results

Keyed = tuple[str, str, str]
"""(image, key of the fault, outcome)"""


@dataclass(frozen=True, slots=True)
class Change:
    """A fault whose outcome was `before` in the one run and is `after` in the other."""

    image: str
    key: str
    before: str
    after: str

    @property
    def rank(self) -> int:
        """0 where it is a defect now, 1 where it no longer is one, 2 for others."""
        if self.after in BAD and self.before not in BAD:
            return 0
        return 1 if self.before in BAD and self.after not in BAD else 2


@dataclass
class Comparison:
    """What two runs have in common; `changes` has the new defects first."""

    same: int = 0
    only_before: Counter[str] = field(default_factory=Counter)
    only_after: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)

    @property
    def moves(self) -> Counter[tuple[str, str]]:
        """How many faults went from one outcome to another."""
        return Counter((one.before, one.after) for one in self.changes)


def compare(before: Results, after: Results) -> Comparison:
    """Hold two files of results against each other, fault by fault."""
    found = Comparison()
    for old, new in _paired(before.outcomes(), after.outcomes()):
        if new is None:
            assert old is not None
            found.only_before[old[2]] += 1
        elif old is None:
            found.only_after[new[2]] += 1
        elif old[2] == new[2]:
            found.same += 1
        else:
            found.changes.append(Change(*old, new[2]))
    found.changes.sort(key=lambda one: (one.rank, one.after, one.before, one.image, one.key))
    return found


def _paired(
    before: Iterator[Keyed], after: Iterator[Keyed]
) -> Iterator[tuple[Keyed | None, Keyed | None]]:
    """Yield the results of the same fault together; both come in the order of `_place`."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and _place(old) < _place(new)):
            yield old, None
            old = next(before, None)
        elif old is None or _place(new) < _place(old):
            yield None, new
            new = next(after, None)
        else:
            yield old, new
            old, new = next(before, None), next(after, None)


def _place(one: Keyed) -> tuple[bytes, bytes]:
    """Return what the database sorts by: the bytes, not the characters."""
    image, key, _ = one
    return image.encode("utf-8", "surrogateescape"), key.encode("utf-8", "surrogateescape")
