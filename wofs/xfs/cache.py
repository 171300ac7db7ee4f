"""A bounded cache for what may be evicted: verified when loaded, keyed by address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Least-recently-used values up to a total weight; safe for concurrent readers."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most weight held (one value heavier than that is still kept)."""
        self._limit = limit
        self._held = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep `value`; the oldest ones go when the weight passes the limit."""
        with self._lock:
            old = self._values.pop(key, None)
            if old is not None:
                self._held -= old[1]
            self._values[key] = (value, weight)
            self._held += weight
            while self._held > self._limit and len(self._values) > 1:
                self._held -= self._values.popitem(last=False)[1][1]

    def put_all(self, pairs: Iterable[tuple[K, V]]) -> None:
        """Keep many values of weight 1 at once."""
        with self._lock:
            values = self._values
            for key, value in pairs:
                if key not in values:
                    self._held += 1
                    values[key] = (value, 1)
            while self._held > self._limit and len(values) > 1:
                self._held -= values.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._values)
