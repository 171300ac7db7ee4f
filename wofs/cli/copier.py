"""Copying a tree out of an image, one object after the other, whatever is damaged on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from wofs.cli.target import PARTIAL_PREFIX, Folder, Lost, set_named, set_open, write_at
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.file import CHUNK_BYTES
from wofs.fs.stat import DIR, LNK, REG
from wofs.fs.walk import Tell, children


class Progress(Protocol):
    """Told how far a copy is."""

    def starts(self, path: Path) -> None:
        """Hear that `path` is next."""
        ...

    def copied(self, size: int) -> None:
        """Hear that `size` bytes more are written."""
        ...


@dataclass(slots=True)
class _Frame:
    """A directory whose content is being copied; `place` is its path from the anchor."""

    path: Path
    stat: Stat
    folder: Folder
    place: bytes
    rest: Iterator[tuple[Path, Stat | None]]


class Copier:
    """Copies into one directory, the anchor; keeps hard links among all it copied."""

    def __init__(self, anchor: Folder, tell: Tell[Path], force: bool, progress: Progress) -> None:
        self.lost = Lost()
        self._anchor = anchor
        self._tell = tell
        self._force = force
        self._progress = progress
        self._made: dict[int, bytes] = {}
        self._partial = PARTIAL_PREFIX + b"%d" % os.getpid()

    def copy(self, path: Path, name: bytes) -> None:
        """Copy a file or a tree to `name` in the anchor; b"" fills the anchor itself."""
        stat = path.lstat()
        if stat.type != DIR:
            self._object(path, stat, self._anchor, name, name)
            return
        folder = self._anchor.folder(name) if name else Folder(os.dup(self._anchor.fd), False)
        stack = [self._frame(path, stat, folder, name)]
        try:
            while stack:
                below = self._step(stack[-1])
                if below is not None:
                    stack.append(below)
                else:
                    self._leave(stack.pop())
        finally:
            for frame in stack:
                frame.folder.close()

    def _frame(self, path: Path, stat: Stat, folder: Folder, place: bytes) -> _Frame:
        return _Frame(path, stat, folder, place, children(path, self._tell))

    def _step(self, frame: _Frame) -> _Frame | None:
        """Copy what a directory holds up to its next subdirectory; None at the end."""
        for path, stat in frame.rest:
            if stat is None:
                continue
            name = path.name_bytes
            place = frame.place + b"/" + name if frame.place else name
            if stat.type != DIR:
                self._object(path, stat, frame.folder, name, place)
                continue
            try:
                return self._frame(path, stat, frame.folder.folder(name), place)
            except OSError as error:
                self._tell(path, error)
        return None

    def _leave(self, frame: _Frame) -> None:
        """Complete a directory that this copy made, now that nothing in it changes any more."""
        try:
            if frame.folder.created or self._force:
                set_open(frame.folder.fd, frame.stat, self._xattrs(frame.path), self.lost)
        except OSError as error:
            self._tell(frame.path, error)
        finally:
            frame.folder.close()

    def _xattrs(self, path: Path) -> dict[bytes, bytes]:
        """Return the attributes that are sound; damage to them is told."""
        try:
            return dict(path.xattrs(follow_symlinks=False))
        except ImageError as error:
            self._tell(path, error)
            return {}

    def _object(self, path: Path, stat: Stat, folder: Folder, name: bytes, place: bytes) -> None:
        """Copy anything but a directory; a failure is told and leaves nothing behind."""
        self._progress.starts(path)
        try:
            if not self._force and folder.holds(name):
                raise FileExistsError(f"{path}: is there already (--force replaces it)")
            if stat.st_nlink > 1 and self._linked(stat, folder, name):
                return
            self._make(path, stat, folder)
            folder.publish(self._partial, name, self._force)
        except (ImageError, OSError) as error:
            folder.discard(self._partial)
            self._tell(path, error)
        except BaseException:
            folder.discard(self._partial)
            raise
        else:
            if stat.st_nlink > 1:
                self._made[stat.st_ino] = place

    def _linked(self, stat: Stat, folder: Folder, name: bytes) -> bool:
        """Link to the copy made before of the same inode; False where there is none."""
        first = self._made.get(stat.st_ino)
        if first is None:
            return False
        if self._force:
            folder.discard(name)
        try:
            os.link(
                first,
                name,
                src_dir_fd=self._anchor.fd,
                dst_dir_fd=folder.fd,
                follow_symlinks=False,
            )
        except FileExistsError:
            raise
        except OSError:  # too many links, or a filesystem without: it is copied once more
            return False
        return True

    def _make(self, path: Path, stat: Stat, folder: Folder) -> None:
        """Make the whole copy under the marked name."""
        folder.discard(self._partial)
        if stat.type == REG:
            fd = folder.file(self._partial)
            try:
                self._data(path, stat, fd)
                set_open(fd, stat, self._xattrs(path), self.lost)
            finally:
                os.close(fd)
            return
        if stat.type == LNK:
            os.symlink(path.readlink_bytes(), self._partial, dir_fd=folder.fd)
        else:
            mode = stat.st_mode & ~0o7777 | 0o600
            os.mknod(self._partial, mode, stat.st_rdev, dir_fd=folder.fd)
        set_named(folder, self._partial, stat, self._xattrs(path), self.lost)

    def _data(self, path: Path, stat: Stat, fd: int) -> None:
        """Write the data, and nothing where there is a hole."""
        os.ftruncate(fd, stat.st_size)
        inode, read = path.inode(), path.image.mount.data.read
        for start, end in path.segments():
            for offset in range(start, end, CHUNK_BYTES):
                data = read(inode, offset, min(CHUNK_BYTES, end - offset))
                write_at(fd, data, offset)
                self._progress.copied(len(data))
