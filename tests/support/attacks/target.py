"""What is attacked, and how an attack tells what became of it."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from support.slab import VALUES, Sample, rows
from wofs.errors import StaleHandle
from wofs.slab import Arena, _slab

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = LIBC.mremap.restype = ctypes.c_void_p


class Outcome(Exception):
    """What became of an attack, where it is not told by the object itself."""


def fail_with_errno(result: object) -> None:
    """Raise OSError if a call of libc said -1."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "libc")


def in_child(work: Callable[[], object]) -> None:
    """Run `work` in a forked child; raise what became of it there, if it was anything."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            work()
        except OSError as error:
            code = error.errno or 255
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise Outcome(f"child signal {-code}")
    if code:
        raise OSError(code, "in the child")


class Target:
    """An arena with objects, and the bytes of the one in the middle."""

    def __init__(self, backend: str, state: str) -> None:
        self.arena = Arena.create(8, backend)
        self.cache = self.arena.cache(Sample)
        self.cache.init_batch("below", rows(60))  # more than the first page, which has control data
        self.handles = self.cache.init_batch("s", rows(9))
        self.handle = self.handles[4]
        # The first has a run of its own, the others share one, which stays when the spare goes.
        _, self.spare, _ = (self.cache.init_once(n, **VALUES) for n in ("one", "spare", "beside"))
        self.address = _slab.address(self.handle, "first")
        self.page = self.address & ~(PAGE - 1)
        if state == "finished":
            self.arena.finish(process_lifetime=True)

    def landed(self) -> bool:
        """Whether any object reads differently from what was published."""
        try:
            sound = [handle.first for handle in self.handles] == list(range(9))
        except StaleHandle:
            return True
        return not sound or bool(self.arena.verify())

    def fd(self) -> int:
        """Return a descriptor of the arena's memory; the largest, as the registry has one too."""
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                if "wofs-slab" in os.readlink(f"/proc/self/fd/{name}"):
                    found.append((os.fstat(int(name)).st_size, int(name)))
            except FileNotFoundError:
                continue
        mine = [fd for size, fd in found if size != 1 << 20]
        if not mine:
            raise Outcome("no descriptor")
        return mine[0]

    def mapping(self) -> tuple[int, int, int]:
        """Return (start, end, offset in its file) of the mapping that holds the field."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _, offset, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= self.address < end:
                return start, end, int(offset, 16)
        raise Outcome("not mapped")

    def offset_in_file(self) -> int:
        """Return the offset of the attacked field in the memory file."""
        start, _, offset = self.mapping()
        return self.address - start + offset


ATTACKS: dict[str, Callable[[Target], None]] = {}


def attack(function: Callable[[Target], None]) -> Callable[[Target], None]:
    """Register an attack under its name."""
    ATTACKS[function.__name__] = function
    return function
