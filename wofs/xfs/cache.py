"""A bounded cache for what may be evicted: verified when loaded, keyed by address."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Values up to a total weight in bytes, those not used for long going first.

    There are two generations. What is put or found is in the young one; when that has half of
    the limit it becomes the old one, and the old one goes. So a hit costs one look into a
    dictionary (60 ns; an ordered dictionary under a lock took 400), and readers need no lock:
    where one looks while the generations change, it misses at worst.
    """

    def __init__(self, limit: int, weigh: int | Callable[[V], int]) -> None:
        """`limit` is the most weight held (one value heavier than that is still kept).

        `weigh` is what every value weighs, or tells it of each.
        """
        self._half = limit // 2
        self._weigh = weigh
        self._held = 0
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """Return the value of each key, or None."""
        young = self._young.get
        found = [young(key) for key in keys]
        if self._old and None in found:
            return list(map(self.get, keys))
        return found

    def put(self, key: K, value: V) -> None:
        """Keep `value` in place of what was kept under `key`."""
        self.put_many(((key, value),))

    def put_many(self, pairs: Sequence[tuple[K, V]]) -> None:
        """Keep some values at once."""
        weigh = self._weigh
        with self._lock:
            young = self._young
            if isinstance(weigh, int):
                young.update(pairs)
                self._held = weigh * len(young)
            else:
                for key, value in pairs:
                    before = young.get(key)
                    self._held += weigh(value) - (0 if before is None else weigh(before))
                    young[key] = value
            if self._held > self._half:
                self._old, self._young, self._held = young, {}, 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
