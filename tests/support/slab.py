"""A record with a field of each kind, and arenas of it, for the tests of the slab."""

from __future__ import annotations

from wofs.record import NEXT, Record, array_u32, i64, raw, record, u8, u16, u32, u64
from wofs.slab import Arena, Handles


@record("sample", derived=True, source="the tests of the slab")
class Sample(Record):
    """One field of each kind."""

    first = u32(NEXT, "first")
    flag = u8(NEXT, "flag")
    short = u16(NEXT, "short")
    wide = u64(NEXT, "wide")
    signed = i64(NEXT, "signed")
    items = array_u32(NEXT, 3, "items")
    uuid = raw(NEXT, 16, "uuid")


@record("other", derived=True, source="the tests of the slab")
class Other(Record):
    """Another type, smaller."""

    number = u32(NEXT, "number")


FIELDS = tuple(f.name for f in Sample.spec.fields)
VALUES: dict[str, object] = {
    "first": 1,
    "flag": 2,
    "short": 3,
    "wide": 2**64 - 1,
    "signed": -5,
    "items": (7, 8, 9),
    "uuid": bytes(range(16)),
}


def rows(count: int) -> list[list[object]]:
    """Return `count` rows of values, told apart by their first field."""
    return [[i if name == "first" else VALUES[name] for name in FIELDS] for i in range(count)]


def filled(backend: str = "auto", count: int = 9) -> tuple[Arena, Handles[Sample]]:
    """Return an arena, not yet sealed, with objects s[0] to s[count - 1]."""
    arena = Arena.create(8, backend)
    return arena, arena.cache(Sample).init_batch("s", rows(count))
