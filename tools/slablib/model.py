"""What the arenas of one process should hold: the fuzzer's own, simple bookkeeping."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from wofs.slab import _slab

HEADER_BYTES, ALIGNMENT = 32, 16


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


@dataclass(eq=False)
class Arena:
    """An arena: `pages` of objects, `control` before them."""

    raw: _slab.Arena
    backend: str
    page_bytes: int
    open: bool = True
    sealed: bool = False
    caches: list[Layout] = field(default_factory=list)
    alive: list[Life] = field(default_factory=list)
    owners: dict[int, int] = field(default_factory=dict)  # page: cache
    next_page: int = 0
    pages: int = 0
    control: int = 0

    def __post_init__(self) -> None:
        backend, sealed, _, self.pages, self.control, self.next_page = self.raw.state()
        if sealed or self.backend not in ("auto", backend) or self.next_page != self.control:
            raise Wrong(f"a new arena says of itself {self.raw.state()}")
        self.backend = backend

    def per_page(self, cache: int) -> int:
        """Slots of a page."""
        return self.page_bytes // self.caches[cache].stride

    def used(self, page: int) -> int:
        """Objects in a page."""
        return sum(life.offset // self.page_bytes == page for life in self.alive)

    def has_slot(self, cache: int) -> bool:
        """Whether one more object fits a page that the cache has."""
        most = self.per_page(cache)
        return any(self.used(p) < most for p, owner in self.owners.items() if owner == cache)

    def has_page(self) -> bool:
        """Whether a page belongs to nobody."""
        return len(self.owners) < self.pages - self.control

    def fresh_pages(self) -> int:
        """Pages that never belonged to anybody."""
        return self.pages - self.next_page

    def added(self, life: Life) -> None:
        """Take an object in; Wrong if another one lies there."""
        page, start = divmod(life.offset, self.page_bytes)
        if not self.control <= page < self.pages or start % life.layout.stride:
            raise Wrong(f"{life.name} at {life.offset} is outside the pages or between slots")
        if self.owners.setdefault(page, life.cache) != life.cache:
            raise Wrong(f"{life.name} lies in a page of cache {self.owners[page]}")
        if any(other.offset == life.offset for other in self.alive):
            raise Wrong(f"{life.name} lies where another object is")
        self.next_page = max(self.next_page, page + 1)
        self.alive.append(life)

    def freed(self, life: Life) -> None:
        """Take an object out, and its page back if that empties it."""
        self.alive.remove(life)
        page = life.offset // self.page_bytes
        if not self.used(page):
            del self.owners[page]

    def viewed(self) -> bool:
        """Whether a buffer of an object is out."""
        return any(life.views for life in self.alive)

    def audit(self) -> None:
        """Hold everything the arena says against the model."""
        if self.raw.verify():
            raise Wrong(f"verify says {self.raw.verify()}")
        self.raw.enforce()
        told = {page: (cache, list(slots)) for page, cache, slots in self.raw.page_map()[1]}
        if {page: cache for page, (cache, _) in told.items()} != self.owners:
            raise Wrong(f"pages are {told}, should be {self.owners}")
        for page, (cache, slots) in told.items():
            stride = self.caches[cache].stride
            taken = {
                life.offset % self.page_bytes // stride
                for life in self.alive
                if life.offset // self.page_bytes == page
            }
            if slots != [int(slot in taken) for slot in range(self.per_page(cache))]:
                raise Wrong(f"page {page} has {slots}, should have {sorted(taken)}")
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
