"""Serve an image and, on demand, store a random word at a random place of its metadata's memory.

`python -m wofs.demo.injector IMAGE DIRECTORY BACKEND`: says `mounted` in a JSON line, then does
what each JSON line on its standard input wants, and says so: `{"forget": NAMES}` has the kernel
drop all it keeps of the mount, so that it asks anew; `{"strike": SEED, "bytes": N}` stores a word
of N bytes, with `"at": FIELD` there and with `"word": HEX` just that. The serving code is the
product's, unchanged; only the attack is here. When its input ends, so does the server: nothing
stays mounted if the demonstration is killed.
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
from contextlib import suppress

import pyfuse3

from wofs.demo.struck import live_mount
from wofs.device import open_device
from wofs.errors import WofsError
from wofs.fuse.session import serve
from wofs.slab import Arena, Site, _slab
from wofs.xfs.options import mount_options


def say(**what: object) -> None:
    """Write a JSON line."""
    print(json.dumps(what), flush=True)


def place(arena: Arena, size: int, rng: random.Random) -> Site:
    """Choose where `size` bytes go: anywhere in any object, header and paddings included.

    Every place is as likely as every other.
    """
    slots = [
        (page.address + number * page.slot_bytes, page.slot_bytes)
        for page in arena.pages()
        for number, taken in enumerate(page.slots)
        if taken
    ]
    chosen = rng.randrange(sum(slot_bytes - size + 1 for _, slot_bytes in slots))
    for address, slot_bytes in slots:
        starts = slot_bytes - size + 1
        if chosen < starts:
            return located(arena, address + chosen)
        chosen -= starts
    raise AssertionError("beyond all slots")


def located(arena: Arena, address: int) -> Site:
    """Return what lies at an address of the arena."""
    site = arena.locate(address)
    assert site is not None
    return site


def strike(seed: int, size: int, at: str = "", chosen: str = "") -> None:
    """Store `size` bytes; say before what goes where, and when, and afterwards that it did.

    At random places and of random value, unless the field `at` or the bytes (hex) are given. The
    time is that of CLOCK_MONOTONIC, which all processes share.
    """
    rng, mounted = random.Random(seed), live_mount()
    site = place(mounted.arena, size, rng)
    if at:
        name, _, field = at.rpartition(".")
        address = _slab.address(dict(mounted.structures())[name], field)
        site = located(mounted.arena, address)
    word = bytes.fromhex(chosen) or rng.randbytes(size)
    before = ctypes.string_at(site.address, size)
    say(place=str(site), before=before.hex(), word=word.hex(), at=time.monotonic())
    ctypes.memmove(site.address, word, size)
    say(landed=True)


def forget(names: list[str]) -> None:
    """Have the kernel drop names, attributes and data of all that is below the root's `names`."""
    for name in names:
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_entry(pyfuse3.ROOT_INODE, bytes.fromhex(name))
    with suppress(FileNotFoundError):
        pyfuse3.invalidate_inode(pyfuse3.ROOT_INODE)
    say(forgotten=True)


def obey() -> None:
    """Do what is wanted, line by line; end the server with the input."""
    try:
        for line in sys.stdin:
            wanted = json.loads(line)
            if "strike" in wanted:
                strike(wanted["strike"], wanted["bytes"], wanted["at"], wanted["word"])
            else:
                forget(wanted["forget"])
    finally:  # a failure of ours too: without us nothing is struck any more
        os.kill(os.getpid(), signal.SIGTERM)


def main(image: str, directory: str, backend: str) -> None:
    """Serve and obey."""

    def ready() -> None:
        say(mounted=True)
        threading.Thread(target=obey, name="stray", daemon=True).start()

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # hundreds of cores would help nobody
    kernel = {"ro", "default_permissions", "subtype=wofs", "fsname=struck"}
    options = mount_options(norecovery=True)
    serve(open_device(image), directory, options, kernel, ready, slab=backend)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (WofsError, OSError) as error:
        sys.exit(str(error))
