"""The fuzzer's steps around pack() and fillers: values into bytes, held against struct's."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator

from slablib import odd
from slablib.fuzzer import ANY, CODES, Fuzzer, refused, step
from slablib.model import HEADER_BYTES, Arena, Layout, Wrong
from slablib.odd import Index, Mischief
from wofs.errors import SlabError, SlabFinished, SlabFull
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


def packed(layout: Layout, row: Iterable[object]) -> bytes:
    """Return what a row should be as bytes."""
    return filled(layout, zip(layout.fields, row, strict=True))


def filled(layout: Layout, pairs: Iterable[tuple[tuple[str, str, int, int], object]]) -> bytes:
    """Return what fields with these values should be as bytes; later ones over earlier ones."""
    data = bytearray(layout.size)
    for (_, code, offset, count), value in pairs:
        if code == "s":
            if not isinstance(value, bytes) or len(value) > count:
                raise Wrong(f"took {value!r} for {count} bytes")
            data[offset : offset + len(value)] = value
            continue
        items = value.items if isinstance(value, Turncoat) else value
        if isinstance(items, (int, Index)):
            items = (items,)
        numbers = [odd.value(item) for item in items]  # type: ignore[attr-defined]
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
                Index(int(good), disturb)
                if isinstance(good, int)
                else Turncoat((*turned,), disturb),
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


# ---- fillers
def published(f: Fuzzer, arena: Arena, cache: int, data: bytes, name: str, handle: object) -> None:
    """Take an object into the model that a filler made; where it is, is read off it."""
    field, _, offset, _ = arena.caches[cache].fields[0]
    at = _slab.address(handle, field) - offset - HEADER_BYTES
    serial = int.from_bytes(ctypes.string_at(at + 8, 6), "little")
    f.publish(arena, cache, data, name, (at - arena.raw.page_map()[0], serial), handle)


def filler_of(f: Fuzzer) -> tuple[Arena, int, Layout, _slab.Filler] | None:
    """Return a filler of an open arena."""
    arena = f.arena()
    if arena is None or not arena.caches or len(arena.alive) > 400:
        return None
    number = f.rng.randrange(len(arena.caches))
    layout = arena.caches[number]
    if any(field[3] > MOST_ITEMS for field in layout.fields):
        return None
    return arena, number, layout, arena.raw.filler(number, layout.id, layout.type)


@step(12)
def fill(f: Fuzzer) -> None:
    """Create an object of values by name, in any order."""
    found = filler_of(f)
    if found is None:
        return
    arena, number, layout, filler = found
    fields = f.rng.sample(layout.fields, len(layout.fields))
    pairs = [(field, right_value(f, field[1], field[3])) for field in fields]
    # Every other name is not the one that code would have.
    names = [f.rng.choice((field[0], "".join(list(field[0])))) for field in fields]
    values = dict(zip(names, (value for _, value in pairs), strict=True))
    try:
        handle = filler("filled", **values)
    except SlabFinished:
        if not arena.sealed:
            raise
    except SlabFull:
        if arena.has_room(number):
            raise
    else:
        if arena.sealed:
            raise Wrong("filled although sealed")
        published(f, arena, number, filled(layout, pairs), "filled", handle)
        f.packed += 1


@step(8)
def odd_fill(f: Fuzzer) -> None:
    """Create one of what is wrong, or acts: nothing comes of it, or what was asked for."""
    found = filler_of(f)
    if found is None:
        return
    arena, number, layout, filler = found
    values = {name: right_value(f, code, count) for name, code, _, count in layout.fields}
    names = [name for name, *_ in layout.fields]
    fields = {field[0]: field for field in layout.fields}
    for _ in range(f.rng.randint(0, 2)):
        name = f.rng.choice(names)
        good = values[name]
        odds = (*odd.DATA, *odd.NUMBERS)
        values[name] = f.rng.choice(
            (f.number(good), Turncoat((good,), f.nested), *f.rng.choices(odds, k=2))
        )
    if f.rng.random() < 0.3:
        del values[f.rng.choice(names)]
    if f.rng.random() < 0.3:
        values[f.rng.choice(("", "x", "f\0", "\ud800", "f" * 40, odd.Text("f")))] = 1
    called = f.rng.choice((*odd.TEXTS, "o1", "o2"))
    ask: Callable[..., object] = filler
    positional = f.rng.choice(((called,), (called,), (called,), (), (called, 1)))
    try:
        handle = ask(*positional, **values)
    except (*ANY, SlabError):
        return
    if set(values) != set(names) or len(positional) != 1 or not isinstance(called, str):
        raise Wrong(f"filled {layout.name} with {values!r:.200}")
    if not arena.open or arena.sealed:
        raise Wrong("filled although sealed")
    data = filled(layout, ((fields[name], value) for name, value in values.items()))
    published(f, arena, number, data, called, handle)


@step(1)
def no_filler(f: Fuzzer) -> None:
    """No filler out of nothing, for another layout or cache."""
    found = filler_of(f)
    if found is None:
        return
    arena, number, layout, filler = found
    kind: Callable[[], object] = type(filler)
    refused(kind, TypeError)
    refused(lambda: setattr(filler, "x", 1), AttributeError)
    refused(lambda: arena.raw.filler(len(arena.caches), layout.id, layout.type), SlabFull)
    for other in f.layouts:
        if other is not layout:
            refused(lambda o=other: arena.raw.filler(number, o.id, layout.type), TypeError)  # type: ignore[misc]
            refused(lambda o=other: arena.raw.filler(number, layout.id, o.type), TypeError)  # type: ignore[misc]
