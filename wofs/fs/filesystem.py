"""An opened image: where paths start, and what the whole of it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType

from wofs.device import Device, Probe, open_device
from wofs.errors import ImageError, NotXfs, StaleHandle, Unsupported
from wofs.fs import info as about
from wofs.fs.image import Image
from wofs.fs.info import AgInfo, Info, StatFs
from wofs.fs.names import Segment
from wofs.fs.path import Path
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import memory_of, mount_options
from wofs.xfs.super import HINT_SCAN_BYTES, ag_bytes_of, read_super

PROBE_BYTES = HINT_SCAN_BYTES
"""Unpacked bytes after which a compressed source must have shown a superblock."""

Source = str | bytes | os.PathLike[str] | Device
Progress = Callable[[int, int], None]
"""Told (compressed bytes read, compressed bytes in all) while an image is unpacked."""


class Filesystem:
    """An image open for reading, a context manager; made by `wofs.open`.

    Safe for several threads at once. After `close` its paths, open files and attributes raise
    StaleHandle, which is a ReferenceError too.
    """

    def __init__(self, mounted: Mount) -> None:
        self.name = mounted.device.name
        self._image = Image(mounted)
        self.root = Path(self._image, None, b"")

    @property
    def mount(self) -> Mount:
        """The layer below: the mounted image."""
        return self._image.mount

    @property
    def closed(self) -> bool:
        """Whether the image was given back."""
        return self._image.closed

    def path(self, *segments: Segment) -> Path:
        """Return a path of this image; relative ones start at its root too."""
        return self.root.joinpath(*segments)

    def info(self) -> Info:
        """Return identity, geometry, features, log, counters and memory."""
        return about.info(self.mount)

    def ags(self) -> Iterator[AgInfo]:
        """Yield the counters of every AG."""
        return about.ags(self.mount)

    def statfs(self) -> StatFs:
        """Return the counts that the kernel's read-only mount shows."""
        return about.statfs(self.mount)

    def close(self) -> None:
        """Give back the memory and the image; a second call does nothing."""
        self._image.close()

    def __enter__(self) -> Filesystem:
        if self.closed:
            raise StaleHandle(f"{self.name}: the filesystem is closed")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Filesystem({self.name!r}{', closed' if self.closed else ''})"


def open(
    source: Source,
    *,
    norecovery: bool = False,
    sb: int = 0,
    logdev: Source | None = None,
    slab: str = "auto",
    protect: str = "",
    progress: Progress | None = None,
) -> Filesystem:
    """Open an image and mount it in this process; nothing is ever written to it.

    `source` is a file (gzip, xz and zstd are unpacked first), a block device, or any `Device`,
    which is closed with the filesystem; `progress` is told how far unpacking is. `norecovery`
    accepts a log that was not replayed, `sb` names the AG whose superblock is read, `logdev`
    is where an external log lies, `slab` names the memory backend, `protect` what lies in it:
    "mount" structures or "all" metadata that is kept ("none" is what slab="none" means, and
    the one brings the other; ValueError where they contradict each other).
    Raises NotXfs, Unsupported (a dirty log too), Truncated, Corrupt, NoBackend, MountError
    (no room to unpack) and `OSError` as the system does.
    """
    device = open_source(source, progress, probed=not sb)
    try:
        log_device = None if logdev is None else open_source(logdev, progress)
        try:
            slab, protect = memory_of("" if slab == "auto" else slab, protect)
            options = mount_options(norecovery=norecovery, sb_agno=sb, protect=protect)
            return Filesystem(mount(device, options, slab=slab, log_device=log_device))
        finally:
            if log_device is not None:
                log_device.close()
    except BaseException:
        device.close()
        raise


def open_source(source: Source, progress: Progress | None, *, probed: bool = False) -> Device:
    """Open a source that is no device yet.

    A compressed one that is `probed` is given up as soon as so much of it shows that it holds
    no XFS: it may be an archive of any length.
    """
    if isinstance(source, str | bytes | os.PathLike):
        probe = Probe(PROBE_BYTES, _refuse_other) if probed else None
        return open_device(source, progress=progress, probe=probe)
    if not hasattr(source, "pread"):
        raise TypeError(f"an image is a path or a Device, not {type(source).__name__}")
    return source


def _refuse_other(start: Device) -> None:
    """Raise NotXfs or Unsupported if the start of a source shows that opening it must fail."""
    try:
        read_super(start)
    except NotXfs:
        if not ag_bytes_of(start):  # else a copy of the superblock may lie further on
            raise
    except Unsupported:
        raise
    except ImageError:
        return
