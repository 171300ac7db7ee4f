"""Serve an image and, once the mount is up, aim a stray write at one of its structures.

Run as a process of its own (`python -m wofs.demo.struck IMAGE DIRECTORY OBJECT FIELD VALUE`): the
slab must end it. The mount code is the product's, unchanged; the attack is only here.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time

from wofs.device import open_device
from wofs.fuse.session import serve
from wofs.slab import _slab
from wofs.xfs.mount import Mount
from wofs.xfs.options import mount_options

_SERVED_FIRST_S = 0.3
"""The mount answers for this long before it is hit: the write happens under way, not at start."""


def live_mount() -> Mount:
    """Return the one mount of this process, found as stray code would: by looking at memory."""
    gc.unfreeze()  # the server hides from the collector what lives as long as it does
    (found,) = [thing for thing in gc.get_objects() if isinstance(thing, Mount)]
    return found


def main(image: str, directory: str, name: str, field: str, value: str) -> None:
    """Serve `image` at `directory`; write `value` over a field soon after."""

    def hit() -> None:
        time.sleep(_SERVED_FIRST_S)
        print(f"stray: writing {value} over {name}.{field}", flush=True)
        _slab.stray_store(_slab.address(dict(live_mount().structures())[name], field), int(value))
        print("stray: the write went through", flush=True)

    def ready() -> None:
        print("mounted", flush=True)
        threading.Thread(target=hit, name="stray", daemon=True).start()

    logging.basicConfig(format="%(name)s: %(message)s")
    kernel = {"ro", "default_permissions", "subtype=wofs", "fsname=struck"}
    serve(open_device(image), directory, mount_options(), kernel, ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
