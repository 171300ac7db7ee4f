"""Serve an image and, on demand, store a random word at a random place of its metadata's memory.

`python -m wofs.demo.injector IMAGE DIRECTORY BACKEND PROTECT [AT]`: says `mounted` in a JSON line,
then does what each JSON line on its standard input wants, and says so: `{"forget": NAMES}` has
the kernel drop all it keeps of the mount, so that it asks anew; `{"strike": SEED, "bytes": N}`
stores N random bytes, with `"word": HEX` those: anywhere in the objects, or in the object or
field AT.
The serving code is the product's, unchanged; only the attack is here. When its input ends, so
does the server: nothing stays mounted if the demonstration is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyfuse3

from wofs.demo.struck import live_mount
from wofs.device import open_device
from wofs.errors import WofsError
from wofs.fuse.session import serve
from wofs.slab import Site, _slab
from wofs.slab.arena import HEADER_BYTES
from wofs.xfs.mount import Mount
from wofs.xfs.options import mount_options

_WIDEST_BYTES = 16
"""The widest store of a volley."""


_MOST_BYTES = 1 << 30
"""Memory that a server may allocate: with spoiled structures it may ask for any amount."""

_DATA_OF_STATM = 5


def _reserved_bytes() -> int:
    """Return what this process has set aside: a free-threaded Python takes a GiB at its start."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[_DATA_OF_STATM]
    return int(pages) * resource.getpagesize()


def say(**what: object) -> None:
    """Write a JSON line."""
    print(json.dumps(what), flush=True)


class Target:
    """Where the stores go; all of it is known before the first, which may spoil names."""

    def __init__(self, mounted: Mount, at: str) -> None:
        """Take aim at the memory of all objects, of the one called `at`, or at a field."""
        self._arena = mounted.arena
        name, _, field = at.rpartition(".")
        self._field = _slab.address(dict(mounted.structures())[name], field) if name else 0
        self._slots = []
        for page in self._arena.pages():
            for slot in (number for number, taken in enumerate(page.slots) if taken):
                address = page.address + slot * page.slot_bytes
                owner = self._located(address + HEADER_BYTES).name
                if at in ("", owner, f"{owner}.{field}"):
                    self._slots.append((address, page.slot_bytes, owner))

    def _located(self, address: int) -> Site:
        site = self._arena.locate(address)
        assert site is not None
        return site

    def choose(self, size: int, rng: random.Random) -> tuple[int, str]:
        """Return the address where `size` bytes go, and what lies there.

        Every place in the objects, headers and paddings included, is as likely as every other.
        """
        starts = [slot_bytes - size + 1 for _, slot_bytes, _ in self._slots]
        chosen, number = rng.randrange(sum(starts)), 0
        while chosen >= starts[number]:
            chosen -= starts[number]
            number += 1
        address, _, owner = self._slots[number]
        site = self._located(self._field or address + chosen)
        spoiled = site.name != owner
        return site.address, f"{owner}, spoiled before" if spoiled else str(site)


def strike(target: Target, wanted: dict[str, Any]) -> None:
    """Store bytes; say before what goes where, and when, and afterwards that it did.

    The time is that of CLOCK_MONOTONIC, which all processes share.
    """
    rng, size = random.Random(wanted["strike"]), wanted["bytes"]
    address, place = target.choose(size, rng)
    word = bytes.fromhex(wanted["word"]) or rng.randbytes(size)
    before = ctypes.string_at(address, size)
    say(place=place, before=before.hex(), word=word.hex(), at=time.monotonic())
    ctypes.memmove(address, word, size)
    say(landed=True)


def volley(mounted: Mount, wanted: dict[str, Any]) -> None:
    """Store at many random places, each as likely as every other; say how many stores landed."""
    rng, landed = random.Random(wanted["volley"]), 0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # so that nothing is unmapped between the look and the stores
    try:
        places = memory_of(mounted)
        sizes = [size for _, size in places]
        chosen = Counter(rng.choices(range(len(places)), sizes, k=wanted["stores"]))
        for number, count in chosen.items():
            start, size = places[number]
            landed += _slab.stray_volley(start, size, count, rng.getrandbits(64))
    finally:
        sys.setswitchinterval(interval)
    say(volley=landed)


def memory_of(mounted: Mount) -> list[tuple[int, int]]:
    """Return (address, bytes) of all stretches of metadata that are live now."""
    found = [(page.address, page.bytes) for page in mounted.arena.pages()]
    store = mounted.keeper.store
    if store is not None:
        found += [(batch.address, batch.bytes_used) for batch in store.ranges()]
    return [(address, size) for address, size in found if size > _WIDEST_BYTES]


def forget(names: list[str]) -> None:
    """Have the kernel drop names, attributes and data of all that is below the root's `names`."""
    for name in names:
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_entry(pyfuse3.ROOT_INODE, bytes.fromhex(name))
    with suppress(FileNotFoundError):
        pyfuse3.invalidate_inode(pyfuse3.ROOT_INODE)
    say(forgotten=True)


def obey(at: str) -> None:
    """Do what is wanted, line by line; end the server with the input."""
    try:
        mounted = live_mount()
        target = Target(mounted, at)
        say(mounted=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            if "strike" in wanted:
                strike(target, wanted)
            elif "volley" in wanted:
                volley(mounted, wanted)
            else:
                forget(wanted["forget"])
    finally:  # a failure of ours too: without us nothing is struck any more
        os.kill(os.getpid(), signal.SIGTERM)


def main(image: str, directory: str, backend: str, protect: str, at: str = "") -> None:
    """Serve and obey."""

    def ready() -> None:
        threading.Thread(target=obey, args=(at,), name="stray", daemon=True).start()

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # hundreds of cores would help nobody
    most = _reserved_bytes() + _MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    kernel = {"ro", "default_permissions", "subtype=wofs", "fsname=struck"}
    options = mount_options(norecovery=True, protect=protect)
    serve(open_device(image), directory, options, kernel, ready, slab=backend)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (WofsError, OSError) as error:
        sys.exit(str(error))
