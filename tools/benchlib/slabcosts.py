"""What single operations of the slab cost, each beside what it is measured against.

    python -m benchlib.slabcosts      prints one JSON object: {row: nanoseconds}

Every row is the best of several rounds, and the rows take turns within a round, so that a
noisy machine hits all of them alike. The objects are AGFs, the commonest of a mount.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import struct
import sys
import time
import timeit
from collections.abc import Callable

from wofs.ondisk.ag import Agf
from wofs.slab import Arena
from wofs.slab.arena import HEADER_BYTES
from wofs.slab.layout import layout_of

ROUNDS = 15
OBJECTS = 500
BATCH = 20_000
READS = 4000
LAYOUT = layout_of(Agf.spec)
NAMES = tuple(f.name for f in Agf.spec.fields)
ROW = [bytes(f.size) if f.code == "s" else 83_887 for f in Agf.spec.fields]
SLOT = 4096

Timed = Callable[[], float]
"""Does something many times; returns nanoseconds for one."""


def clock(work: Callable[[], object], times: int) -> float:
    """Return what one of `times` things costs that `work` does."""
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / times


class Plain:
    """The same fields in slots: ordinary Python."""

    __slots__ = NAMES


def publishing(backend: str) -> dict[str, Timed]:
    """Return the rows of creating and freeing on a backend."""
    values = dict(zip(NAMES, ROW, strict=True))
    data = LAYOUT.encode(ROW)
    rows = [ROW] * BATCH
    batch = data * BATCH

    def arena() -> Arena:
        return Arena.create(BATCH // 20 + 64, backend)

    def init_once() -> float:
        made = arena()
        init = made.cache(Agf).init_once
        spent = clock(lambda: [init("agf", **values) for _ in range(OBJECTS)], OBJECTS)
        made.close()
        return spent

    def init_bytes() -> float:
        made = arena()
        made.cache(Agf)
        raw = made._raw
        spent = clock(lambda: [raw.init_once(0, "agf", data) for _ in range(OBJECTS)], OBJECTS)
        made.close()
        return spent

    def free() -> float:
        made = arena()
        cache = made.cache(Agf)
        handles = [cache.init_once("agf", **values) for _ in range(OBJECTS)]

        def release() -> None:
            for handle in handles:
                cache.free(handle)

        spent = clock(release, OBJECTS)
        made.close()
        return spent

    def init_batch() -> float:
        made = arena()
        cache = made.cache(Agf)
        spent = clock(lambda: cache.init_batch("agf", rows), BATCH)
        made.close()
        return spent

    def batch_bytes() -> float:
        made = arena()
        made.cache(Agf)
        spent = clock(lambda: made._raw.init_batch(0, "agf", batch), BATCH)
        made.close()
        return spent

    found = {
        f"init_once, {backend}": init_once,
        f"init_once of packed bytes, {backend}": init_bytes,
        f"init_batch, {backend}": init_batch,
        f"init_batch of packed bytes, {backend}": batch_bytes,
    }
    return found if backend == "pool" else {**found, f"free, {backend}": free}


def copying() -> dict[str, Timed]:
    """Return the rows of copying the same bytes into memory that is there."""
    one = LAYOUT.encode(ROW) + bytes(HEADER_BYTES)
    many = one * BATCH
    small, large = mmap.mmap(-1, SLOT), mmap.mmap(-1, len(many))
    room = (ctypes.c_char * len(many)).from_buffer(large)
    end = len(one)

    def memcpy() -> float:
        def copy() -> None:
            for _ in range(OBJECTS):
                small[0:end] = one

        return clock(copy, OBJECTS)

    return {
        "memcpy of one object": memcpy,
        "memcpy of a batch": lambda: clock(lambda: ctypes.memmove(room, many, len(many)), BATCH),
        "packing one row": lambda: clock(
            lambda: [LAYOUT.encode(ROW) for _ in range(OBJECTS)], OBJECTS
        ),
    }


def reading() -> dict[str, Timed]:
    """Return the rows of reading one 32-bit field.

    Twenty reads in a row, with next to nothing around them; and one in each turn of a loop.
    """
    values = dict(zip(NAMES, ROW, strict=True))
    arena = Arena.create(8)
    handle = arena.cache(Agf).init_once("agf", **values)
    arena.finish()
    plain = Plain()
    for name, value in values.items():
        setattr(plain, name, value)
    kind = type("Agf", (ctypes.Structure,), {"_fields_": [(n, ctypes.c_uint32) for n in NAMES]})
    view = memoryview(handle)  # type: ignore[arg-type]
    words = view[: len(view) // 4 * 4].cast("I")
    at = NAMES.index("length")
    names: dict[str, object] = {
        "slab": handle,
        "plain": plain,
        "structure": kind(*[83_887] * len(NAMES)),
        "unpack": struct.Struct("=I").unpack_from,
        "view": view,
        "words": words,
        "arena": arena,  # lives as long as the rest
    }
    statements = {
        "slotted Python attribute": "plain.length",
        "field of the slab": "slab.length",
        "ctypes.Structure": "structure.length",
        "struct over a memoryview": f"unpack(view, {4 * at})[0]",
        "memoryview of words": f"words[{at}]",
    }

    setup = "; ".join(f"{name} = {name}_" for name in names)
    seen = {f"{name}_": value for name, value in names.items()}

    def bare(statement: str) -> Timed:
        timer = timeit.Timer("; ".join([statement] * 20), setup, globals=seen)
        return lambda: timer.timeit(READS) * 1e9 / READS / 20

    def in_a_loop(statement: str) -> Timed:
        timer = timeit.Timer(statement, setup, globals=seen)
        return lambda: timer.timeit(READS * 5) * 1e9 / READS / 5

    rows = {f"read: {name}": bare(statement) for name, statement in statements.items()}
    return rows | {
        f"read in a loop: {name}": in_a_loop(statement) for name, statement in statements.items()
    }


def measure(backends: list[str]) -> dict[str, float]:
    """Return the best of all rounds by row, in nanoseconds."""
    rows = {**copying(), **reading()}
    for backend in backends:
        rows |= publishing(backend)
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(ROUNDS):
        for name, timed in rows.items():
            best[name] = min(best[name], timed())
    return best


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
