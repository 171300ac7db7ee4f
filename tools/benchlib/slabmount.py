"""Mounting an image with many allocation groups into write-once memory, by backend.

    python -m benchlib.slabmount IMAGE ROUNDS BACKEND...    prints one JSON object

In one process, without FUSE: what is timed is the reading and proving of the superblock and
all AG headers, their publication, the seal, and the root inode. The backends take turns.
"""

from __future__ import annotations

import gc
import json
import sys
import time

from benchlib.sides import rotated
from wofs.device import open_device
from wofs.slab.arena import PAGE
from wofs.xfs.mount import mount
from wofs.xfs.options import mount_options


def once(image: str, backend: str) -> tuple[float, dict[str, int]]:
    """Mount and close; return the seconds it took and the memory it held."""
    device = open_device(image)
    gc.collect()
    start = time.process_time()
    mounted = mount(device, mount_options(), slab=backend)
    seconds = time.process_time() - start
    stats = mounted.arena.stats()
    held = {
        "objects": sum(cache.objects for cache in stats.caches),
        "object_bytes": sum(cache.bytes_used for cache in stats.caches),
        "page_bytes": stats.pages * PAGE,
    }
    mounted.close()
    return seconds, held


def measure(image: str, rounds: int, backends: list[str]) -> dict[str, object]:
    """Return the processor seconds of every round by backend, and what one mount holds."""
    once(image, backends[0])  # the image into the page cache, the code into memory
    seconds: dict[str, list[float]] = {backend: [] for backend in backends}
    held: dict[str, int] = {}
    for shift in range(rounds):
        for backend in rotated(backends, shift):
            spent, held = once(image, backend)
            seconds[backend].append(spent)
    return {"seconds": seconds, "held": held}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
