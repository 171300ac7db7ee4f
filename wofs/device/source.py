"""Open an image wherever it is: in a file, on a block device, or compressed.

What is compressed is unpacked once, into a sparse file of the cache folder, and from then
on read like any other image. The magic bytes decide, not the name.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wofs.device.base import Device
from wofs.device.codec import Codec, codec_of, decode
from wofs.device.file import FileDevice
from wofs.device.unpacked import Folder, default_folder, key_of, write_sparse

log = logging.getLogger("wofs.image")

_HEAD_BYTES = 6

Progress = Callable[[int, int], None]
"""Told (compressed bytes read, compressed bytes in all) while an image is unpacked."""


def open_device(
    path: str | bytes | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Device:
    """Open the image at `path` for reading; gzip, xz and zstd are unpacked first.

    The unpacked image is kept in `cache_dir` (by default $XDG_CACHE_HOME/wofs or
    ~/.cache/wofs) until the source changes or newer ones need the room; where that folder
    cannot be written, in a temporary file that is gone when the device is closed.
    Raises `OSError` of the system, Truncated or Corrupt for a damaged stream, Unsupported
    if a package is missing, MountError if the disk fills up.
    """
    name = os.fsdecode(path)
    source = _open_file(name)
    if source is None:
        return FileDevice(path)
    with source:
        title, info = os.path.basename(name), os.fstat(source.fileno())
        codec = codec_of(os.pread(source.fileno(), _HEAD_BYTES, 0), title)
        if codec is None:
            return FileDevice(path)
        unpacking = _Unpacking(source, codec, title, info.st_size, progress)
        return _unpacked(unpacking, name, info, cache_dir)


def _open_file(path: str) -> BinaryIO | None:
    """Open `path` for reading; None if it is no regular file, which alone can be unpacked."""
    # Without O_NONBLOCK a pipe would wait for its other end.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    return None


class _Unpacking:
    """One compressed source, to be written to a file."""

    def __init__(
        self, source: BinaryIO, codec: Codec, name: str, total: int, progress: Progress | None
    ) -> None:
        self.name = name
        self._source = source
        self._codec = codec
        self._total = total
        self._progress = progress

    def write_to(self, fd: int) -> int:
        """Unpack into the empty file `fd`; return the size in bytes."""
        pieces = decode(self._source, self._codec, self.name, self._told)
        return write_sparse(fd, pieces, self.name)

    def _told(self, done: int) -> None:
        if self._progress:
            self._progress(done, self._total)


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
            return _device(found, unpacking.name)
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
    return _device(fd, unpacking.name)


def _temporary(unpacking: _Unpacking) -> Device:
    """Unpack to a file that has no name and ends with its device."""
    with tempfile.TemporaryFile(prefix="wofs-") as file:
        unpacking.write_to(file.fileno())
        return _device(os.dup(file.fileno()), unpacking.name)


def _device(fd: int, name: str) -> Device:
    """Return a device of an open file and close `fd`: no other process can take it away."""
    try:
        return FileDevice(f"/proc/self/fd/{fd}", name)
    finally:
        os.close(fd)
