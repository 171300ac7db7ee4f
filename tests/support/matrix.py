"""Kinds of access by what is hit: `python -m support.matrix BACKEND` prints {kind: {place: said}}.

Each cell is a forked child that strikes; what its report says was hit is the cell.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable

from support.slab import Other, rows
from support.slab import Sample as Big
from wofs.slab import Arena, _slab, address_of
from wofs.slab.arena import HEADER_BYTES

PAGE = mmap.PAGESIZE

KINDS: dict[str, Callable[[int], object]] = {
    "plain byte": lambda at: _slab.stray_write("byte", at),
    "atomic": lambda at: _slab.stray_write("atomic", at),
    "vector": lambda at: _slab.stray_write("vector", at),
    "string operation": lambda at: _slab.stray_write("string", at),
    "C memmove": lambda at: _slab.stray_write("memmove", at),
    "ctypes.memmove": lambda at: ctypes.memmove(at, b"\xa5" * 16, 16),
    "ctypes.memset": lambda at: ctypes.memset(at, 0xA5, 16),
    "from_address": lambda at: setattr(ctypes.c_uint64.from_address(at), "value", 1),
    "forged memoryview": lambda at: _forged(at).__setitem__(0, 1),
}


def _forged(at: int) -> memoryview:
    """Return a writable view of any address, as a buggy extension would."""
    make = ctypes.pythonapi.PyMemoryView_FromMemory
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
    view: memoryview = make(at, 8, 0x200)
    return view


def places(arena: Arena) -> dict[str, int]:
    """Fill an arena; return an address of each kind of place."""
    samples = arena.cache(Big)
    full = samples.init_batch("s", rows(3 * PAGE // 128))
    gone = address_of(full[-1], "first")
    samples.free(full[-1])
    other = arena.cache(Other).init_batch("o", [[1], [2]])
    arena.finish()
    first = address_of(full[0], "first")
    later = next(i for i, h in enumerate(full) if address_of(h, "first") // PAGE > first // PAGE)
    end = max(run.address + run.bytes for run in arena.pages())
    return {
        "first of all": first,
        "middle of a page": address_of(full[later // 2], "wide"),
        "last to begin in a page": address_of(full[later - 1], "first"),
        "a page later": address_of(full[later], "first"),
        "another cache": address_of(other[1], "number"),
        "a header": address_of(full[1], "first") - HEADER_BYTES,
        "a freed object": gone,
        "unused space": end,
        "the control area": first - HEADER_BYTES - 8,
        "the guard below": _edges(arena, first)[0] - 16,
        "the guard above": _edges(arena, first)[1],
    }


def _edges(arena: Arena, address: int) -> tuple[int, int]:
    """Return (start, end) of the arena that holds an address."""
    start = end = address // PAGE * PAGE
    while arena.locate(start - PAGE) is not None:
        start -= PAGE
    while arena.locate(end) is not None:
        end += PAGE
    return start, end


def strike(way: Callable[[int], object], address: int) -> str:
    """Strike in a child; return what its report says was hit."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            way(address)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGSEGV:
            return f"status {status}"
        report = os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")
        found = re.search(r"hit +(.*)\n", report)
        return found[1] if found else "no report"


def matrix(backend: str) -> dict[str, dict[str, str]]:
    """Strike every place in every way."""
    arena = Arena.create(8, backend)
    where = places(arena)
    return {
        kind: {place: strike(way, address) for place, address in where.items()}
        for kind, way in KINDS.items()
    }


if __name__ == "__main__":
    print(json.dumps(matrix(sys.argv[1])))
