"""Mount an image and serve it until it is unmounted or the process is told to end.

pyfuse3's wait for the next request goes through trio, five system calls each time; here a
short poll(2) comes first, and trio only when nothing arrives. Signals and timers stay alive.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pyfuse3
import trio

from wofs.device.base import Device
from wofs.errors import MountError
from wofs.fuse.ops import Operations
from wofs.xfs.mount import mount
from wofs.xfs.options import MountOptions

log = logging.getLogger("wofs.fuse")

_POLL_MS = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    device: Device,
    mountpoint: str,
    options: MountOptions,
    fuse_options: set[str],
    ready: Callable[[], None],
) -> None:
    """Mount the image on `device` at `mountpoint` and serve it; return once unmounted.

    `fuse_options` are mount options for the kernel ("allow_other", ...); `ready` is called
    when the mount is there. Raises the `ImageError` of an image that cannot be mounted, and
    MountError where FUSE refuses.
    """
    started = time.monotonic()
    mounted = mount(device, options, process_lifetime=True)
    try:
        try:
            pyfuse3.init(Operations(mounted), mountpoint, fuse_options)
        except RuntimeError as error:
            raise MountError(f"{mountpoint}: {_why_not(error)}") from error
        try:
            stats = mounted.arena.stats()
            objects = sum(cache.objects for cache in stats.caches)
            took = (time.monotonic() - started) * 1000
            log.info(
                "mounted %s on %s in %.0f ms: slab %s, %d objects on %d pages",
                device.name, mountpoint, took, stats.backend, objects, stats.pages,
            )  # fmt: skip
            ready()
            _run()
        finally:
            pyfuse3.close(unmount=True)
    finally:
        mounted.close()


def _why_not(error: RuntimeError) -> str:
    """Say in one line why the kernel did not take the mount."""
    fuse = Path("/dev/fuse")
    if not fuse.exists():
        return "/dev/fuse is missing: load the fuse module, or give the container the device"
    if not os.access(fuse, os.R_OK | os.W_OK):
        return "/dev/fuse is closed to this user; root can open it: chmod 666 /dev/fuse"
    return f"FUSE refuses the mount ({error})"


def _run() -> None:
    """Run pyfuse3's loop until unmounted or until a signal asks for the end."""
    _wait_by_poll()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal)
            await pyfuse3.main(1, 1)
            nursery.cancel_scope.cancel()

    trio.run(main)


async def _end_on_signal() -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async for number in signals:
            log.info("ending on %s", signal.Signals(number).name)
            pyfuse3.terminate()
            return


def _wait_by_poll() -> None:
    """Let pyfuse3 poll shortly before it waits through trio, where this version can."""
    original: Callable[[], Awaitable[bool]] | None = getattr(pyfuse3, "_wait_fuse_readable", None)
    if original is None or _fuse_fd() < 0:
        return
    poller = select.poll()
    poller.register(_fuse_fd(), select.POLLIN)

    async def wait() -> bool:
        return True if poller.poll(_POLL_MS) else await original()

    setattr(pyfuse3, "_wait_fuse_readable", wait)  # noqa: B010


def _fuse_fd() -> int:
    """Return the descriptor of /dev/fuse that pyfuse3 opened last."""
    found = -1
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(link) == "/dev/fuse":
                found = max(found, int(link.name))
    return found
