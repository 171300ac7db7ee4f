"""Faults for an image: spread evenly over structures and fields, the same for the same seed.

Every fault is a set of arguments of `wofs corrupt`; see `Fault.edits`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from wofs.campaign.catalog import Catalog, Field
from wofs.campaign.fault import Fault
from wofs.campaign.pairs import Made, pairs
from wofs.campaign.values import values_of
from wofs.corrupt.parts import Part
from wofs.fs import Filesystem
from wofs.units import SECTOR_BYTES

SHARES = {"field": 11, "flip": 3, "pair": 2, "block": 2, "stale": 1, "torn": 1}
"""How many of twenty faults are of each class."""

STALE_OF = 4
"""One of so many faults leaves the checksum as it was."""

_COVER = {"version", "len", "size"}
"""Fields of a log record that say what its checksum covers: it cannot be made right then."""

_FLIPS = (1, 1, 1, 2, 3, 8, 32)
_MOST_BARREN = 200
"""Faults drawn in a row that are there already, after which a source has no more."""

Source = Iterator[Fault]


def faults_of(filesystem: Filesystem, image: str, count: int, seed: int) -> list[Fault]:
    """Return up to `count` faults of an open sound image, all different.

    `image` is what they call it. Fewer come where the image has no more to strike.
    """
    catalog = Catalog(filesystem, seed)
    maker = _Maker(catalog, image, seed)
    sources = {klass: maker.source(klass) for klass in SHARES}
    out: dict[str, Fault] = {}
    while sources and len(out) < count:
        for klass, share in SHARES.items():
            for _ in range(share if klass in sources else 0):
                fault = _fresh(sources[klass], out)
                if fault is None:
                    del sources[klass]
                    break
                if len(out) < count:
                    out[fault.key] = fault
    return list(out.values())


def _fresh(source: Source, known: dict[str, Fault]) -> Fault | None:
    """Return the next fault of a source that is not known yet; None when there is none."""
    for _ in range(_MOST_BARREN):
        fault = next(source, None)
        if fault is None or fault.key not in known:
            return fault
    return None


def _in_turn(sources: list[Source]) -> Source:
    """Yield from each source in turn until all are exhausted."""
    while sources:
        left = []
        for source in sources:
            fault = next(source, None)
            if fault is not None:
                yield fault
                left.append(source)
        sources = left


class _Maker:
    """Makes the faults of one image."""

    def __init__(self, catalog: Catalog, image: str, seed: int) -> None:
        self._catalog = catalog
        self._image = image
        self._seed = seed

    def source(self, klass: str) -> Source:
        """Return the faults of one class, structures and fields in turn."""
        made: dict[str, Callable[[], list[Source]]] = {
            "field": self._all_fields, "flip": self._all_flips, "pair": self._all_pairs,
            "block": self._all_blocks, "stale": self._all_stale, "torn": self._all_torn,
        }  # fmt: skip
        return _in_turn(made[klass]())

    def _random(self, *words: object) -> random.Random:
        return random.Random(" ".join(map(str, (self._seed, *words))))

    def _fault(
        self, klass: str, kind: str, obj: str, name: str, value: str, crc: str, *edits: str,
        seed: int = 0,
    ) -> Fault:  # fmt: skip
        if kind == "log" and (klass == "block" or set(name.split("+")) & _COVER):
            crc = "stale"
        return Fault(self._image, klass, kind, obj, name, value, crc, (*edits, "--crc", crc), seed)

    # ---- fields
    def _all_fields(self) -> list[Source]:
        fields = list(self._catalog.fields)
        self._random("fields").shuffle(fields)
        return [self._of_field(field) for field in fields]

    def _of_field(self, field: Field) -> Source:
        """Yield the values of a field, each at another place; then all values at all places."""
        rng = self._random("field", field.kind, field.name)
        turn = rng.randrange(STALE_OF)
        rows = [list(values_of(self._catalog, spot, field.spots, rng)) for spot in field.spots]
        for row in rows:
            rng.shuffle(row)
        for step in range(max(map(len, rows))):
            for at, row in enumerate(rows):
                spot = field.spots[at]
                if step >= len(row):
                    continue
                word, text = row[(step + at) % len(row)]
                turn += 1
                crc = "stale" if turn % STALE_OF == 0 else "fix"
                edit = f"{spot.part}.{spot.name}={text}"
                yield self._fault("field", field.kind, str(spot.part), field.name, word, crc, edit)

    def _all_pairs(self) -> list[Source]:
        return [self._pairs(*row) for row in pairs(self._catalog, self._random("pairs"))]

    def _pairs(self, kind: str, made: Iterator[Made]) -> Source:
        for obj, name, word, edits in made:
            yield self._fault("pair", kind, obj, name, word, "fix", *edits)

    # ---- whole structures
    def _all_flips(self) -> list[Source]:
        kinds = [kind for kind in self._catalog.parts if kind != "log"]
        return [self._flips(kind) for kind in kinds] + [self._data_flips()]

    def _flips(self, kind: str) -> Source:
        rng, parts = self._random("flip", kind), self._catalog.parts[kind]
        while True:
            part, bits, seed = rng.choice(parts), rng.choice(_FLIPS), rng.randrange(1 << 32)
            crc = "stale" if rng.randrange(STALE_OF) == 0 else "fix"
            edits = ("--flip", str(bits), "--in", str(part), "--seed", str(seed))
            yield self._fault("flip", kind, str(part), "", f"{bits} bits", crc, *edits, seed=seed)

    def _data_flips(self) -> Source:
        rng = self._random("data")
        while self._catalog.data:
            name, seed = rng.choice(self._catalog.data), rng.randrange(1 << 32)
            edits = ("--flip", "1", "--in", name, "--seed", str(seed))
            yield self._fault("flip", "data", name, "", "1 bits", "stale", *edits, seed=seed)

    def _all_blocks(self) -> list[Source]:
        return [self._blocks(kind) for kind in self._catalog.parts] + [self._cuts()]

    def _blocks(self, kind: str) -> Source:
        """Yield structures zeroed, exchanged and moved."""
        rng, parts = self._random("block", kind), self._catalog.parts[kind]
        while True:
            part, what = rng.choice(parts), rng.choice(("zero", "swap", "shift"))
            crc = "stale" if rng.randrange(STALE_OF) == 0 else "fix"
            if what == "zero":
                yield self._fault(
                    "block", kind, str(part), "", "zero", "stale", "--zero", str(part)
                )
            elif what == "shift":
                by = rng.choice((1, 2, 4, 8, 16, 64)) * rng.choice((1, -1))
                edits = ("--shift", str(part), str(by))
                yield self._fault("block", kind, str(part), "", f"shift {by}", crc, *edits)
            elif (other := self._other(part, rng)) is not None:
                edits = ("--swap", str(part), str(other))
                yield self._fault("block", kind, str(part), "", f"swap {other}", "fix", *edits)

    def _cuts(self) -> Source:
        rng, size = self._random("cut"), self._catalog.mount.device.size
        while True:
            at = rng.randrange(size // SECTOR_BYTES) * SECTOR_BYTES
            edits = ("--truncate", str(at))
            yield self._fault("block", "image", "image", "", f"cut at {at}", "fix", *edits)

    def _all_stale(self) -> list[Source]:
        return [self._stale(kind) for kind in self._catalog.parts]

    def _stale(self, kind: str) -> Source:
        """Yield structures with another one's bytes: a write that went astray."""
        rng, parts = self._random("stale", kind), self._catalog.parts[kind]
        for _ in range(4 * len(parts) * len(parts)):
            part = rng.choice(parts)
            other = self._other(part, rng)
            if other is not None:
                edits = ("--duplicate", str(other), str(part))
                yield self._fault("stale", kind, str(part), "", f"copy of {other}", "fix", *edits)

    def _other(self, part: Part, rng: random.Random) -> Part | None:
        """Return another structure of the same kind and size."""
        same = [p for p in self._catalog.parts[part.kind] if p.size == part.size and p != part]
        return rng.choice(same) if same else None

    def _all_torn(self) -> list[Source]:
        kinds = self._catalog.parts.items()
        return [self._torn(kind) for kind, parts in kinds if max(p.size for p in parts) >= 1024]

    def _torn(self, kind: str) -> Source:
        """Yield structures of which only the first sectors were written."""
        rng = self._random("torn", kind)
        parts = [p for p in self._catalog.parts[kind] if p.size >= 2 * SECTOR_BYTES]
        for _ in range(4 * sum(p.size // SECTOR_BYTES for p in parts)):
            part = rng.choice(parts)
            written = len(self._catalog.raw(part).rstrip(b"\0")) - 1 >> 9
            if written < 1:
                continue  # behind its first sector there is nothing to lose
            kept = rng.randint(1, written)
            edits = ("--tear", str(part), str(kept))
            yield self._fault("torn", kind, str(part), "", f"{kept} sectors", "stale", *edits)
