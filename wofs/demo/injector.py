"""Serve an image and, on a word, store a random word at a random place of its metadata's memory.

`python -m wofs.demo.injector IMAGE DIRECTORY BACKEND SEED`: says `mounted` in a JSON line, waits
for a line on its standard input, says where it is going to store, and stores. The serving code
is the product's, unchanged; only the attack is here.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
import threading
from dataclasses import asdict

from wofs.demo.struck import live_mount
from wofs.device import open_device
from wofs.errors import WofsError
from wofs.fuse.session import serve
from wofs.slab import Arena, Site
from wofs.xfs.options import mount_options

WORD_BYTES = 8


def place(arena: Arena, rng: random.Random) -> Site:
    """Choose a random byte of a random object, header and paddings included, and locate it."""
    page = rng.choice(arena.pages())
    slot = rng.choice([number for number, taken in enumerate(page.slots) if taken])
    offset = slot * page.slot_bytes + rng.randrange(page.slot_bytes - WORD_BYTES)
    site = arena.locate(page.address + offset)
    assert site is not None
    return site


def strike(seed: int) -> None:
    """Store eight random bytes, and say so before and after."""
    rng = random.Random(seed)
    site = place(live_mount().arena, rng)
    word = rng.randbytes(WORD_BYTES)
    print(json.dumps({"strike": asdict(site), "named": str(site)}), flush=True)
    ctypes.memmove(site.address, word, WORD_BYTES)
    print(json.dumps({"landed": True}), flush=True)


def main(image: str, directory: str, backend: str, seed: str) -> None:
    """Serve and strike."""

    def wait() -> None:
        if sys.stdin.readline():
            strike(int(seed))

    def ready() -> None:
        print(json.dumps({"mounted": True}), flush=True)
        threading.Thread(target=wait, name="stray", daemon=True).start()

    kernel = {"ro", "default_permissions", "subtype=wofs", "fsname=struck"}
    options = mount_options(norecovery=True)
    serve(open_device(image), directory, options, kernel, ready, slab=backend)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (WofsError, OSError) as error:
        sys.exit(str(error))
