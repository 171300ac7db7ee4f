"""The values a field is given: where the code that reads it may turn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from wofs.campaign.catalog import Catalog
from wofs.corrupt.inside import Spot
from wofs.units import SECTOR_BYTES

Value = tuple[str, str]
"""(what it is in words, how `wofs corrupt` takes it)."""


def read(catalog: Catalog, spot: Spot) -> int | bytes:
    """Return what a field holds."""
    raw = catalog.mount.device.pread(spot.part.start + spot.offset, spot.size)
    if spot.plain:
        return raw
    value = int.from_bytes(raw, "little" if spot.little else "big")
    if spot.bits is None:
        return value
    high, low = spot.bits
    return value >> low & (1 << high - low + 1) - 1


def width(spot: Spot) -> int:
    """Return how many bits a field has."""
    return 8 * spot.size if spot.bits is None else spot.bits[0] - spot.bits[1] + 1


def values_of(
    catalog: Catalog, spot: Spot, same: Sequence[Spot], rng: random.Random
) -> Iterator[Value]:
    """Yield the values for a field, all different; `same` are places of the same field."""
    seen: set[str] = set()
    makers = _plain if spot.plain else _numbers
    for word, text in makers(catalog, spot, same, rng):
        if text not in seen:
            seen.add(text)
            yield word, text


def _numbers(
    catalog: Catalog, spot: Spot, same: Sequence[Spot], rng: random.Random
) -> Iterator[Value]:
    now, bits = read(catalog, spot), width(spot)
    assert isinstance(now, int)
    most = (1 << bits) - 1
    found: list[tuple[str, int]] = [
        ("0", 0), ("1", 1), ("max", most), ("sign", 1 << bits - 1), ("less", now - 1 & most),
        ("more", now + 1 & most), ("random", rng.getrandbits(bits)),
        ("bit", now ^ 1 << rng.randrange(bits)),
    ]  # fmt: skip
    for other in rng.sample(same, min(len(same), 8)):
        value = read(catalog, other)
        if other.part != spot.part and value != now and isinstance(value, int) and value <= most:
            found.append((f"other: {other.part}", value))
            break
    found += [(word, value) for word, value in _itself(catalog, spot) if value <= most]
    yield from ((word, str(value)) for word, value in found if value != now)
    yield "itself", str(now)


def _itself(catalog: Catalog, spot: Spot) -> Iterator[tuple[str, int]]:
    """Yield the addresses of the structure that the field is in, for fields that are pointers."""
    geo, part = catalog.mount.geo, spot.part
    block = part.start >> geo.blocklog
    agno, agbno = divmod(block, geo.agblocks)
    if spot.size == 8:
        yield "own inode", part.owner
        yield "own block", agno << geo.agblklog | agbno
        yield "own address", part.start // SECTOR_BYTES
    elif spot.size == 4:
        yield "own block", agbno


def _plain(
    catalog: Catalog, spot: Spot, same: Sequence[Spot], rng: random.Random
) -> Iterator[Value]:
    now = read(catalog, spot)
    assert isinstance(now, bytes)
    at = rng.randrange(len(now))
    changed = now[:at] + bytes([now[at] ^ 1 << rng.randrange(8)]) + now[at + 1 :]
    found = [
        ("0", bytes(len(now))), ("max", b"\xff" * len(now)), ("bit", changed),
        ("slash", now[:at] + b"/" + now[at + 1 :]), ("dots", b"..".ljust(len(now), b"\0")),
    ]  # fmt: skip
    for other in rng.sample(same, min(len(same), 16)):
        value = read(catalog, other)
        if isinstance(value, bytes) and len(value) == len(now) and value != now:
            found.append((f"other: {other.part}", value))
            break
    fitting = ((word, value) for word, value in found if len(value) == len(now))
    yield from ((word, value.hex()) for word, value in fitting if value != now)
    yield "itself", now.hex()
