"""Where a mount keeps what may be evicted: in ordinary caches, or all of it in write-once memory.

In an ordinary cache lie decoded values. In write-once memory lie the proved bytes they are
decoded from, with their key; each use decodes afresh, which gives an object that lives for one
request. What is cheap to derive from other bytes that are kept (entries of a directory's block)
is then not kept at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from wofs.slab import Shelf, Store
from wofs.xfs.cache import Cache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
KK = TypeVar("KK", bound=Hashable, contravariant=True)

KINDS = (
    "inode",
    "data extent map",
    "attribute extent map",
    "inobt chunks",
    "directory entries",
    "directory index",
    "directory block",
    "directory index block",
    "attribute block",
    "attribute value block",
    "bmbt block",
    "inobt block",
    "finobt block",
    "symlink block",
    "agf",
    "agi",
    "agfl",
)
"""What reports call what is kept; the number in brackets is the inode, AG or sector it is of."""

KIND_OF = {name: number for number, name in enumerate(KINDS)}

_ADDRESSES_BYTES = 1 << 30
"""Of the store: limits of all caches and two extent maps of the largest size have room."""

_LABEL = "metadata"


class Kept(Protocol[KK, V]):
    """A bounded cache."""

    def get(self, key: KK) -> V | None:
        """Return the value of `key`, or None."""
        ...

    def get_many(self, keys: Sequence[KK]) -> list[V | None]:
        """Return the value of each key, or None."""
        ...

    def put(self, key: KK, value: V) -> None:
        """Keep `value` in place of what was kept under `key`."""
        ...

    def put_many(self, pairs: Sequence[tuple[KK, V]]) -> None:
        """Keep some values at once."""
        ...


@dataclass(frozen=True, slots=True)
class Form(Generic[K, V]):
    """How a value is written down, and found again by its key: (kind, two numbers)."""

    name: str
    identify: Callable[[K], tuple[int, int, int]]
    encode: Callable[[V], bytes]
    decode: Callable[[K, memoryview], V]


class Keeper:
    """Makes the caches of a mount."""

    store: Store | None = None

    def __init__(self, share: float = 1.0) -> None:
        """`share` is the part of their limits that the caches may fill."""
        self.share = share

    def cache(self, limit: int, weigh: int | Callable[[V], int], form: Form[K, V]) -> Kept[K, V]:
        """Return a cache of values that are costly to make."""
        return Cache(int(limit * self.share), weigh)

    def parsed(self, limit: int, weigh: int | Callable[[V], int]) -> Kept[Hashable, V]:
        """Return a cache of values that are parsed from what is kept elsewhere."""
        return Cache(int(limit * self.share), weigh)

    def close(self) -> None:
        """Give everything back."""


class Protecting(Keeper):
    """Keeps all in write-once memory."""

    store: Store

    def __init__(self, backend: str, share: float = 1.0) -> None:
        """Raises NoBackend where the machine does not grant it."""
        super().__init__(share)
        self.store = Store.create(_ADDRESSES_BYTES, backend, _LABEL, KINDS)

    def shelf(self, name: str, limit: int) -> Shelf:
        """Return a new shelf of the store."""
        return self.store.shelf(name, int(limit * self.share))

    def cache(self, limit: int, weigh: int | Callable[[V], int], form: Form[K, V]) -> Kept[K, V]:
        """Return a cache of values that are costly to make."""
        return Protected(self.shelf(form.name, limit), form)

    def parsed(self, limit: int, weigh: int | Callable[[V], int]) -> Kept[Hashable, V]:
        """Return what keeps nothing."""
        return Nothing()

    def close(self) -> None:
        """Give everything back. Raises BufferError while a view is in use."""
        self.store.close()


class Nothing(Generic[K, V]):
    """Keeps nothing."""

    def get(self, key: K) -> V | None:
        """Return None."""
        return None

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """Return None for each key."""
        return [None] * len(keys)

    def put(self, key: K, value: V) -> None:
        """Keep nothing."""

    def put_many(self, pairs: Sequence[tuple[K, V]]) -> None:
        """Keep nothing."""


class Protected(Generic[K, V]):
    """Keeps values in write-once memory, written down in their form."""

    def __init__(self, shelf: Shelf, form: Form[K, V]) -> None:
        self._shelf = shelf
        self._view = shelf.view
        self._identify, self._encode, self._decode = form.identify, form.encode, form.decode

    def get(self, key: K) -> V | None:
        """Decode the value of `key`, or return None."""
        found = self._view(key, *self._identify(key))
        return None if found is None else self._decode(key, found)

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """Decode the value of each key, or return None."""
        return list(map(self.get, keys))

    def put(self, key: K, value: V) -> None:
        """Keep `value` in place of what was kept under `key`."""
        self.put_many(((key, value),))

    def put_many(self, pairs: Sequence[tuple[K, V]]) -> None:
        """Keep some values at once."""
        identify, encode = self._identify, self._encode
        by_kind: dict[int, list[tuple[Hashable, int, int, bytes]]] = {}
        for key, value in pairs:
            kind, a, b = identify(key)
            by_kind.setdefault(kind, []).append((key, a, b, encode(value)))
        for kind, rows in by_kind.items():
            self._shelf.put(kind, rows)
