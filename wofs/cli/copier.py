"""Copying a tree out of an image, one object after the other, whatever is damaged on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from wofs.cli.target import (
    Folder,
    Handle,
    Identity,
    Lost,
    naming,
    partial_name,
    write_at,
)
from wofs.errors import ImageError
from wofs.fs import Path, Stat
from wofs.fs.file import CHUNK_BYTES
from wofs.fs.stat import DIR, LNK, REG
from wofs.fs.walk import Tell, children

_OPEN_FOLDERS = 16
"""Folders of the destination held open at once; those further up are opened again by '..'."""


class Progress(Protocol):
    """Told how far a copy is."""

    def starts(self, path: Path, copy: bytes) -> None:
        """Hear that `path` is next, and the path of its copy."""
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
    keeps: bool
    rest: Iterator[tuple[Path, Stat | None]]


@dataclass(slots=True)
class _Made:
    """The first copy of an inode with several names, and how many names are still to come."""

    place: bytes
    identity: Identity
    left: int


class Copier:
    """Copies into one directory, the anchor; keeps hard links among all it copied."""

    def __init__(self, anchor: Folder, tell: Tell[Path], force: bool, progress: Progress) -> None:
        self.lost = Lost()
        self._anchor = anchor
        self._tell = tell
        self._force = force
        self._progress = progress
        self._made: dict[int, _Made] = {}
        self._partial = partial_name()

    def copy(self, path: Path, name: bytes) -> None:
        """Copy a file or a tree to `name` in the anchor; b"" fills the anchor itself.

        Raises the `ImageError` or `OSError` that makes it impossible to begin; what goes
        wrong later is told and the rest goes on.
        """
        stat = path.lstat()
        if stat.type != DIR:
            self._object(path, stat, self._anchor, name, name)
            return
        folder = self._anchor.folder(name) if name else self._anchor.again()
        stack = [self._frame(path, stat, folder, name)]
        stack[0].keeps &= bool(name)
        try:
            while stack:
                below = self._step(stack[-1])
                if below is None:
                    self._leave(stack)
                    continue
                stack.append(below)
                if len(stack) > _OPEN_FOLDERS:
                    stack[-1 - _OPEN_FOLDERS].folder.close()
        finally:
            for frame in stack:
                frame.folder.close()

    def _frame(self, path: Path, stat: Stat, folder: Folder, place: bytes) -> _Frame:
        self._progress.starts(path, folder.path)
        keeps = folder.created or self._force
        return _Frame(path, stat, folder, place, keeps, children(path, self._tell))

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

    def _leave(self, stack: list[_Frame]) -> None:
        """Complete the last directory, now that nothing in it changes any more; close it."""
        frame = stack.pop()
        try:
            if frame.keeps:
                xattrs = self._xattrs(frame.path)
                with naming(frame.folder.path):
                    Handle(frame.folder.fd).complete(frame.stat, xattrs, self.lost)
        except OSError as error:
            self._tell(frame.path, error)
        try:
            if stack and stack[-1].folder.fd < 0:
                stack[-1].folder.reopen_above(frame.folder)
        finally:
            frame.folder.close()

    def _xattrs(self, path: Path) -> dict[bytes, bytes]:
        """Return the attributes that are sound; damage to them is told."""
        out: dict[bytes, bytes] = {}
        try:
            out.update(path.xattrs(follow_symlinks=False).items())  # keeps what comes before damage
        except (ImageError, OSError) as error:
            self._tell(path, error)
        return out

    def _object(self, path: Path, stat: Stat, folder: Folder, name: bytes, place: bytes) -> None:
        """Copy anything but a directory; a failure is told and leaves nothing behind."""
        self._progress.starts(path, folder.path_of(name))
        try:
            if not self._force:
                folder.refuse_taken(name)
            if stat.st_nlink > 1 and self._linked(stat, folder, name):
                return
            self._make(path, stat, folder, name)
            with naming(folder.path_of(name)):
                folder.publish(self._partial, name, self._force)
                if stat.st_nlink > 1 and stat.st_ino not in self._made:
                    made = folder.identity_of(name)
                    self._made[stat.st_ino] = _Made(place, made, stat.st_nlink - 1)
        except (ImageError, OSError) as error:
            folder.discard(self._partial)
            self._tell(path, error)
        except BaseException:
            folder.discard(self._partial)
            raise

    def _linked(self, stat: Stat, folder: Folder, name: bytes) -> bool:
        """Link to the copy made before of the same inode; False where there is none."""
        first = self._made.get(stat.st_ino)
        if first is None:
            return False
        linked = self._partial if self._force else name
        try:
            folder.link(self._anchor, first.place, first.identity, linked)
        except FileExistsError:
            raise
        except OSError as error:  # too many links, or a filesystem without: copied once more
            self.lost.add("hard link", (error.strerror or str(error)).lower())
            return False
        if self._force:
            with naming(folder.path_of(name)):
                folder.publish(self._partial, name, force=True)
                folder.discard(self._partial)  # left by rename(2) of a name to itself
        first.left -= 1
        if not first.left:
            del self._made[stat.st_ino]
        return True

    def _make(self, path: Path, stat: Stat, folder: Folder, name: bytes) -> None:
        """Make the whole copy under the marked name; `name` is for messages."""
        xattrs = self._xattrs(path)
        copy = folder.path_of(name)
        if stat.type == REG:
            with naming(copy):
                fd = folder.file(self._partial)
            try:
                self._data(path, stat, fd, copy)
                with naming(copy):
                    Handle(fd).complete(stat, xattrs, self.lost)
            finally:
                os.close(fd)
            return
        target = path.readlink_bytes() if stat.type == LNK else b""
        with naming(copy):
            if stat.type == LNK:
                os.symlink(target, self._partial, dir_fd=folder.fd)
            else:
                mode = stat.st_mode & ~0o7777 | 0o600
                os.mknod(self._partial, mode, stat.st_rdev, dir_fd=folder.fd)
            Handle(folder.fd, folder, self._partial).complete(stat, xattrs, self.lost)

    def _data(self, path: Path, stat: Stat, fd: int, copy: bytes) -> None:
        """Write the data, and nothing where there is a hole."""
        with naming(copy):
            os.ftruncate(fd, stat.st_size)
        inode, read = path.inode(follow_symlinks=False), path.image.mount.data.read
        for start, end in path.segments():
            for offset in range(start, end, CHUNK_BYTES):
                data = read(inode, offset, min(CHUNK_BYTES, end - offset))
                with naming(copy):
                    write_at(fd, data, offset)
                self._progress.copied(len(data))
