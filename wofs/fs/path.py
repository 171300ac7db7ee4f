"""Paths within an image, in the manner of `pathlib.Path`; everything only reads.

A path that came from a listing remembers its entry, so that `stat` after `iterdir` costs no
lookup, and the inodes of one directory block are read together.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Literal, overload

from wofs.errors import ImageError, IsDir, Loop, NotDir, NotFound, NotLink, PathError
from wofs.fs import walk as walking
from wofs.fs.file import BUFFER_BYTES, File, RawFile, add_path
from wofs.fs.image import Image
from wofs.fs.names import Names, Segment, as_bytes, components
from wofs.fs.stat import BLK, CHR, DIR, FIFO, LNK, REG, SOCK, Stat, stat_of
from wofs.fs.tree import Batch, OnError
from wofs.fs.xattrs import Xattrs
from wofs.xfs.inode import Inode

WalkError = Callable[[ImageError | OSError], object]


class Path(Names):
    """A path within an image; made by `Filesystem.path`.

    Symbolic links are followed inside the image, absolute targets from its root. What cannot
    be done raises a `PathError` (NotFound, NotDir, IsDir, NotLink, Loop: all are `OSError`s
    too); what is damaged raises an `ImageError` with a note of the path.
    """

    __slots__ = ("_batch", "_index", "image")
    image: Image

    def __init__(
        self,
        image: Image,
        parent: Path | None,
        name: bytes,
        batch: Batch | None = None,
        index: int = 0,
    ) -> None:
        self.image = image
        self._parent = parent
        self._name = name
        self._batch = batch
        self._index = index

    def _below(self, name: bytes) -> Path:
        return Path(self.image, self, name)

    def _same_tree(self, other: Names) -> bool:
        return isinstance(other, Path) and other.image is self.image

    def _root(self) -> Path:
        return Path(self.image, None, b"")

    # ---- finding
    def _noted(self, error: ImageError) -> ImageError:
        """Add to a damage which path led to it."""
        add_path(error, str(self))
        return error

    def inode(self, *, follow_symlinks: bool = True) -> Inode:
        """Return the inode this path leads to, as the layer below has it."""
        try:
            if self._batch is not None:
                inode = self._batch.inode(self._index)
                if inode.type != LNK or not follow_symlinks:
                    return inode
            return self.image.resolver.walk(self._names(), follow_symlinks, bytes(self))[-1][1]
        except ImageError as error:
            raise self._noted(error) from error.__cause__

    def _directory(self) -> Inode:
        """Return the directory this path leads to, verified to have its place here."""
        inode = self.inode()
        if inode.type != DIR:
            raise NotDir(f"{self}: not a directory", bytes(self))
        batch = self._batch
        if batch is not None and inode.ino == batch.entries[self._index][1]:
            self.image.tree.enter(batch.directory.ino, inode)
        return inode

    def _file(self) -> Inode:
        inode = self.inode()
        if inode.type == DIR:
            raise IsDir(f"{self}: is a directory", bytes(self))
        if inode.type != REG:
            raise PathError(f"{self}: not a regular file", bytes(self))
        return inode

    # ---- attributes
    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Return the attributes of what this path leads to."""
        return stat_of(self.image.mount.geo, self.inode(follow_symlinks=follow_symlinks))

    def lstat(self) -> Stat:
        """Return the attributes of the path itself, even if it is a symbolic link."""
        return self.stat(follow_symlinks=False)

    @property
    def ino(self) -> int:
        """The inode number of the path itself."""
        return self.inode(follow_symlinks=False).ino

    def samefile(self, other: Path | Segment) -> bool:
        """Whether both paths lead to the same inode."""
        there = other if isinstance(other, Path) else self._root().joinpath(other)
        return there.image is self.image and there.inode().ino == self.inode().ino

    def xattrs(self, *, follow_symlinks: bool = True) -> Xattrs:
        """Return the extended attributes as a mapping of full names to values, all bytes."""
        inode = self.inode(follow_symlinks=follow_symlinks)
        return Xattrs(self.image, inode, self)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether the path leads to anything; a damaged inode raises."""
        return self._type(follow_symlinks) != 0

    def _type(self, follow_symlinks: bool = True) -> int:
        """Return the file type, 0 if there is nothing."""
        try:
            return self.inode(follow_symlinks=follow_symlinks).type
        except (NotFound, NotDir, Loop):
            return 0

    def is_dir(self) -> bool:
        """Whether the path leads to a directory."""
        return self._type() == DIR

    def is_file(self) -> bool:
        """Whether the path leads to a regular file."""
        return self._type() == REG

    def is_symlink(self) -> bool:
        """Whether the path itself is a symbolic link."""
        return self._type(False) == LNK

    def is_fifo(self) -> bool:
        """Whether the path leads to a fifo."""
        return self._type() == FIFO

    def is_socket(self) -> bool:
        """Whether the path leads to a socket."""
        return self._type() == SOCK

    def is_char_device(self) -> bool:
        """Whether the path leads to a character device."""
        return self._type() == CHR

    def is_block_device(self) -> bool:
        """Whether the path leads to a block device."""
        return self._type() == BLK

    # ---- links
    def readlink(self) -> str:
        """Return the target of a symbolic link; NotLink for anything else."""
        return os.fsdecode(self.readlink_bytes())

    def readlink_bytes(self) -> bytes:
        """Return the target of a symbolic link as it is stored."""
        inode = self.inode(follow_symlinks=False)
        if inode.type != LNK:
            raise NotLink(f"{self}: not a symbolic link", bytes(self))
        try:
            return self.image.mount.links.target(inode)
        except ImageError as error:
            raise self._noted(error) from error.__cause__

    def resolve(self, strict: bool = False) -> Path:
        """Return the same place with no link and no '..' on the way.

        Names that do not exist stay as they are, unless `strict`: then NotFound.
        """
        names = self._names()
        rest: list[bytes] = []
        while True:
            try:
                trail = self.image.resolver.walk(names, True, bytes(self))
            except (NotFound, NotDir):
                if strict or not names:
                    raise
                rest.append(names.pop())
                continue
            out = self._root()
            for name in [name for name, _ in trail[1:]] + rest[::-1]:
                out = out.parent if name == b".." else out._below(name)
            return out

    # ---- data
    def read_bytes(self) -> bytes:
        """Return the data of a regular file, holes as zeros."""
        inode = self._file()
        try:
            return self.image.mount.data.read(inode, 0, inode.size)
        except ImageError as error:
            raise self._noted(error) from error.__cause__

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the data as text, line ends as `open` translates them."""
        with self.open("r", encoding=encoding, errors=errors) as f:
            return f.read()

    def segments(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) in bytes of each run of data of a file; all else are holes."""
        return self.image.mount.data.segments(self._file())

    @overload
    def open(self, mode: Literal["rb"] = ..., buffering: int = ...) -> File: ...
    @overload
    def open(
        self,
        mode: Literal["r", "rt"],
        buffering: int = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        newline: str | None = ...,
    ) -> io.TextIOWrapper: ...
    def open(
        self,
        mode: str = "rb",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> File | io.TextIOWrapper:
        """Open a regular file: "rb" gives a seekable binary file, "r" text (UTF-8 by default).

        Unlike `pathlib`'s, the default is binary. It seeks with SEEK_DATA and SEEK_HOLE too.
        """
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"mode {mode!r}: images are only read (r, rt, rb)")
        raw = RawFile(self.image, self._file(), str(self))
        file = File(raw, buffering if buffering > 1 else BUFFER_BYTES)
        if mode == "rb":
            return file
        return io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

    # ---- directories
    def batches(self, on_error: OnError | None = None) -> Iterator[Batch]:
        """Yield the entries of a directory block by block (see `Tree.listing`)."""
        try:
            yield from self.image.tree.listing(self._directory(), on_error)
        except ImageError as error:
            raise self._noted(error) from error.__cause__

    def at(self, batch: Batch, index: int) -> Path:
        """Return the path of one entry of a batch of this directory."""
        return Path(self.image, self, batch.entries[index][3], batch, index)

    def iterdir(self) -> Iterator[Path]:
        """Yield the paths in a directory, in its order.

        A damaged block raises its error after all that is sound was delivered; an entry
        whose inode is damaged is delivered, and raises when it is looked at.
        """
        for batch in self.batches():
            for index in range(len(batch.entries)):
                yield self.at(batch, index)

    def walk(
        self, top_down: bool = True, on_error: WalkError | None = None
    ) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Yield (directory, names of subdirectories, other names), or with `top_down` false
        a directory behind all below it.

        Editing the list of subdirectories prunes a walk top down. Links are not followed. Damage is
        told to `on_error` (without it: logged), and the walk goes on; a name whose inode is
        damaged counts among the others. No loop can be entered (`Tree.enter`).
        """

        def tell(_: Path, error: ImageError | OSError) -> None:
            if on_error is not None:
                on_error(error)
            elif isinstance(error, ImageError):
                self.image.mount.report(error)
            else:
                raise error

        return walking.walk(self, tell, top_down)

    def glob(self, pattern: str | bytes) -> Iterator[Path]:
        """Yield the paths below that match `pattern` (`*`, `?`, `[…]`, `**` for any depth)."""
        parts = components(as_bytes(pattern))
        if not parts:
            raise ValueError("an empty pattern")
        return walking.glob(self, parts)

    def rglob(self, pattern: str | bytes) -> Iterator[Path]:
        """Yield the paths at any depth below that match `pattern`."""
        return walking.glob(self, [b"**", *components(as_bytes(pattern))])
