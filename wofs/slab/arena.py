"""The Python face of the slab: arenas, caches of one record type, read-only handles.

An object's content is packed into private bytes and published whole: there is no second
write, no setter, nothing that makes memory writable. Knows nothing of XFS.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

from wofs.errors import NoBackend, SlabError, SlabFinished, SlabFull
from wofs.record import Record, RecordSpec
from wofs.slab import _slab

R = TypeVar("R", bound=Record)
PAGE = mmap.PAGESIZE
BACKEND = "memfd"

Row = Sequence[Any]
"""Field values of one object, in the order of the record's fields."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What one cache holds; sizes in bytes."""

    name: str
    objects: int
    object_bytes: int
    pages: int
    bytes_used: int
    bytes_wasted: int


@dataclass(frozen=True, slots=True)
class ArenaStats:
    """What an arena holds: its backend, whether it is sealed and locked, its caches."""

    backend: str
    sealed: bool
    locked: bool
    pages: int
    caches: tuple[CacheStats, ...]


class _Layout:
    """A record type's native layout and its C counterparts; one per record, for ever."""

    def __init__(self, spec: RecordSpec) -> None:
        fields, format_parts, at = [], ["="], 0
        for name, code, count in spec.slab_fields:
            size = struct.calcsize("=" + code)
            start = -(-at // size) * size
            format_parts.append(f"{start - at}x{count}{code}")
            fields.append((name, code, start, count))
            at = start + size * count
        self.size = -(-at // 8) * 8
        self.pack = struct.Struct("".join(format_parts) + f"{self.size - at}x").pack
        self.arrays = [i for i, f in enumerate(spec.fields) if f.is_array]
        self.capsule = _slab.layout(spec.name, self.size, tuple(fields))
        self.type = _slab.handle_type(self.capsule, f"wofs.slab.{spec.name.replace(' ', '_')}")

    def encode(self, row: Row) -> bytes:
        """Pack one object's values; struct.error for a value that does not fit."""
        if not self.arrays:
            return self.pack(*row)
        flat: list[Any] = []
        for index, value in enumerate(row):
            if index in self.arrays:
                flat.extend(value)
            else:
                flat.append(value)
        return self.pack(*flat)


_LAYOUTS: dict[int, _Layout] = {}


def _layout_of(spec: RecordSpec) -> _Layout:
    found = _LAYOUTS.get(id(spec))
    if found is None:
        found = _LAYOUTS[id(spec)] = _Layout(spec)
    return found


class Handles(Sequence[R], Generic[R]):
    """The handles of a batch, made when asked for."""

    def __init__(self, arena: _slab.Arena, layout: _Layout, offset: int, count: int) -> None:
        self._arena = arena
        self._layout = layout
        self._offset = offset
        self._count = count

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
        at = self._offset + index % self._count * self._layout.size
        return cast(R, self._arena.handle(self._layout.type, self._layout.capsule, at))


class Cache(Generic[R]):
    """Objects of one record type, several a page."""

    def __init__(self, arena: Arena, record: type[R]) -> None:
        self._arena = arena
        self._spec = record.spec
        self._layout = _layout_of(record.spec)
        self.objects = 0

    def init_once(self, name: str, /, **values: object) -> R:
        """Create the object called `name` with all its values; the only way to fill it.

        Raises SlabFinished, SlabFull, and SlabError for values that do not fit; then nothing
        is published.
        """
        missing = [f.name for f in self._spec.fields if f.name not in values]
        if missing or len(values) != len(self._spec.fields):
            raise SlabError(f"{name}: the values must be those of {self._spec.name}: {missing}")
        row = [values[field.name] for field in self._spec.fields]
        return self._publish(name, False, [row])[0]

    def init_batch(self, prefix: str, rows: Iterable[Row]) -> Handles[R]:
        """Create one object per row (values in field order), named `prefix[0]` and so on."""
        return self._publish(prefix, True, rows)

    def _publish(self, prefix: str, indexed: bool, rows: Iterable[Row]) -> Handles[R]:
        try:
            packed = [self._layout.encode(row) for row in rows]
        except (struct.error, TypeError) as error:
            raise SlabError(f"{prefix}: {self._spec.name}: {error}") from error
        offset = self._arena.reserve(len(packed) * self._layout.size)
        data = b"".join(packed)
        self._arena.raw.publish(
            self._layout.capsule, prefix, indexed, offset, self._layout.size, len(packed), data
        )
        self.objects += len(packed)
        return Handles(self._arena.raw, self._layout, offset, len(packed))

    def stats(self) -> CacheStats:
        """Return what the cache holds."""
        used = self.objects * self._layout.size
        pages = -(-used // PAGE)
        return CacheStats(
            self._spec.name, self.objects, self._layout.size, pages, used, pages * PAGE - used
        )


class Arena:
    """Write-once memory of one mount: init_once, init_batch, finish, reads, close."""

    def __init__(self, raw: _slab.Arena) -> None:
        self.raw = raw
        self.backend = BACKEND
        self._caches: dict[str, Cache[Any]] = {}

    @classmethod
    def create(cls, pages: int, backend: str = "auto") -> Arena:
        """Reserve an arena of `pages` pages; raises NoBackend where the machine refuses."""
        if backend not in ("auto", BACKEND):
            raise NoBackend(f"no slab backend is called {backend!r}")
        try:
            return cls(_slab.Arena(pages * PAGE))
        except OSError as error:
            raise NoBackend(f"backend {BACKEND}: {error.strerror}") from error

    def cache(self, record: type[R]) -> Cache[R]:
        """Return the cache of a record type, made when first asked for."""
        name = record.spec.name
        if name not in self._caches:
            self._caches[name] = Cache(self, record)
        return self._caches[name]

    def reserve(self, size: int) -> int:
        """Return the page-aligned offset of `size` fresh bytes; each cache has its own pages."""
        total, used, sealed, _ = self.raw.state()
        if sealed:
            raise SlabFinished("the arena is sealed")
        start = -(-used // PAGE) * PAGE
        if start + size > total:
            raise SlabFull(f"{size} bytes do not fit: {total - start} are left")
        return start

    def finish(self, *, process_lifetime: bool = False) -> None:
        """Seal the arena: no object is created any more, by any means.

        `process_lifetime` also locks the view against unmapping until the process ends,
        where the kernel can (`stats().locked`). Raises SlabError if a writer is left.
        """
        try:
            self.raw.seal(process_lifetime)
        except OSError as error:
            raise SlabError(f"the arena cannot be sealed: {error.strerror}") from error

    def stats(self) -> ArenaStats:
        """Return what the arena holds."""
        _, used, sealed, locked = self.raw.state()
        caches = tuple(cache.stats() for cache in self._caches.values())
        return ArenaStats(self.backend, bool(sealed), bool(locked), -(-used // PAGE), caches)

    def close(self) -> None:
        """Unmap the memory (a locked one stays); reading a handle then raises ReferenceError."""
        self.raw.close()
