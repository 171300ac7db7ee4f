"""Values into bytes, by rows and by names: what is taken, and values that act while they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.slab import FIELDS, VALUES, Other, Sample
from wofs.errors import SlabError, SlabFinished
from wofs.slab import Arena, _slab
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


# ---- by name
@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(4)
    yield made
    made.close()


class Name(str):
    """A name that is none of those that code has."""

    __slots__ = ()


def test_names_are_known_by_what_they_say(arena: Arena) -> None:
    """In any order, also names that were put together or are of another class."""
    values = {Name("".join(list(name))): VALUES[name] for name in reversed(FIELDS)}
    sample = arena.cache(Sample).init_once("s", **values)
    assert [getattr(sample, name) for name in FIELDS] == [VALUES[name] for name in FIELDS]


def test_a_name_need_not_be_ascii(arena: Arena) -> None:
    layout = _slab.layout("t", 8, (("größe", "Q", 0, 1),), "tests.t")
    number = arena._raw.cache(layout[0])
    fill = arena._raw.filler(number, *layout)
    assert fill("t", größe=1).größe == 1  # type: ignore[attr-defined]
    assert fill("t", **{"".join(list("größe")): 2}).größe == 2  # type: ignore[attr-defined]
    for wrong in ("gr\udcf6ße", "grö", "größer"):
        with pytest.raises(SlabError):
            fill("t", **{wrong: 1})


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({**VALUES, "other": 1, "another": 2}, "another, other"),
        ({name: VALUES[name] for name in FIELDS if name != "wide"}, "wide"),
        ({**{name: VALUES[name] for name in FIELDS if name != "wide"}, "wider": 1}, "wide, wider"),
        ({}, ", ".join(sorted(FIELDS))),
    ],
)
def test_each_field_has_one_value(arena: Arena, values: dict[str, object], wrong: str) -> None:
    message = f"^s: the values must be those of sample: not {wrong}$"
    with pytest.raises(SlabError, match=message):
        arena.cache(Sample).init_once("s", **values)
    assert arena.cache(Sample).stats().objects == 0


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("first", 2**32, "OverflowError: first: the number is too large"),
        ("wide", -1, "OverflowError: wide: the number is negative or beyond 64 bits"),
        ("signed", 2**63, "OverflowError: signed: the number is beyond 64 bits"),
        ("items", (1, 2), "TypeError: items: 2 values for 3"),
        ("items", (1, 2, -1), "OverflowError: items: the number is negative or beyond 64 bits"),
        ("uuid", bytes(17), "OverflowError: uuid: too many bytes"),
        ("uuid", "text", "TypeError: uuid: bytes are needed, not str"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    arena: Arena, field: str, value: object, why: str
) -> None:
    with pytest.raises(SlabError) as caught:
        arena.cache(Sample).init_once("s", **{**VALUES, field: value})
    cause = caught.value.__cause__
    assert f"{type(cause).__name__}: {cause}" == why
    assert str(caught.value) == f"s: sample: {cause}"
    assert arena.cache(Sample).stats().objects == 0


def test_what_a_value_raises_is_not_hidden(arena: Arena) -> None:
    class Odd:
        def __index__(self) -> int:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        arena.cache(Sample).init_once("s", **{**VALUES, "first": Odd()})
    assert arena.cache(Sample).stats().objects == 0


def test_a_value_may_seal_the_arena_before_its_object_is_published(arena: Arena) -> None:
    class Seals:
        def __index__(self) -> int:
            arena.finish()
            return 1

    with pytest.raises(SlabFinished):
        arena.cache(Other).init_once("o", number=Seals())
    assert arena.cache(Other).stats().objects == 0


def test_an_object_has_one_name(arena: Arena) -> None:
    init = arena.cache(Other).init_once
    for arguments in ((), ("a", 1), (1,), (b"a",)):
        with pytest.raises(TypeError):
            init(*arguments, number=1)
    with pytest.raises(ValueError, match="null"):
        init("a\0b", number=1)
    assert init("a", number=7).number == 7


def test_a_filler_is_of_its_own_cache(arena: Arena) -> None:
    arena.cache(Sample)
    other = layout_of(Other.spec)
    with pytest.raises(TypeError, match="do not belong together"):
        arena._raw.filler(0, other.id, other.type)
    with pytest.raises(TypeError, match="do not belong together"):
        arena._raw.filler(0, LAYOUT.id, other.type)
