"""The race that Cook's condition is about: a thread hammers a page while objects are made in it.

The write permission of an init must never be visible to another processor. Here a second
thread stores, without pause, to a published object; the first makes and frees objects in the
same page. With a backend that opens the page for the time of an init, stores land in the
neighbour; with memfd no page is ever writable, so none can.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wofs.demo import children
from wofs.record import NEXT, Record, record, u32, u64
from wofs.slab import Arena, _slab

Progress = Callable[[int], object]
"""Told how many stores were tried so far."""

_INITS_AT_ONCE = 2000
_LEAST_INITS = 10_000


@record("victim", derived=True, source="the race demonstration")
class Victim(Record):
    """An object of 32 bytes, so that many share a page."""

    magic = u64(NEXT, "what a store spoils")
    owner = u32(NEXT, "who made it")
    spare = u64(NEXT, "more to spoil")


@dataclass(frozen=True)
class Race:
    """What became of one backend.

    `tried` stores, of which `landed` did not fault; `inits` made meanwhile, during how many of
    them the other thread had a processor and stored (`met`), and in how many the neighbour
    changed (`spoiled`); how many `seconds` it took.
    """

    backend: str
    tried: int
    landed: int
    inits: int
    met: int
    spoiled: int
    seconds: float


@contextmanager
def _hammered(address: int) -> Iterator[None]:
    """Hammer an address for the time of the block, from another processor where there is one.

    Two threads that take turns on one processor would hardly ever meet.
    """
    processors = os.sched_getaffinity(0)
    ours = min(processors)
    os.sched_setaffinity(0, processors - {ours} or processors)
    try:
        _slab.stray_hammer(address)  # a new thread stays where its maker is
        os.sched_setaffinity(0, {ours})
        yield
    finally:
        os.sched_setaffinity(0, processors)


def race(backend: str, stores: int, seconds: float = 0, told: Progress = lambda _: None) -> Race:
    """Hammer until `stores` stores were tried, `seconds` are over and 10,000 objects made.

    In this process; raises NoBackend.
    """
    arena = Arena.create(4, backend)
    cache = arena.cache(Victim)
    neighbour = cache.init_once("neighbour", magic=0, owner=1, spare=0)
    inits = met = spoiled = 0
    begun = time.monotonic()
    with _hammered(_slab.address(neighbour, "magic")):
        try:
            while (
                inits < _LEAST_INITS
                or _slab.stray_blows()[0] < stores
                or time.monotonic() < begun + seconds
            ):
                for number in range(_INITS_AT_ONCE):
                    before, blows = neighbour.magic, _slab.stray_blows()
                    made = cache.init_once("made", magic=number, owner=2, spare=number)
                    changed = neighbour.magic != before
                    met += changed or _slab.stray_blows() != blows
                    spoiled += changed
                    cache.free(made)
                inits += _INITS_AT_ONCE
                told(_slab.stray_blows()[0])
        finally:
            tried, landed = _slab.stray_rest()
    told(tried)
    arena.close()
    return Race(backend, tried, landed, inits, met, spoiled, round(time.monotonic() - begun, 3))


def in_child(
    backend: str, stores: int, seconds: float = 0, told: Progress = lambda _: None
) -> Race:
    """Race in a process of its own: what was spoiled must not be this one's memory.

    Raises RuntimeError with what the child said where the backend cannot be had.
    """
    return children.in_child(Race, "wofs.demo.race", (backend, stores, seconds), told)


if __name__ == "__main__":
    children.be_child(
        lambda backend, stores, seconds, told: race(backend, int(stores), float(seconds), told)
    )
