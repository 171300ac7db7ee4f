"""What of a mount lies in write-once memory, as JSON values: for commands, here or from afar."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from wofs.slab import address_of, spec_of
from wofs.xfs.mount import Mount
from wofs.xfs.options import PROTECT

Json = dict[str, Any]


def arena(mount: Mount) -> Json:
    """Return the arena's state and its caches (`ArenaStats`)."""
    return {
        "object": "arena",
        "image": mount.device.name,
        "protect": PROTECT[mount.options.protect],
        **asdict(mount.arena.stats()),
    }


def shelves(mount: Mount) -> list[Json]:
    """Return what is kept of other metadata (`ShelfStats`); nothing unless all is protected."""
    store = mount.keeper.store
    found = [] if store is None else [shelf.stats() for shelf in store.shelves]
    return [{"object": "shelf", **asdict(stats)} for stats in found]


def pages(mount: Mount) -> list[Json]:
    """Return every run of objects (`PageMap`), in the order of addresses."""
    return [{"object": "page", **asdict(page)} for page in mount.arena.pages()]


def fields(mount: Mount, name: str) -> list[Json]:
    """Return the fields of the structure called `name`; none if there is no such structure."""
    for known, handle in mount.structures():
        if known == name:
            return [
                {
                    "object": "field",
                    "field": field.name,
                    "value": field.text(getattr(handle, field.name)),
                    "address": address_of(handle, field.name),
                    "bytes": field.size,
                    "unit": field.unit,
                    "help": field.help,
                }
                for field in spec_of(handle).fields
            ]
    return []
