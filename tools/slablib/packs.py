"""The fuzzer's steps around pack(): rows of values into bytes, held against struct's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from slablib import odd
from slablib.fuzzer import CODES, Fuzzer, refused, step
from slablib.model import Layout, Wrong
from slablib.odd import Index, Mischief
from wofs.slab import _slab

MOST_ITEMS = 50
"""Of a field: more only take time."""


class Turncoat:
    """A sequence that does something first when it is asked for its items, or how many."""

    def __init__(self, items: tuple[object, ...], first: Callable[[], object]) -> None:
        self.items = items
        self.first = first

    def __iter__(self) -> Iterator[object]:
        """Yield the items, after whatever comes first."""
        self.first()
        return iter(self.items)

    def __len__(self) -> int:
        """Return a number, after whatever comes first."""
        self.first()
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        """Return an item: by `__iter__` it should be asked."""
        return self.items[index]


def limits(code: str) -> tuple[int, int]:
    """Return the smallest and largest number of a field."""
    bits = 8 * CODES[code]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if code.islower() else (0, 2**bits - 1)


def right_value(f: Fuzzer, code: str, count: int) -> object:
    """Return a value that a field takes."""
    if code == "s":
        return f.rng.randbytes(f.rng.choice((0, count, f.rng.randint(0, count))))
    low, high = limits(code)
    numbers = [f.rng.choice((low, high, 0, 1, f.rng.randint(low, high))) for _ in range(count)]
    if count == 1:
        return numbers[0]
    return f.rng.choice((tuple(numbers), numbers))


def packed(layout: Layout, row: list[object]) -> bytes:
    """Return what a row should be as bytes; later fields over earlier ones."""
    data = bytearray(layout.size)
    for (_, code, offset, count), value in zip(layout.fields, row, strict=True):
        if code == "s":
            if not isinstance(value, bytes) or len(value) > count:
                raise Wrong(f"took {value!r} for {count} bytes")
            data[offset : offset + len(value)] = value
            continue
        items = value.items if isinstance(value, Turncoat) else value
        if not isinstance(items, (tuple, list)):
            items = (items,)
        numbers = [odd.value(item) for item in items]
        try:
            struct.pack_into(f"={count}{code}", data, offset, *numbers)
        except struct.error as error:
            raise Wrong(f"took {value!r} for {count}{code}") from error
    return bytes(data)


def small(f: Fuzzer) -> Layout | None:
    """Return a layout whose rows are quickly made."""
    found = [one for one in f.layouts if all(field[3] <= MOST_ITEMS for field in one.fields)]
    return f.rng.choice(found) if found else None


@step(5)
def pack(f: Fuzzer) -> None:
    """Pack right rows, in every kind of sequence."""
    layout = small(f)
    if layout is None:
        return
    rows = [
        [right_value(f, code, count) for _, code, _, count in layout.fields]
        for _ in range(f.rng.choice((0, 1, 1, 3, 20)))
    ]
    given = [f.rng.choice((row, tuple(row), Turncoat(tuple(row), int))) for row in rows]
    whole: Callable[..., object] = f.rng.choice((list, tuple, iter))
    ask: Callable[..., bytes] = _slab.pack
    if ask(layout.id, whole(given)) != b"".join(packed(layout, row) for row in rows):
        raise Wrong(f"packed {rows!r} otherwise")
    f.packed += len(rows)


@step(6)
def odd_pack(f: Fuzzer) -> None:
    """Pack rows of odd values, some of which change the row while it is read."""
    layout = small(f)
    if layout is None:
        return
    row: list[object] = [right_value(f, code, count) for _, code, _, count in layout.fields]
    changed = list[object]()

    def disturb() -> None:
        changed.append(1)
        f.rng.choice(
            (f.nested, row.clear, lambda: row.append(1), lambda: row.__setitem__(slice(1), [""]))
        )()

    for _ in range(f.rng.randint(0, 2)):
        at = f.rng.randrange(len(row))
        good = row[at]
        turned = good if isinstance(good, (tuple, list)) else (good,)
        row[at] = f.rng.choice(
            (
                f.number(good),
                Index(good, disturb) if isinstance(good, int) else Turncoat((*turned,), disturb),
                Turncoat((*turned,), disturb),
                *f.rng.choices((*odd.DATA, *odd.NUMBERS, [1, 2], (1,) * 3), k=2),
            )
        )
    if f.rng.random() < 0.1:
        row.append(0)
    before = list(row)
    number = f.number(layout.id) if f.rng.random() < 0.2 else layout.id
    ask: Callable[..., bytes] = _slab.pack
    given: object = f.rng.choice(([row], (row,), [tuple(row)], iter([row]), row, None))
    try:
        found = ask(number, given)
    except (TypeError, ValueError, OverflowError, Mischief):
        return
    meant = f.layout_called(odd.value(number))
    if meant is None or given is None:
        raise Wrong(f"packed {given!r} as of layout {number!r}")
    if meant is layout and not changed and given is not row and found != packed(layout, before):
        raise Wrong(f"packed {before!r} as {found!r}")


@step(1)
def pack_nothing(f: Fuzzer) -> None:
    """No layout, no rows, no values: refused, or no bytes."""
    layout = f.layout()
    if _slab.pack(layout.id, ()) != b"":
        raise Wrong("no rows have bytes")
    refused(lambda: _slab.pack(layout.id, ((),)), TypeError)
    refused(lambda: _slab.pack(layout.id + 8, ()), ValueError)
