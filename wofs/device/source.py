"""Open an image wherever it is: in a file, on a block device, or compressed.

What is compressed is unpacked once, into a sparse file of the cache folder, and from then
on read like any other image. The magic bytes decide, not the name.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wofs.device.base import Device
from wofs.device.codec import Codec, codec_of, decode
from wofs.device.file import FileDevice, base_name, open_image
from wofs.device.unpacked import Folder, default_folder, key_of, write_sparse

log = logging.getLogger("wofs.image")

_HEAD_BYTES = 6

Progress = Callable[[int, int], None]
"""Told (compressed bytes read, compressed bytes in all) while an image is unpacked."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A look at the first `size` bytes of what is being unpacked.

    `look` gets them as a device and ends the unpacking by raising. It is not asked about
    sources that are shorter.
    """

    size: int
    look: Callable[[Device], object]


def open_device(
    path: str | bytes | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    probe: Probe | None = None,
) -> Device:
    """Open the image at `path` for reading; gzip, xz and zstd are unpacked first.

    The unpacked image is kept in `cache_dir` (by default $XDG_CACHE_HOME/wofs or
    ~/.cache/wofs) until the source changes or newer ones need the room; where that folder
    cannot be written, in a temporary file that is gone when the device is closed.
    Raises `OSError` of the system, Truncated or Corrupt for a damaged stream, Unsupported
    if a package is missing, MountError if the disk fills up, and what `probe` raises.
    """
    title, fd = base_name(path), open_image(path)
    with os.fdopen(fd, "rb") as source:
        info, codec = os.fstat(fd), None
        if stat.S_ISREG(info.st_mode):
            codec = codec_of(os.pread(fd, _HEAD_BYTES, 0), title)
        if codec is None:
            return FileDevice.of(os.dup(fd), title)
        unpacking = _Unpacking(source, codec, title, info.st_size, progress, probe)
        return _unpacked(unpacking, os.fsdecode(path), info, cache_dir)


class _Unpacking:
    """One compressed source, to be written to a file."""

    def __init__(
        self,
        source: BinaryIO,
        codec: Codec,
        name: str,
        total: int,
        progress: Progress | None,
        probe: Probe | None,
    ) -> None:
        self.name = name
        self._source = source
        self._codec = codec
        self._total = total
        self._progress = progress
        self._probe = probe

    def write_to(self, fd: int) -> int:
        """Unpack into the empty file `fd`; return the size in bytes."""
        pieces = decode(self._source, self._codec, self.name, self._told)
        return write_sparse(fd, self._probed(fd, pieces), self.name)

    def _told(self, done: int) -> None:
        if self._progress:
            self._progress(done, self._total)

    def _probed(self, fd: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield `pieces`; look at the file once the pieces written are as many as wanted."""
        probe, size = self._probe, 0
        for piece in pieces:
            if probe is not None and size >= probe.size:
                os.ftruncate(fd, size)
                device = FileDevice.of(os.dup(fd), self.name)
                try:
                    probe.look(device)
                finally:
                    device.close()
                probe = None
            yield piece
            size += len(piece)


def _unpacked(
    unpacking: _Unpacking,
    path: str,
    info: os.stat_result,
    cache_dir: str | os.PathLike[str] | None,
) -> Device:
    """Return the device of the cached image, unpacking it where it is not there yet."""
    key = key_of(path, info)
    try:
        folder = Folder(default_folder() if cache_dir is None else Path(cache_dir))
        found = folder.find(key)
        if found is not None:
            return FileDevice.of(found, unpacking.name)
        fd, part = folder.begin()
    except OSError as error:
        log.info("%s: unpacked to a temporary file: %s", unpacking.name, error)
        return _temporary(unpacking)
    try:
        folder.publish(part, key, unpacking.write_to(fd))
    except BaseException:
        os.close(fd)
        part.unlink(missing_ok=True)
        raise
    return _read_only(fd, unpacking.name)


def _temporary(unpacking: _Unpacking) -> Device:
    """Unpack to a file that has no name and ends with its device."""
    with tempfile.TemporaryFile(prefix="wofs-") as file:
        unpacking.write_to(file.fileno())
        return _read_only(os.dup(file.fileno()), unpacking.name)


def _read_only(fd: int, name: str) -> Device:
    """Return a device of a file open for writing, which nobody can write through; close `fd`."""
    try:
        return FileDevice(f"/proc/self/fd/{fd}", name)
    finally:
        os.close(fd)
