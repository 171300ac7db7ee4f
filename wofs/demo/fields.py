"""Strike every field of every mount structure of a live mount, each in a child of its own.

Each strike happens in a forked child of the process that holds the mount, in one of three
ways. On the control, `none`, every store must land unnoticed; elsewhere none may, and the
report must name the object and field.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from wofs.demo import children
from wofs.device import open_device
from wofs.record import Record
from wofs.slab import _slab, spec_of
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import mount_options

Progress = Callable[[int, int], object]
"""Told (strikes so far, strikes in all)."""


@dataclass(frozen=True)
class Place:
    """A field of a live object: its address, and what stands just before it."""

    name: str
    address: int
    size: int
    before: str


def objects(mounted: Mount, most_ags: int) -> Iterator[tuple[str, Record]]:
    """Yield (name in reports, handle) of the mount's structures, of the first AGs only."""
    for name, handle in mounted.structures():
        _, _, index = name.rstrip("]").partition("[")
        if not index or int(index) < most_ags:
            yield name, handle


def places(mounted: Mount, most_ags: int) -> Iterator[Place]:
    """Yield every field, with the name of what the byte below it belongs to."""
    for name, handle in objects(mounted, most_ags):
        spec = spec_of(handle)
        end, before = 0, f"{name} (its header)"
        first = _slab.address(handle, spec.fields[0].name)
        for declared in spec.fields:
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
    """What became of the strikes on one backend.

    `strikes` by way; `ended` in a crash that named the right object and field; `landed`
    unnoticed; `wrong`, a line for each that did not end as it must on this backend.
    """

    backend: str
    objects: int = 0
    fields: int = 0
    strikes: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    landed: int = 0
    wrong: list[str] = field(default_factory=list)


def strike(mounted: Mount, way: Callable[[Place], str], place: Place) -> tuple[int, str]:
    """Fork and strike; return the child's status and what it said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            way(place)
            # Landed: who looks closely sees it; nothing else happened.
            os._exit(0 if mounted.arena.verify() else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")


def named(said: str) -> str:
    """Return what a report says was hit."""
    found = re.search(r"hit +mount_struct (.*)\n", said)
    return found[1] if found else said[:80]


def judge(tally: Tally, way: str, place: Place, status: int, said: str) -> None:
    """Count one strike."""
    tally.strikes[way] = tally.strikes.get(way, 0) + 1
    wanted = place.before if way == "overrun" else place.name
    ended = status == -signal.SIGSEGV and named(said) == wanted
    landed = status == 0 and not said
    tally.ended += ended
    tally.landed += landed
    if not (landed if tally.backend == "none" else ended):
        tally.wrong.append(f"{way} at {place.name}: status {status}, {named(said)}")


def campaign(image: str, backend: str, most_ags: int, told: Progress = lambda *_: None) -> Tally:
    """Mount `image` in this process, without FUSE, and strike everything by every way."""
    mounted = mount(open_device(image), mount_options(norecovery=True), slab=backend)
    tally, targets = Tally(backend), list(places(mounted, most_ags))
    tally.fields = len(targets)
    tally.objects = sum(1 for _ in objects(mounted, most_ags))
    for number, place in enumerate(targets):
        for name, way in WAYS.items():
            judge(tally, name, place, *strike(mounted, way, place))
        told((number + 1) * len(WAYS), len(targets) * len(WAYS))
    mounted.close()
    return tally


def in_child(image: str, backend: str, most_ags: int, told: Progress = lambda *_: None) -> Tally:
    """Do all of it in a process that has no other threads to fork.

    Raises RuntimeError with what the child said where image or backend cannot be had.
    """
    return children.in_child(Tally, "wofs.demo.fields", (image, backend, most_ags), told)


if __name__ == "__main__":
    children.be_child(lambda image, backend, ags, told: campaign(image, backend, int(ags), told))
