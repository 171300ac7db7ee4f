"""Entries of a directory's block, and its index, written down so that one is read by itself.

For what is kept in write-once memory: a lookup reads a few bytes where they lie, instead of
parsing the block again. Written only from what `parse` and `index` have verified.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from wofs.errors import Where
from wofs.xfs.dir.index import IndexBlock
from wofs.xfs.dir.parse import Entry
from wofs.xfs.kept import KIND_OF, Form

Key = tuple[int, int]
"""(inode number of the directory, place in it)."""

_COUNT = struct.Struct("=Q")
_SEPARATOR = b"/"
"""Stands before and after each name; no name has it in it."""


class Entries(Sequence[Entry]):
    """The entries of one block: a sequence that reads each when it is asked for."""

    __slots__ = ("_cookies", "_ends", "_ftypes", "_inos", "_names")

    def __init__(self, written: memoryview) -> None:
        (count,) = _COUNT.unpack_from(written)
        at = _COUNT.size
        self._cookies = written[at : at + 8 * count].cast("Q")
        self._inos = written[at + 8 * count : at + 16 * count].cast("Q")
        self._ends = written[at + 16 * count : at + 20 * count].cast("I")
        self._ftypes = written[at + 20 * count : at + 21 * count]
        self._names = written[at + 21 * count :]

    def __len__(self) -> int:
        return len(self._ftypes)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return self._part(*index.indices(len(self))[:2])
        if index >= len(self._ftypes):
            raise IndexError(index)
        start = self._ends[index - 1] + 1 if index else 1
        name = bytes(self._names[start : self._ends[index]])
        return self._cookies[index], self._inos[index], self._ftypes[index], name

    def _part(self, first: int, end: int) -> list[Entry]:
        """Return the entries from index `first` up to `end`."""
        if first >= end:
            return []
        start = self._ends[first - 1] + 1 if first else 1
        names = bytes(self._names[start : self._ends[end - 1]]).split(_SEPARATOR)
        part = slice(first, end)
        return list(
            zip(
                self._cookies[part].tolist(),
                self._inos[part].tolist(),
                self._ftypes[part].tolist(),
                names,
                strict=True,
            )
        )

    def at(self, cookie: int) -> Entry | None:
        """Return the entry with a cookie, None if there is none."""
        index = bisect_left(self._cookies, cookie)
        if index == len(self._ftypes) or self._cookies[index] != cookie:
            return None
        return self[index]

    def behind(self, after: int) -> int:
        """Return the index of the first entry behind a cookie."""
        return bisect_right(self._cookies, after)

    def named(self, name: bytes) -> Iterator[Entry]:
        """Yield the entry called `name`, if there is one."""
        at = bytes(self._names).find(_SEPARATOR + name + _SEPARATOR)
        if at >= 0 and name and _SEPARATOR not in name:
            yield self[bisect_right(self._ends, at)]


def _write_entries(entries: Sequence[Entry]) -> bytes:
    cookies, inos, ftypes, names = zip(*entries, strict=True) if entries else ((), (), (), ())
    ends, at = array("I"), 0
    for name in names:
        at += 1 + len(name)
        ends.append(at)
    text = _SEPARATOR + _SEPARATOR.join(names) + _SEPARATOR
    columns = (array("Q", cookies).tobytes(), array("Q", inos).tobytes(), ends.tobytes())
    return b"".join((_COUNT.pack(len(names)), *columns, bytes(ftypes), text))


def _read_entries(_key: Key, written: memoryview) -> Sequence[Entry]:
    return Entries(written)


ENTRIES: Form[Key, Sequence[Entry]] = Form(
    "directory entries",
    lambda key: (KIND_OF["directory entries"], key[0], key[1]),
    _write_entries,
    _read_entries,
)

_HEAD = struct.Struct("=6Q")


class WrittenIndex(IndexBlock):
    """A block of the index where it lies; its place is read when an error is to tell it."""

    __slots__ = ("_written",)

    _written: memoryview

    def __init__(self, written: memoryview) -> None:
        level, forw, back, _, _, count = _HEAD.unpack_from(written)
        at, end = _HEAD.size, _HEAD.size + 4 * count
        put = object.__setattr__
        put(self, "_written", written)
        put(self, "data", b"")
        put(self, "level", level)
        put(self, "forw", forw)
        put(self, "back", back)
        put(self, "hashes", written[at:end].cast("I"))
        put(self, "words", written[end : end + 4 * count].cast("I"))

    @property
    def where(self) -> Where:
        """The place an error speaks of."""
        written = self._written
        _, _, _, daddr, length, count = _HEAD.unpack_from(written)
        texts = bytes(written[_HEAD.size + 8 * count :]).decode(errors="surrogateescape")
        image, obj = texts.split("\0")
        return Where(image, obj, daddr, length)


def _write_index(found: IndexBlock) -> bytes:
    """Write an index block down without its bytes, which only an attribute's are needed of."""
    where = found.where
    numbers = (found.level, found.forw, found.back, where.daddr, where.length)
    head = _HEAD.pack(*numbers, len(found.hashes))
    texts = f"{where.image}\0{where.object}".encode(errors="surrogateescape")
    hashes, words = array("I", found.hashes), array("I", found.words)
    return b"".join((head, hashes.tobytes(), words.tobytes(), texts))


def _read_index(_key: Key, written: memoryview) -> IndexBlock:
    return WrittenIndex(written)


INDEX: Form[Key, IndexBlock] = Form(
    "directory index",
    lambda key: (KIND_OF["directory index"], key[0], key[1]),
    _write_index,
    _read_index,
)
