"""An opened image: where paths start, and what the whole of it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType

from wofs.device import Device, open_device
from wofs.fs import info as about
from wofs.fs.image import Image
from wofs.fs.info import AgInfo, Info, StatFs
from wofs.fs.names import Segment
from wofs.fs.path import Path
from wofs.xfs.mount import Mount, mount
from wofs.xfs.options import mount_options

Source = str | bytes | os.PathLike[str] | Device
Progress = Callable[[int, int], None]
"""Told (compressed bytes read, compressed bytes in all) while an image is unpacked."""


class Filesystem:
    """An image open for reading, a context manager; made by `wofs.open`.

    Safe for several threads at once. After `close` every handle of it is stale.
    """

    def __init__(self, mounted: Mount) -> None:
        self.mount = mounted
        self.root = Path(Image(mounted), None, b"")

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self.mount.device.name

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
        """Give back the memory and the image; a second call does nothing harmful."""
        self.mount.close()

    def __enter__(self) -> Filesystem:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Filesystem({self.name!r})"


def open(
    source: Source,
    *,
    norecovery: bool = False,
    sb: int = 0,
    slab: str = "auto",
    progress: Progress | None = None,
) -> Filesystem:
    """Open an image and mount it in this process; nothing is ever written to it.

    `source` is a file (gzip, xz and zstd are unpacked first), a block device, or any `Device`;
    `progress` is told how far unpacking is. `norecovery` accepts a log that was
    not replayed, `sb` names the AG whose superblock is read, `slab` the memory backend.
    Raises NotXfs, Unsupported (a dirty log too), Truncated, Corrupt, NoBackend, and `OSError`
    as the system does.
    """
    if isinstance(source, str | bytes | os.PathLike):
        device: Device = open_device(source, progress=progress)
    else:
        device = source
    try:
        options = mount_options(norecovery=norecovery, sb_agno=sb)
        return Filesystem(mount(device, options, slab=slab))
    except BaseException:
        device.close()
        raise
