"""Write-once memory for what may be evicted: batches of objects, given back whole.

A store has addresses for many batches. A shelf fills one batch after the other; a full one is
sealed, and when a shelf holds too much the batches filled longest ago go, each as one. Every
object carries its key, which is compared at each use: the index of a shelf is ordinary memory,
and a spoiled one leads to no object at worst, never to another's. Knows nothing of XFS.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from wofs.errors import NoBackend, SlabError
from wofs.slab import _slab
from wofs.slab.arena import Site

log = logging.getLogger("wofs.slab")

SLOT_BYTES = 64 << 10
BATCH_BYTES = 256 << 10
"""What a batch has room for; a larger object has one of its own."""

_HEADER_BYTES = 32

Row = tuple[Hashable, int, int, bytes]
"""(what the index calls it, the two numbers of its key, its bytes)."""


@dataclass(frozen=True, slots=True)
class ShelfStats:
    """What a shelf holds.

    `bytes_used` are those of objects and their headers, `bytes` those of the batches;
    `sealed` says how many of these are, `given_back` how many are gone.
    """

    name: str
    objects: int
    batches: int
    sealed: int
    given_back: int
    bytes_used: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Range:
    """Live memory of one batch: its address, the bytes that hold objects, its shelf."""

    address: int
    bytes_used: int
    shelf: str


class Store:
    """Addresses for batches, under one backend; closed with the mount."""

    def __init__(self, raw: _slab.Store, kinds: tuple[str, ...]) -> None:
        self.raw = raw
        self.kinds = kinds
        self.shelves: list[Shelf] = []

    @classmethod
    def create(cls, size: int, backend: str, label: str, kinds: tuple[str, ...]) -> Store:
        """Reserve `size` bytes of addresses; `kinds` are what reports call objects.

        Raises NoBackend where the machine does not grant them.
        """
        slots = -(-size // SLOT_BYTES)
        try:
            return cls(_slab.Store(slots, SLOT_BYTES, backend, label, kinds), kinds)
        except OSError as error:
            raise NoBackend(f"slab backend {backend}: {error.strerror}") from error

    def shelf(self, name: str, limit: int) -> Shelf:
        """Return a new shelf that holds about `limit` bytes."""
        made = Shelf(self, name, limit)
        self.shelves.append(made)
        return made

    def ranges(self) -> list[Range]:
        """Return the memory of every live batch, in the order of addresses."""
        found = (
            Range(address, used, shelf.name)
            for shelf in self.shelves
            for address, _, used, _, _ in [batch.state() for batch in shelf.batches()]
        )
        return sorted(found, key=lambda item: item.address)

    def locate(self, address: int) -> Site | None:
        """Return what lies at an address; None outside the store."""
        found = self.raw.locate(address)
        return None if found is None else Site(*found)

    def verify(self) -> list[Site]:
        """Return the objects whose bytes are no longer those that were published."""
        return [Site(*found) for found in self.raw.verify()]

    def enforce(self) -> None:
        """Verify, and end the process by SIGSEGV, after a report, if an object was changed."""
        self.raw.enforce()

    def close(self) -> None:
        """Give everything back. Raises BufferError while a view is in use."""
        for shelf in self.shelves:
            shelf.clear()
        self.raw.close()


class _Generation:
    """Objects put or found since the last turn: where they lie, and what holds them.

    `large` are the batches of one object each; they can go on into the next generation.
    """

    __slots__ = ("batches", "large", "places")

    def __init__(self) -> None:
        self.places: dict[Hashable, int] = {}
        self.batches: list[_slab.Batch] = []
        self.large: dict[Hashable, _slab.Batch] = {}


class Shelf:
    """Objects up to a total size, those not used for long going first, a batch at a time.

    As in an ordinary bounded cache there are two generations: when the young one has half of
    the limit it becomes the old one, and the old one's batches go. What is found in the old one
    is put into the young one. Whoever reads needs no lock.
    """

    def __init__(self, store: Store, name: str, limit: int) -> None:
        self.name = name
        self._store = store
        self._read = store.raw.read
        self._look = store.raw.view
        self._half = limit // 2
        self._held = 0
        self._given_back = 0
        self._open: _slab.Batch | None = None
        self._young, self._old = _Generation(), _Generation()
        self._lock = Lock()
        self._refused = False

    def read(self, key: Hashable, kind: int, a: int, b: int) -> bytes | None:
        """Return a copy of an object's bytes; None if there is no such object."""
        place = self._young.places.get(key)
        if place is not None:
            return self._read(place, kind, a, b)
        found = self.view(key, kind, a, b)
        return None if found is None else bytes(found)

    def read_many(self, keys: list[int], kind: int) -> list[bytes | None]:
        """Return copies of the objects whose first number is their key, their second 0."""
        young, old = self._young.places.get, self._old.places
        found = self._store.raw.read_many(list(map(young, keys)), kind, keys)
        if old and None in found:
            return [
                self.read(key, kind, key, 0) if data is None else data
                for key, data in zip(keys, found, strict=True)
            ]
        return found

    def view(self, key: Hashable, kind: int, a: int, b: int) -> memoryview | None:
        """Return the protected bytes of an object themselves; None if there is none."""
        place = self._young.places.get(key)
        if place is not None:
            return self._look(place, kind, a, b)
        place = self._old.places.get(key)
        found = None if place is None else self._look(place, kind, a, b)
        if found is not None and place is not None:
            self._renew(key, kind, place, (a, b, found))
        return found

    def put(self, kind: int, rows: Sequence[Row]) -> None:
        """Publish objects in place of what was kept under their keys.

        Where the system refuses memory nothing is kept under some of them: said once.
        """
        with self._lock:
            self._keep(kind, rows)

    def _keep(self, kind: int, rows: Sequence[Row]) -> None:
        try:
            self._put(kind, rows)
        except (SlabError, OSError) as error:
            self._open = None
            for generation in (self._young, self._old):
                for row in rows:
                    generation.places.pop(row[0], None)
            if not self._refused:
                self._refused = True
                log.warning("no write-once memory for every %s: %s", self.name, error)

    def _renew(
        self, key: Hashable, kind: int, place: int, row: tuple[int, int, memoryview]
    ) -> None:
        """Have what was found in the old generation outlive it."""
        with self._lock:
            if key in self._young.places:  # put meanwhile, perhaps anew
                return
            holder = self._old.large.pop(key, None)
            if holder is None:
                self._keep(kind, ((key, row[0], row[1], bytes(row[2])),))
                return
            self._young.large[key] = holder
            self._young.places[key] = place
            self._weigh(len(row[2]), 1)

    def _put(self, kind: int, rows: Sequence[Row]) -> None:
        rest = rows
        while rest:
            batch, young = self._batch_for(rest[0]), self._young
            done, size = batch.put(kind, rest, young.places)
            if batch is not self._open:
                batch.seal()
            elif young.large:
                for row in rest[:done]:
                    young.large.pop(row[0], None)
            if done < len(rest) and batch is self._open:
                batch.seal()
                self._open = None
            rest = rest[done:]
            self._weigh(size, done)

    def _batch_for(self, row: Row) -> _slab.Batch:
        """Return a batch to put an object into; where it is full, it takes none."""
        room = BATCH_BYTES - _HEADER_BYTES
        if len(row[3]) > room:
            batch = self._young.large[row[0]] = self._store.raw.batch(len(row[3]))
            return batch
        if self._open is None:
            self._open = self._store.raw.batch(min(room, max(self._half, len(row[3]))))
            self._young.batches.append(self._open)
        return self._open

    def _weigh(self, size: int, count: int) -> None:
        """Count what was added; turn the generations when half of the limit is reached."""
        self._held += size + _HEADER_BYTES * count
        if self._held > self._half:
            if self._open is not None:
                self._open.seal()
            self._given_back += len(self._old.batches) + len(self._old.large)
            self._open, self._held = None, 0
            self._old, self._young = self._young, _Generation()

    def __len__(self) -> int:
        return len(self._young.places.keys() | self._old.places.keys())

    def batches(self) -> Iterator[_slab.Batch]:
        """Yield all batches."""
        for generation in (self._young, self._old):
            yield from list(generation.batches)
            yield from list(generation.large.values())

    def stats(self) -> ShelfStats:
        """Return what the shelf holds; what was renewed counts twice until the old copy goes."""
        states = [batch.state() for batch in self.batches()]
        return ShelfStats(
            self.name,
            sum(state[3] for state in states),
            len(states),
            sum(state[4] for state in states),
            self._given_back,
            sum(state[2] for state in states),
            sum(state[1] for state in states),
        )

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._open, self._held = None, 0
            self._young, self._old = _Generation(), _Generation()
