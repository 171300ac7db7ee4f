"""Strike every field of every mount structure of a live mount, each in a child of its own.

`python -m support.strike IMAGE BACKEND [AGS]` mounts the image, then for each field of each
object (of the first AGS allocation groups) and each way of storing forks a child that strikes.
Prints JSON: `strikes` by way and, for those that did not end as they must, `wrong`. On the
control, `none`, every store must land unnoticed; elsewhere none may, and the report must name
the object and field.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from support.census import PER_AG, SINGLE
from wofs.device import FileDevice
from wofs.record import Record
from wofs.slab import _slab
from wofs.xfs.mount import Mount, mount

NAMES = {"sb": "superblock", "geo": "geometry", "log": "log", "options": "options"}
HEADER_BYTES = 32


@dataclass(frozen=True)
class Place:
    """A field of a live object: its address, and what stands just before it."""

    name: str
    address: int
    size: int
    before: str


def objects(mounted: Mount, most_ags: int) -> Iterator[tuple[str, type[Record], object]]:
    """Yield (name in reports, record, handle) of the mount's structures."""
    for attribute, record in SINGLE.items():
        yield NAMES[attribute], record, getattr(mounted, attribute)
    for attribute, record in PER_AG.items():
        for agno, handle in enumerate(getattr(mounted, attribute)[:most_ags]):
            if handle is not None:
                yield f"{attribute}[{agno}]", record, handle


def places(mounted: Mount, most_ags: int) -> Iterator[Place]:
    """Yield every field, with the name of what the byte below it belongs to."""
    for name, record, handle in objects(mounted, most_ags):
        end, before = 0, f"{name} (its header)"
        first = _slab.address(handle, record.spec.fields[0].name)
        for declared in record.spec.fields:
            address = _slab.address(handle, declared.name)
            if address - first > end:
                before = f"{name} (padding beside its fields)"
            yield Place(f"{name}.{declared.name}", address, declared.size, before)
            end, before = address - first + declared.size, f"{name}.{declared.name}"


def by_memmove(place: Place) -> str:
    """Store by ctypes.memmove at the field's last byte; return what must be named."""
    at = place.address + place.size - 1
    ctypes.memmove(at, bytes((ctypes.string_at(at, 1)[0] ^ 0xFF,)), 1)
    return place.name


def by_c(place: Place) -> str:
    """Store by a C function at the field's first byte."""
    _slab.stray_store(place.address, ctypes.string_at(place.address, 1)[0] ^ 0xFF)
    return place.name


def by_overrun(place: Place) -> str:
    """Run over the field from its neighbour: the first byte that is hit is the neighbour's."""
    _slab.stray_overrun(place.address - 1, 1 + place.size)
    return place.before


WAYS: dict[str, Callable[[Place], str]] = {
    "memmove": by_memmove,
    "c function": by_c,
    "overrun": by_overrun,
}


@dataclass
class Tally:
    """What was found."""

    strikes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def strike(mounted: Mount, way: Callable[[Place], str], place: Place) -> tuple[int, str]:
    """Fork and strike; return the child's status and what it said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            way(place)
            # Landed: whoever looks closely can see it, and nothing else happened.
            os._exit(0 if mounted.arena.verify() else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")


def named(said: str) -> str:
    """Return what a report says was hit."""
    found = re.search(r"hit +mount_struct (.*)\n", said)
    return found[1] if found else said[:80]


def campaign(image: str, backend: str, most_ags: int) -> Tally:
    """Strike everything by every way."""
    mounted = mount(FileDevice(image), slab=backend)
    tally = Tally()
    for place in places(mounted, most_ags):
        for name, way in WAYS.items():
            status, said = strike(mounted, way, place)
            if backend == "none":
                good = status == 0 and not said
            else:
                wanted = place.before if way is by_overrun else place.name
                good = status == -signal.SIGSEGV and named(said) == wanted
            tally.strikes[name] = tally.strikes.get(name, 0) + 1
            if not good:
                tally.wrong.append(f"{name} at {place.name}: {status}, {named(said)}")
    mounted.close()
    return tally


if __name__ == "__main__":
    image, backend, *rest = sys.argv[1:]
    print(json.dumps(vars(campaign(image, backend, int(rest[0]) if rest else 1 << 20))))
