"""The Python face of the slab: arenas, caches of one record type, read-only handles.

An object's content is packed into private bytes and published whole: there is no second
write, no setter, nothing that makes memory writable. The only undo is `free`, which poisons
the object and gives its slot back. Knows nothing of XFS.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from wofs.errors import NoBackend, SlabError
from wofs.record import Record
from wofs.slab import _slab
from wofs.slab.layout import Layout, Row, layout_of

R = TypeVar("R", bound=Record)
C = TypeVar("C", bound=Record, covariant=True)
PAGE = mmap.PAGESIZE
HEADER_BYTES = 24
"""What stands before each object: cookie, serial, size, number, name, cache."""

BACKENDS = ("memfd", "shared", "mprotect", "alias", "pkey", "pool", "none")
"""`auto` takes the first of the first three that the machine grants. The others are for
comparison and must be asked for; `none` is the control of experiments: ordinary memory."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What one cache holds.

    `object_bytes` is one object without its header, `slot_bytes` with it; `bytes_used` are
    those of the fields and paddings of all objects, `bytes_wasted` the rest of its runs. `pages`
    are those its runs lie in, which runs of other caches may share.
    """

    name: str
    objects: int
    object_bytes: int
    slot_bytes: int
    pages: int
    bytes_used: int
    bytes_wasted: int


@dataclass(frozen=True, slots=True)
class ArenaStats:
    """What an arena holds: its backend, whether it is sealed and locked, its caches.

    `pages` are those with objects in them; `control_bytes` what says where these are.
    Since `published` (seconds of the epoch; None while it is open) all is as it will stay.
    """

    backend: str
    sealed: bool
    locked: bool
    pages: int
    control_bytes: int
    published: float | None
    caches: tuple[CacheStats, ...]


@dataclass(frozen=True, slots=True)
class PageMap:
    """One run of objects of a cache: the page and address it begins at, and which slots hold one.

    A page may hold several runs, and a run may go on in the next page.
    """

    page: int
    address: int
    cache: str
    slot_bytes: int
    slots: tuple[bool, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Site:
    """What lies at an address of an arena.

    `what` is "object", "header", "padding", "free object", "end of a run", "unused space" or
    "control area"; `name` the object (where there is none, the nearest below), `byte` the
    offset within it (negative in its header).
    """

    what: str
    name: str
    cache: str
    field: str | None
    address: int
    page: int
    slot: int
    byte: int

    def __str__(self) -> str:
        if self.field is not None:
            return f"{self.name}.{self.field}"
        return f"{self.what} ({self.name})" if self.name else self.what


class Handles(Sequence[R], Generic[R]):
    """The handles of a batch, made when asked for."""

    def __init__(
        self, arena: _slab.Arena, layout: Layout, count: int, place: tuple[int, int, int, int, int]
    ) -> None:
        self._arena = arena
        self._layout = layout
        self._count = count
        self._offset, self._serial, self._per_run, self._run_bytes, self._stride = place

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        number = index % self._count
        run, slot = divmod(number, self._per_run)
        offset = self._offset + run * self._run_bytes + slot * self._stride
        layout = self._layout
        handle = self._arena.handle(layout.type, layout.id, offset, self._serial + number)
        return cast(R, handle)


class InitOnce(Protocol[C]):
    """What creates the objects of a cache, one by one; the only way to fill one."""

    def __call__(self, name: str, /, **values: object) -> C:
        """Create the object called `name` with all its values.

        Raises SlabFinished, SlabFull, and SlabError for values that do not fit; then nothing
        is published.
        """
        ...


class Cache(Generic[R]):
    """Objects of one record type, several a page."""

    init_once: InitOnce[R]

    def __init__(self, arena: _slab.Arena, record: type[R]) -> None:
        self._arena = arena
        self._spec = record.spec
        self._layout = layout_of(record.spec)
        self._number = arena.cache(self._layout.id)
        filler = arena.filler(self._number, self._layout.id, self._layout.type)
        self.init_once = cast("InitOnce[R]", filler)

    def init_batch(self, prefix: str, rows: Iterable[Row]) -> Handles[R]:
        """Create one object per row (values in field order), named `prefix[0]` and so on.

        Raises as `init_once` does; where the system fails half way, objects already published
        stay, without handles, until the arena is closed.
        """
        data = self._packed(prefix, rows)
        place = self._arena.init_batch(self._number, prefix, data)
        return Handles(self._arena, self._layout, len(data) // self._layout.size, place)

    def _packed(self, name: str, rows: Iterable[Row]) -> bytes:
        try:
            return _slab.pack(self._layout.id, rows)
        except (OverflowError, TypeError) as error:
            raise SlabError(f"{name}: {self._spec.name}: {error}") from error

    def free(self, obj: R) -> None:
        """Poison an object and give its slot back to the freelist; its handles are stale.

        Raises StaleHandle for one that is freed already, SlabFinished once the arena is
        sealed (it is then given back whole, by `close`), BufferError while a memoryview of
        the object is in use, SlabError in a `pool`, ValueError for an object of another cache
        or arena.
        """
        self._arena.free(self._number, obj)

    def stats(self) -> CacheStats:
        """Return what the cache holds."""
        objects, _, pages, held, stride = self._arena.cache_state(self._number)
        used = objects * self._layout.size
        return CacheStats(
            self._spec.name, objects, self._layout.size, stride, pages, used, held - used
        )


class Arena:
    """Write-once memory of one mount: init_once, init_batch, free, finish, reads, close."""

    def __init__(self, raw: _slab.Arena) -> None:
        self._raw = raw
        self._caches: dict[str, Cache[Any]] = {}
        self._published: float | None = None

    @classmethod
    def create(cls, pages: int, backend: str = "auto", label: str = "object") -> Arena:
        """Reserve an arena of `pages` pages for objects.

        `label` is what crash reports call its objects (at most 15 letters). Raises NoBackend
        where the machine does not grant the backend.
        """
        if backend not in ("auto", *BACKENDS):
            known = ", ".join(("auto", *BACKENDS))
            raise NoBackend(f"no slab backend is called {backend!r}: {known}")
        try:
            return cls(_slab.Arena(pages, backend, label))
        except OSError as error:
            raise NoBackend(f"slab backend {backend}: {error.strerror}") from error

    def cache(self, record: type[R]) -> Cache[R]:
        """Return the cache of a record type, made when first asked for."""
        name = record.spec.name
        if name not in self._caches:
            self._caches[name] = Cache(self._raw, record)
        return self._caches[name]

    def finish(self, *, process_lifetime: bool = False) -> None:
        """Seal the arena: no object is created or freed any more, by any means.

        `process_lifetime` also locks the view against unmapping until the process ends, where
        the kernel can (`stats().locked`), and lets this process make no other arena. Raises
        SlabError if a writer is left, or an object is not what was published.
        """
        try:
            self._raw.finish(process_lifetime)
        except OSError as error:
            raise SlabError(f"the arena cannot be sealed: {error.strerror}") from error
        if self._published is None:
            self._published = time.time()

    def verify(self) -> list[Site]:
        """Return the objects whose bytes are no longer those that were published.

        The checksums compared with were taken at publication and lie elsewhere. This finds
        what protection cannot stop: writes by the kernel, a debugger, failing memory.
        """
        return [Site(*found) for found in self._raw.verify()]

    def enforce(self) -> None:
        """Verify, and end the process by SIGSEGV, after a report, if an object was changed."""
        self._raw.enforce()

    def locate(self, address: int) -> Site | None:
        """Return what lies at an address; None outside the arena."""
        found = self._raw.locate(address)
        return None if found is None else Site(*found)

    def stats(self) -> ArenaStats:
        """Return what the arena holds. Raises StaleHandle once it is closed."""
        backend, sealed, locked, control, pages, _, _ = self._raw.state()
        caches = tuple(cache.stats() for cache in self._caches.values())
        since = self._published
        return ArenaStats(backend, bool(sealed), bool(locked), pages, control, since, caches)

    def pages(self) -> list[PageMap]:
        """Return the runs of objects in the order of their addresses."""
        caches = [cache.stats() for cache in self._caches.values()]
        view, found = self._raw.page_map()
        return sorted(
            (
                PageMap(
                    offset // PAGE,
                    view + offset,
                    caches[number].name,
                    caches[number].slot_bytes,
                    tuple(map(bool, slots)),
                    size,
                )
                for offset, size, number, slots in found
            ),
            key=lambda item: item.address,
        )

    def objects(self) -> Iterator[Site]:
        """Yield the site of every object, by its first byte, in the order of addresses."""
        for page in self.pages():
            for slot, taken in enumerate(page.slots):
                start = page.address + slot * page.slot_bytes + HEADER_BYTES
                site = self.locate(start) if taken else None
                if site is not None:
                    yield site

    def close(self) -> None:
        """Unmap the memory (a locked one stays); a second call does nothing.

        Reading a handle then raises StaleHandle. Raises BufferError while a memoryview of an
        object is in use.
        """
        self._raw.close()
