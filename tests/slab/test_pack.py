"""Rows of values into bytes: what is taken, and values that act while they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.slab import FIELDS, VALUES, Sample
from wofs.slab import _slab
from wofs.slab.layout import layout_of

LAYOUT = layout_of(Sample.spec)


class Turncoat:
    """Items that empty the row, which holds the only reference to them, when they are asked for."""

    def __init__(self, row: list[object]) -> None:
        self.row = row

    def __iter__(self) -> Iterator[int]:
        self.row.clear()
        return iter((7, 8, 9))

    def __len__(self) -> int:
        return len(self.row) + 3


def test_a_value_that_empties_its_row_while_it_is_read_is_not_read_on() -> None:
    """Python asks it for its length once it has its items."""
    for _ in range(200):
        row = [VALUES[name] for name in FIELDS]
        row[FIELDS.index("items")] = Turncoat(row)
        with pytest.raises(TypeError, match="values for 7 fields"):
            _slab.pack(LAYOUT.id, [row])
        assert row == []
