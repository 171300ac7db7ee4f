"""Stray writes into the memory of a mount of this process, each in a forked child.

Volleys are survived: the child counts what landed and compares every byte with what was
published. A store to the death meets the slab's own handler: its report must name what lies
there. This process must have no other threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wofs.errors import WofsError
from wofs.slab import Arena, Site, _slab
from wofs.slab.arena import PAGE

KINDS = ("byte", "vector", "memmove", "string")
"""Ways whose first byte is what the report names; an atomic store moves to its word's start."""

LANDED = 0
"""How a child ends whose store landed."""


@dataclass(frozen=True)
class Stretch:
    """Memory to strike: where it starts, how long it is."""

    start: int
    size: int

    def content(self) -> bytes:
        """Return its bytes."""
        return ctypes.string_at(self.start, self.size)


def stretches(arena: Arena) -> list[Stretch]:
    """Return the arena's memory and, where it is protected, the slab's own tables."""
    first = next(iter(arena.objects())).address
    start = end = first - first % PAGE
    while arena.locate(start - 1) is not None:
        start -= PAGE
    while arena.locate(end) is not None:
        end += PAGE
    found = [Stretch(start, end - start)]
    if arena.stats().backend != "none":
        for line in Path("/proc/self/maps").read_text().splitlines():
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            if "wofs-slab" in line and not low <= start < high:
                found.append(Stretch(low, high - low))
    return found


def volley(
    arena: Arena, targets: Sequence[tuple[Stretch, int]], seed: int
) -> tuple[list[int], bool]:
    """Fork and store at random places: so often in each stretch, in five ways.

    Returns (how many landed in each, whether any byte there or any checksum differs).
    """
    before = [target.content() for target, _ in targets]
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        rng = random.Random(seed)
        landed = [
            _slab.stray_volley(target.start, target.size, count, rng.getrandbits(64))
            for target, count in targets
        ]
        changed = [target.content() for target, _ in targets] != before or bool(arena.verify())
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(json.dumps((landed, changed)).encode())
        os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise WofsError(f"a child that should have survived ended with {status}")
    landed, changed = json.loads(said)
    return landed, changed


def expected(site: Site) -> str:
    """Return what a report must say was hit."""
    label = f"mount_struct {site.name}"
    if site.field is not None:
        return f"{label}.{site.field}"
    if site.what == "header":
        return f"{label} (its header)"
    if site.what == "padding":
        return f"{label} (padding beside its fields)"
    below = f"; the nearest below is {label}" if site.name else ""
    return f"no object: {site.what}{below}"


def to_the_death(kind: str, address: int) -> tuple[int, str]:
    """Strike in a child that nothing saves.

    Returns its exit status (negative: a signal; LANDED) and what its report names, or how what
    it said begins.
    """
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            _slab.stray_write(kind, address)
            os._exit(LANDED)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")
    found = re.search(r"hit +(.*)\n", text)
    return status, found[1] if found else text[:80]
