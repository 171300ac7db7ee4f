"""The extended attributes of one inode, in the manner of a mapping."""

from __future__ import annotations

import os
from collections.abc import ItemsView, Iterator, Mapping
from typing import TypeVar, overload

from wofs.errors import NoXattr
from wofs.fs.image import Image
from wofs.fs.names import Names
from wofs.xfs.inode import Inode

D = TypeVar("D")


class Xattrs(Mapping[bytes, bytes]):
    """Full names (`b"user.note"`) and values, both bytes, in the kernel's order.

    A name may also be given as str. Every look reads the image; a damaged attribute fork
    raises its `ImageError`, a missing name NoXattr.
    """

    def __init__(self, image: Image, inode: Inode, path: Names) -> None:
        self._image = image
        self._inode = inode
        self._path = path

    def __getitem__(self, name: bytes | str) -> bytes:
        raw = os.fsencode(name)
        try:
            return self._image.mount.attrs.get(self._inode, raw)
        except NoXattr as error:
            line = f"{self._path}: no extended attribute {os.fsdecode(raw)!r}"
            raise NoXattr(line, raw) from error

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._image.mount.attrs.names(self._inode))

    def __len__(self) -> int:
        return len(self._image.mount.attrs.names(self._inode))

    def items(self) -> ItemsView[bytes, bytes]:
        """Return all names with their values, read in one go: best where all are wanted."""
        return _Items(self)

    def read(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what `items` shows."""
        return self._image.mount.attrs.items(self._inode)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, bytes | str):
            return False
        if not self._image.mount.attrs.has_any(self._inode):
            return False
        try:
            self[name]
        except NoXattr:
            return False
        return True

    @overload
    def get(self, name: bytes | str, /) -> bytes | None: ...
    @overload
    def get(self, name: bytes | str, default: bytes | D, /) -> bytes | D: ...
    def get(self, name: bytes | str, default: bytes | D | None = None, /) -> bytes | D | None:
        """Return the value of `name`, or `default`."""
        try:
            return self[name]
        except NoXattr:
            return default

    def __repr__(self) -> str:
        return f"Xattrs({str(self._path)!r})"


class _Items(ItemsView[bytes, bytes]):
    """The names and values of one inode; going through them searches for no name."""

    _mapping: Xattrs

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._mapping.read()
