"""The folder of unpacked images, and writing one with holes where it is zero.

An entry is called after its source: a digest of the source's path, one of the source's
state, and the unpacked size. It is whole from the moment it has that name. Entries are
pruned from the least recently opened one on when all together exceed the limit.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wofs.errors import MountError

CACHE_LIMIT_BYTES = 8 << 30
"""Disk space that the entries may take together; the newest is kept in any case."""

KEPT_FREE_BYTES = 64 << 20
"""Space left free on the disk that an image is unpacked to."""

_STEP_BYTES = 1 << 20
_PIECE_BYTES = 16 << 10
_STEP_OF_ZEROS = bytes(_STEP_BYTES)
_PIECE_OF_ZEROS = bytes(_PIECE_BYTES)
_SPACE_CHECK_BYTES = 64 << 20
_STALE_SECONDS = 24 * 3600
_PART = "part-"
_SUFFIX = ".img"


def default_folder() -> Path:
    """Return $XDG_CACHE_HOME/wofs, or ~/.cache/wofs; FileNotFoundError without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("there is no home directory")
    return Path(base, "wofs")


@dataclass(frozen=True, slots=True)
class Key:
    """What an entry is called after: `source` the path's digest, `state` the file's."""

    source: str
    state: str


def key_of(path: str, info: os.stat_result) -> Key:
    """Return the key of the file at `path`: another path, size, time or inode is another."""
    real = os.fsencode(os.path.realpath(path))
    state = f"{info.st_size} {info.st_mtime_ns} {info.st_ino} {info.st_dev}".encode()
    return Key(_digest(real), _digest(real + b"\0" + state))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


class Folder:
    """The entries in one folder, only the user's own."""

    def __init__(self, path: Path, limit: int = CACHE_LIMIT_BYTES) -> None:
        """Make the folder where it is missing; OSError where that is impossible."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.limit = limit

    def find(self, key: Key) -> int | None:
        """Return a descriptor of the entry of `key`, marked as just used, or None."""
        for path in self.path.glob(f"{key.source}-{key.state}-*{_SUFFIX}"):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue  # pruned by another process, or not ours to read
            if _is_sound(fd, path):
                os.utime(fd)
                return fd
            os.close(fd)
        return None

    def begin(self) -> tuple[int, Path]:
        """Return a new file to unpack to, under a name that is no entry's; OSError if none."""
        fd, name = tempfile.mkstemp(prefix=_PART, dir=self.path)
        return fd, Path(name)

    def publish(self, part: Path, key: Key, size: int) -> None:
        """Make the whole file `part` the entry of `key`, instead of older ones of its source."""
        entry = self.path / f"{key.source}-{key.state}-{size:x}{_SUFFIX}"
        part.rename(entry)
        for old in self.path.glob(f"{key.source}-*{_SUFFIX}"):
            if old != entry:
                old.unlink(missing_ok=True)
        self._prune(entry)

    def _prune(self, kept: Path) -> None:
        """Remove entries, least recently used first, and remains of killed processes."""
        entries = []
        for path in self.path.iterdir():
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            if path.name.startswith(_PART) and info.st_mtime < time.time() - _STALE_SECONDS:
                path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                entries.append((path == kept, info.st_mtime_ns, info.st_blocks * 512, path))
        total = sum(size for _, _, size, _ in entries)
        for is_kept, _, size, path in sorted(entries):
            if total <= self.limit or is_kept:
                return
            path.unlink(missing_ok=True)
            total -= size


def _is_sound(fd: int, path: Path) -> bool:
    """Whether an entry is the user's own and as long as it was when unpacked.

    It is not synced when made: a power cut can leave it short.
    """
    info = os.fstat(fd)
    size = path.stem.rpartition("-")[2]
    return (
        stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and f"{info.st_size:x}" == size
    )


def write_sparse(fd: int, pieces: Iterable[bytes], name: str) -> int:
    """Write `pieces` to the empty file `fd`, runs of zeros as holes; return the size in bytes.

    Raises MountError, naming the source `name`, when the disk fills up or refuses.
    """
    size = written = 0
    checked = -_SPACE_CHECK_BYTES
    for piece in pieces:
        for start, end in _runs(piece):
            if written - checked >= _SPACE_CHECK_BYTES:
                _check_space(fd, name, size)
                checked = written
            _write(fd, memoryview(piece)[start:end], size + start, name)
            written += end - start
        size += len(piece)
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        raise _refused(name, error) from error
    return size


def _runs(data: bytes) -> list[tuple[int, int]]:
    """Return the (start, end) of what is not zero, in steps of 16 KiB."""
    runs: list[tuple[int, int]] = []
    at, length = 0, len(data)
    while at < length:
        # startswith compares in place: no copy, and as fast as memory
        if data.startswith(_STEP_OF_ZEROS, at):
            at += _STEP_BYTES
            continue
        end = min(at + _PIECE_BYTES, length)
        if not data.startswith(_PIECE_OF_ZEROS[: end - at], at):
            if runs and runs[-1][1] == at:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((at, end))
        at = end
    return runs


def _write(fd: int, data: memoryview, offset: int, name: str) -> None:
    try:
        while data:
            done = os.pwrite(fd, data, offset)
            data, offset = data[done:], offset + done
    except OSError as error:
        raise _refused(name, error) from error


def _refused(name: str, error: OSError) -> MountError:
    return MountError(f"{name}: cannot be unpacked: {error.strerror}")


def _check_space(fd: int, name: str, unpacked: int) -> None:
    """Raise MountError when the next step would fill the disk."""
    info = os.fstatvfs(fd)
    free = info.f_bavail * info.f_frsize
    # No blocks at all means a filesystem without a limit.
    if info.f_blocks and free < KEPT_FREE_BYTES + _SPACE_CHECK_BYTES:
        raise MountError(
            f"{name}: cannot be unpacked: the cache's disk is full after {unpacked >> 20} MiB "
            "of it; unpack it by hand or let XDG_CACHE_HOME name a folder on a larger disk"
        )
