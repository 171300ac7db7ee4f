"""What the stores of one process should hold: the fuzzer's own, simple bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass, field

from slablib.model import Wrong
from wofs.slab import _slab

HEADER_BYTES, ALIGNMENT = 32, 16


def room_of(size: int) -> int:
    """Return the bytes that an object takes, its header included."""
    return -(-(HEADER_BYTES + size) // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Kept:
    """An object of a batch."""

    place: int
    kind: int
    a: int
    b: int
    data: bytes = field(repr=False)


@dataclass(eq=False)
class Batch:
    """A batch; without `raw` only the views of it hold it."""

    raw: _slab.Batch | None
    first: int
    slots: int
    size: int
    sealed: bool = False
    used: int = 0
    kept: list[Kept] = field(default_factory=list)
    views: list[tuple[memoryview, bytes]] = field(default_factory=list)

    def places_of(self, start: int, sizes: list[int]) -> list[int]:
        """Return where the first objects of these sizes go, as many as fit."""
        found, at = list[int](), self.used
        for size in sizes:
            if self.sealed or room_of(size) > self.size - at:
                break
            found.append(start + at)
            at += room_of(size)
        return found


@dataclass(eq=False)
class Store:
    """A store of `nslots` slots; `base` is the address of the first."""

    raw: _slab.Store
    backend: str
    nslots: int
    slot_bytes: int
    names: tuple[str, ...]
    page_bytes: int
    base: int = 0
    open: bool = True
    batches: list[Batch] = field(default_factory=list)

    @property
    def kinds(self) -> int:
        """How many kinds there are."""
        return len(self.names)

    @property
    def size(self) -> int:
        """Bytes of all slots."""
        return self.nslots * self.slot_bytes

    def free_row(self) -> int:
        """Return how many slots in a row no batch has, at most."""
        taken = [False] * self.nslots
        for batch in self.batches:
            taken[batch.first : batch.first + batch.slots] = [True] * batch.slots
        longest = row = 0
        for held in taken:
            row = 0 if held else row + 1
            longest = max(longest, row)
        return longest

    def added(self, raw: _slab.Batch, room: int) -> Batch:
        """Take a batch in; Wrong if it is not where it may be, or not empty."""
        address, size, used, objects, sealed = raw.state()
        if not self.base:
            site = self.raw.locate(address)
            if site is None:
                raise Wrong("a batch lies outside its store")
            self.base = address - site[5] * self.page_bytes
        first, rest = divmod(address - self.base, self.slot_bytes)
        made = Batch(raw, first, size // self.slot_bytes, size)
        slots = -(-(room + HEADER_BYTES) // self.slot_bytes)
        if rest or used or objects or sealed or made.slots != slots or size % self.slot_bytes:
            raise Wrong(f"a new batch for {room} bytes says of itself {raw.state()}")
        for other in self.batches:
            if other.first < first + slots and first < other.first + other.slots:
                raise Wrong(f"slots {first} to {first + slots} are taken")
        if not 0 <= first <= self.nslots - slots:
            raise Wrong(f"a batch begins at slot {first} of {self.nslots}")
        self.batches.append(made)
        return made

    def put(self, batch: Batch, kind: int, rows: list[tuple[int, int, bytes]]) -> list[int]:
        """Take as many rows in as fit; return their places."""
        start = batch.first * self.slot_bytes
        places = batch.places_of(start, [len(data) for _, _, data in rows])
        for place, (a, b, data) in zip(places, rows, strict=False):
            batch.kept.append(Kept(place, kind, a, b, data))
            batch.used = place - start + room_of(len(data))
        return places

    def settle(self) -> None:
        """Forget the batches that nothing holds any more."""
        self.batches = [batch for batch in self.batches if batch.raw or batch.views]

    def holds(self, place: int, kind: int, a: int, b: int) -> bytes | None:
        """Return the bytes of the object there, if it has that key."""
        for batch in self.batches:
            for kept in batch.kept:
                if (kept.place, kept.kind, kept.a, kept.b) == (place, kind, a, b):
                    return kept.data
        return None

    def audit(self) -> None:
        """Hold everything the store says against the model."""
        if self.raw.verify():
            raise Wrong(f"verify says {self.raw.verify()}")
        self.raw.enforce()
        for batch in self.batches:
            if batch.raw is not None:
                told = batch.raw.state()
                wanted = (self.base + batch.first * self.slot_bytes, batch.size, batch.used)
                if told != (*wanted, len(batch.kept), int(batch.sealed)):
                    raise Wrong(f"a batch says {told}, should say {wanted}")
            for kept in batch.kept:
                if self.raw.read(kept.place, kept.kind, kept.a, kept.b) != kept.data:
                    raise Wrong(f"{kept} reads otherwise")
            for view, data in batch.views:
                if view != data:
                    raise Wrong("a view of an object changed")
