"""Mount an image and serve it until it is unmounted or the process is told to end."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pyfuse3

from wofs.device import Device
from wofs.errors import MountError
from wofs.fuse import loop
from wofs.fuse.control import Control
from wofs.fuse.mountpoint import (
    Refused,
    check_fuse,
    check_mountpoint,
    hold_lifeline,
    mounts,
    unmount,
)
from wofs.fuse.ops import Operations
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import PROTECT, MountOptions

log = logging.getLogger("wofs.fuse")

READ_AHEAD_KB = 1024
"""What the kernel reads ahead; the size of its largest request to us."""

_OF_RIGHTS = re.compile("only allowed if|no write access|not owned by|[Nn]ot permitted|denied")
"""What libfuse and fusermount3 say where the user's rights do not suffice."""

_GC_THRESHOLDS = (50_000, 20, 100)


def serve(
    device: Device,
    mountpoint: str,
    options: MountOptions,
    kernel_options: set[str],
    ready: Callable[[], None],
    slab: str = "auto",
    log_device: Device | None = None,
    cache_share: float = 1.0,
) -> None:
    """Mount the image on `device` at `mountpoint` and serve it; return once it is unmounted.

    `kernel_options` are libfuse's words (`Options.for_kernel`); `ready` is called, in a thread,
    when the mount has answered its first request. `log_device` is where an external log lies;
    `cache_share` is as in `wofs.xfs.mount.mount`.
    The device is closed in any case. Raises the `ImageError` of an image that cannot be
    mounted, SlabError, and MountError (Refused where the user's rights do not suffice).
    """
    started = time.monotonic()
    try:
        where = check_mountpoint(mountpoint)
        check_fuse()
        mounted = mount(
            device,
            options,
            slab=slab,
            process_lifetime=True,
            log_device=log_device,
            cache_share=cache_share,
        )
        del options  # the slab's copy is the only one
    except BaseException:
        device.close()
        raise
    settling = _Settling(mounted, where, started, ready)
    try:
        # A signal between here and the loop would leave a dead mount behind.
        signal.pthread_sigmask(signal.SIG_BLOCK, loop.SIGNALS)
        _attach(Operations(mounted), where, kernel_options)
        _run(mounted, settling)
        mounted.enforce()
        log.info("unmounted %s from %s", device.name, where)
    finally:
        mounted.close()
        settling.close()


def _run(mounted: Mount, settling: _Settling) -> None:
    """Serve what is attached until its end, then detach it."""
    # What the mount made lives as long as the process: the collector need not look at it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        loop.run(settling.settle, mounted.enforce, mounted.options.scrub_s)
    finally:
        pyfuse3.close(unmount=True)
        settling.detach()


def _attach(operations: Operations, where: str, kernel_options: set[str]) -> None:
    """Make the kernel's mount; raises MountError with what libfuse or fusermount3 says."""
    said = b""
    try:
        with _stderr_kept() as kept:
            try:
                pyfuse3.init(operations, where, kernel_options)
            finally:
                said = os.pread(kept, 65536, 0)
    except RuntimeError as error:
        lines = said.decode(errors="replace").strip().splitlines()
        line = lines[-1] if lines else str(error)
        kind = Refused if _OF_RIGHTS.search(line) else MountError
        raise kind(f"{where}: {line.removeprefix('fusermount3: ')}") from error


def _nameless_file() -> int:
    """Return a descriptor of memory, or of a file where a sandbox refuses such memory."""
    try:
        return os.memfd_create("wofs-stderr")
    except OSError:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


@contextmanager
def _stderr_kept() -> Iterator[int]:
    """Send descriptor 2 to a file: libfuse and fusermount3 explain themselves only there."""
    saved, kept = os.dup(2), _nameless_file()
    os.dup2(kept, 2)
    try:
        yield kept
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(kept)


class _Settling:
    """What is done once the mount answers: by a thread, as it sends requests to the loop."""

    def __init__(
        self, mounted: Mount, where: str, started: float, ready: Callable[[], None]
    ) -> None:
        self._mounted = mounted
        self._where = where
        self._started = started
        self._ready = ready
        self._number = -1
        self._lifeline: socket.socket | None = None
        self._control: Control | None = None

    def settle(self) -> None:
        """Wait for the first answer, raise the read-ahead, tell that the mount is there."""
        try:
            number = os.stat(self._where).st_dev
        except OSError as error:
            log.warning("%s: %s", self._where, error)
        else:
            self._number = number
            self._lifeline = hold_lifeline(number)
            self._control = Control(self._mounted, number)
            _raise_read_ahead(number)
        stats = self._mounted.arena.stats()
        log.info(
            "mounted %s on %s in %.0f ms: protect %s, backend %s, %d objects",
            self._mounted.device.name,
            self._where,
            (time.monotonic() - self._started) * 1000,
            PROTECT[self._mounted.options.protect],
            stats.backend,
            sum(cache.objects for cache in stats.caches),
        )
        self._ready()

    def detach(self) -> None:
        """Detach what libfuse leaves mounted when the connection was cut (`umount -f` does)."""
        here = [m.number for m in mounts() if m.mountpoint == self._where]
        if here and here[-1] == self._number:
            unmount(self._where, lazy=True)

    def close(self) -> None:
        """Let go of the lifeline, which tells `wofs umount` that the image is closed."""
        if self._control is not None:
            self._control.close()
        if self._lifeline is not None:
            self._lifeline.close()


def _raise_read_ahead(number: int) -> None:
    """Let the kernel read further ahead on the mount `number`, where we may set that (root)."""
    path = f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb"
    with suppress(OSError), open(path, "w", encoding="ascii") as knob:
        knob.write(str(READ_AHEAD_KB))
