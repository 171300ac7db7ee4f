"""A year of mounts and unmounts of mixed images in one process: what fragmentation costs.

    python -m benchlib.slabyear MIX DAYS SEED BACKEND     prints one JSON object

MIX says how many AGs the images have, from 1 to 1000: `even` (each number as likely as any
other) or `small` (each size class as likely as any other: half have fewer than 32). Several
mounts a day, up to ALIVE at once; each fills an arena as a mount does, and every fourth frees
objects again while its arena is open and fills it anew. Then it is sealed; an unmount closes it.
The last days unmount until two are left. Resident is what the kernel says the arenas' mappings
hold; live are the bytes of all objects, without their headers.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wofs.ondisk.ag import Agf, Agfl, Agi
from wofs.ondisk.sb import Superblock
from wofs.record import Record
from wofs.slab import Arena
from wofs.slab.arena import PAGE
from wofs.xfs.geometry import Geometry
from wofs.xfs.log import LogState
from wofs.xfs.options import MountOptions

MOST_AGS, ALIVE, MOUNTS_A_DAY, LEFT = 1000, 24, 6, 2
SINGLE: tuple[type[Record], ...] = (Geometry, Superblock, LogState, MountOptions)
HEADERS: tuple[type[Record], ...] = (Agf, Agi, Agfl)


def row_of(record: type[Record]) -> list[Any]:
    """Return a row of values that fit every field."""
    row: list[Any] = []
    for declared in record.spec.fields:
        one = bytes(declared.size) if declared.code == "s" else 0
        row.append((0,) * declared.count if declared.is_array else one)
    return row


ROWS = {record: row_of(record) for record in (*SINGLE, *HEADERS)}


def ags(mix: str, rng: random.Random) -> int:
    """Return how many AGs the next image has."""
    return rng.randint(1, MOST_AGS) if mix == "even" else int(MOST_AGS ** rng.random())


def fill(rng: random.Random, agcount: int, backend: str) -> Arena:
    """Fill an arena as a mount of that many AGs does, and seal it."""
    bytes_each = sum(record.spec.size + 96 for record in HEADERS)
    arena = Arena.create(agcount * bytes_each // PAGE * 5 // 4 + 16, backend)
    for record in SINGLE:
        names = [declared.name for declared in record.spec.fields]
        values = dict(zip(names, ROWS[record], strict=True))
        arena.cache(record).init_once(record.spec.name[:30], **values)
    for record in HEADERS:
        handles = arena.cache(record).init_batch(record.spec.name[:20], [ROWS[record]] * agcount)
        if rng.random() < 0.25 and backend != "pool":
            again(rng, arena, record, list(handles))
    arena.finish()
    return arena


def again(rng: random.Random, arena: Arena, record: type[Record], handles: list[Any]) -> None:
    """Free some objects of an open arena, in no order, and put as many in their places."""
    cache = arena.cache(record)
    names = [declared.name for declared in record.spec.fields]
    values = dict(zip(names, ROWS[record], strict=True))
    chosen = rng.sample(handles, rng.randint(1, len(handles)))
    for handle in chosen:
        cache.free(handle)
    for _ in chosen:
        cache.init_once("again", **values)


def live_bytes(arena: Arena) -> int:
    """Return the bytes of an arena's objects."""
    return sum(cache.bytes_used for cache in arena.stats().caches)


def mappings() -> Iterator[tuple[int, int]]:
    """Yield (bytes of address space, bytes resident) of this process's slab mappings."""
    size = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            low, _, high = words[0].partition("-")
            size = int(high, 16) - int(low, 16) if "wofs-slab" in line else None
        elif size is not None and words[0] == "Rss:":
            yield size, int(words[1]) << 10


def resident_bytes() -> int:
    """Return what all arenas hold; the process's one registry is not theirs."""
    return sum(resident for size, resident in mappings() if size != 1 << 20)


@dataclass
class Year:
    """What was seen at the end of each day: live and resident bytes, mounts alive."""

    mounts: int = 0
    days: list[tuple[int, int, int]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """AGs of the images that are left at the end."""

    def note(self, alive: list[tuple[int, Arena]]) -> None:
        """Take the day's figures."""
        live = sum(live_bytes(arena) for _, arena in alive)
        self.days.append((live, resident_bytes(), len(alive)))


def simulate(mix: str, days: int, seed: int, backend: str) -> Year:
    """Live through `days` days, the last of them emptying until LEFT mounts remain."""
    rng, year = random.Random(seed), Year()
    alive: list[tuple[int, Arena]] = []
    for _ in range(days):
        for _ in range(rng.randint(1, 2 * MOUNTS_A_DAY - 1)):
            if len(alive) > LEFT and (len(alive) >= ALIVE or rng.random() < 0.45):
                alive.pop(rng.randrange(len(alive)))[1].close()
            agcount = ags(mix, rng)
            alive.append((agcount, fill(rng, agcount, backend)))
            year.mounts += 1
        year.note(alive)
    while len(alive) > LEFT:
        alive.pop(rng.randrange(len(alive)))[1].close()
        year.note(alive)
    year.left = [agcount for agcount, _ in alive]
    for _, arena in alive:
        if arena.verify():
            sys.exit("bench: an object of the year is not what was published")
        arena.close()
    return year


def measure(mix: str, days: int, seed: int, backend: str) -> dict[str, object]:
    """Return the ratios of resident to live bytes, and what they are of."""
    year = simulate(mix, days, seed, backend)
    ratios = [resident / live for live, resident, _ in year.days]
    live, resident, _ = year.days[-1]
    ordered = sorted(ratios)
    return {
        "mounts": year.mounts,
        "most_alive": max(alive for _, _, alive in year.days),
        "median": ordered[len(ordered) // 2],
        "worst": ordered[-1],
        "end": ratios[-1],
        "end_live": live,
        "end_resident": resident,
        "left_ags": year.left,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
