"""What the arenas of one process should hold: the fuzzer's own, simple bookkeeping."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from wofs.slab import _slab

HEADER_BYTES, ALIGNMENT, UNIT, NAME_BYTES = 24, 8, 128, 32 << 10


class Wrong(AssertionError):
    """The slab answered otherwise than the model."""


@dataclass(eq=False)
class Layout:
    """A record type as it was declared: fields are (name, code, offset, count)."""

    id: int
    type: type
    name: str
    size: int
    fields: tuple[tuple[str, str, int, int], ...]

    @property
    def stride(self) -> int:
        """Bytes from a slot to the next."""
        return -(-(HEADER_BYTES + self.size) // ALIGNMENT) * ALIGNMENT

    def value(self, data: bytes, number: int) -> object:
        """Return what the field must read as in an object of these bytes."""
        _, code, offset, count = self.fields[number]
        if code == "s":
            return data[offset : offset + count]
        values = struct.unpack_from(f"={count}{code}", data, offset)
        return values[0] if count == 1 else values


@dataclass(eq=False)
class Life:
    """A published object; `handle` is the first one made of it."""

    cache: int
    layout: Layout
    data: bytes
    offset: int
    serial: int
    handle: object
    name: str
    views: list[memoryview] = field(default_factory=list)

    def check(self, handle: object) -> None:
        """Read all fields through a handle."""
        for number, (name, *_) in enumerate(self.layout.fields):
            found, wanted = getattr(handle, name), self.layout.value(self.data, number)
            if found != wanted:
                raise Wrong(f"{self.name}.{name} is {found!r}, published was {wanted!r}")


@dataclass(frozen=True)
class Run:
    """A stretch of memory that a cache has, as the arena tells of it."""

    start: int
    bytes: int
    cache: int
    slots: tuple[bool, ...]


def units(size: int) -> int:
    """Return how many bytes whole units take that hold so many."""
    return -(-size // UNIT) * UNIT


@dataclass(eq=False)
class Arena:
    """An arena: objects from `start` to `end`; `top` is where no run has been yet."""

    raw: _slab.Arena
    backend: str
    page_bytes: int
    open: bool = True
    sealed: bool = False
    caches: list[Layout] = field(default_factory=list)
    alive: list[Life] = field(default_factory=list)
    start: int = 0
    end: int = 0
    top: int = 0

    def __post_init__(self) -> None:
        backend, sealed, _, _, used, self.start, self.end = self.raw.state()
        if sealed or self.backend not in ("auto", backend) or used:
            raise Wrong(f"a new arena says of itself {self.raw.state()}")
        self.backend, self.top = backend, self.start

    @property
    def view_bytes(self) -> int:
        """Bytes of all of it: names that do not fit before the objects have room behind them."""
        return self.end + -(-(NAME_BYTES - UNIT) // self.page_bytes) * self.page_bytes

    def runs(self) -> list[Run]:
        """Return what the arena has given to caches, in the order of addresses; Wrong if two meet.

        `top` follows from here.
        """
        told = [Run(*run[:3], tuple(map(bool, run[3]))) for run in self.raw.page_map()[1]]
        told.sort(key=lambda run: run.start)
        at = self.start
        for run in told:
            stride = self.caches[run.cache].stride
            if run.start < at or run.start % UNIT or run.bytes % UNIT:
                raise Wrong(f"{run} begins before {at} or between units")
            if len(run.slots) != run.bytes // stride or run.bytes >= len(run.slots) * stride + UNIT:
                raise Wrong(f"{run} is not what its slots need")
            if run.bytes > max(units(self.page_bytes), units(stride)):
                raise Wrong(f"{run} is longer than a page")
            at = run.start + run.bytes
        if at > self.end:
            raise Wrong(f"a run ends at {at}, the arena at {self.end}")
        self.top = max(self.top, at)
        return told

    def has_room(self, cache: int) -> bool:
        """Whether one more object of a cache fits: into a run it has, or between runs."""
        runs, need = self.runs(), units(self.caches[cache].stride)
        if any(run.cache == cache and not all(run.slots) for run in runs):
            return True
        ends = [self.start, *(run.start + run.bytes for run in runs)]
        starts = [*(run.start for run in runs), self.top]
        gaps = [start - end for end, start in zip(ends, starts, strict=True)]
        return max(*gaps, self.end - self.top) >= need

    def batch_bytes(self, cache: int, count: int) -> int:
        """Bytes that a batch takes: runs of the number of slots that fills units best."""
        stride = self.caches[cache].stride
        slots = range(1, max(1, self.page_bytes // stride) + 1)
        best = max(slots, key=lambda n: (n * stride / units(n * stride), n))
        full, rest = divmod(count, best)
        return full * units(best * stride) + units(rest * stride)

    def added(self, life: Life) -> None:
        """Take an object in; Wrong if another one lies there."""
        if any(other.offset == life.offset for other in self.alive):
            raise Wrong(f"{life.name} lies where another object is")
        self.alive.append(life)
        if life.offset + life.layout.stride > self.top:
            self.runs()

    def freed(self, life: Life) -> None:
        """Take an object out."""
        self.alive.remove(life)

    def viewed(self) -> bool:
        """Whether a buffer of an object is out."""
        return any(life.views for life in self.alive)

    def audit(self) -> None:
        """Hold everything the arena says against the model."""
        if self.raw.verify():
            raise Wrong(f"verify says {self.raw.verify()}")
        self.raw.enforce()
        there = {(life.offset, life.cache) for life in self.alive}
        told = set()
        for run in self.runs():
            if not any(run.slots):
                raise Wrong(f"{run} is empty and was not given back")
            stride = self.caches[run.cache].stride
            told |= {
                (run.start + slot * stride, run.cache)
                for slot, taken in enumerate(run.slots)
                if taken
            }
        if told != there:
            raise Wrong(f"objects are at {sorted(told)}, should be at {sorted(there)}")
        state = self.raw.state()
        if (state[0], bool(state[1])) != (self.backend, self.sealed):
            raise Wrong(f"state is {state}")
        for number in range(len(self.caches)):
            objects = sum(life.cache == number for life in self.alive)
            if self.raw.cache_state(number)[0] != objects:
                raise Wrong(f"cache {number}: {self.raw.cache_state(number)}, not {objects}")
        for life in self.alive:
            life.check(life.handle)
            for view in life.views:
                if bytes(view) != life.data:
                    raise Wrong(f"a view of {life.name} changed")
